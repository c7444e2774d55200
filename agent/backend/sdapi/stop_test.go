package sdapi

import (
	"context"
	"errors"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/job"
)

// stopping is a generator whose Run the test ends.
type stopping struct {
	*bench
	stop context.CancelFunc
	ran  chan error
}

func newStopping(t *testing.T, cfg fakesdapi.Config) stopping {
	t.Helper()
	s := stopping{bench: &bench{fake: fakesdapi.Start(t, cfg)}, ran: make(chan error, 1)}
	s.Generator = newGenerator(attach.Config{Kind: "sdapi", Base: s.fake.URL, Device: "cpu"}, cpuOnly(), nil, quick())
	life, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	s.stop = stop
	go func() { s.ran <- s.Run(life) }()
	eventually(t, "the server is usable", func() bool { return s.Server.Problem() == nil })
	return s
}

// ended wants the end of Run, in time.
func (s stopping) ended(t *testing.T) {
	t.Helper()
	begun := time.Now()
	select {
	case err := <-s.ran:
		if took := time.Since(begun); err != nil || took > 3*time.Second {
			t.Errorf("Run ended after %v: %v", took, err)
		}
	case <-time.After(waiting):
		t.Fatal("Run does not end")
	}
}

// The agent's stop leaves nothing of ours behind: what runs is interrupted, whether its call has ended before, at once or not at all.
func TestStopInterruptsOurs(t *testing.T) {
	t.Parallel()
	for _, flavour := range []fakesdapi.Flavour{fakesdapi.A1111, fakesdapi.Forge, fakesdapi.SDNext} {
		for name, stop := range map[string]func(stopping, running){
			"agent alone":     func(s stopping, _ running) { s.stop() },
			"call and agent":  func(s stopping, r running) { r.cancel(errTest); s.stop() },
			"agent then call": func(s stopping, r running) { s.stop(); r.cancel(errTest) },
		} {
			t.Run(string(flavour)+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newStopping(t, fakesdapi.Config{Flavour: flavour, Step: 20 * time.Millisecond})
				r := s.begin(t, 10_000, nil)
				eventually(t, "the job runs", func() bool { jobs := s.fake.Jobs(); return len(jobs) == 1 && jobs[0].Made > 2 })
				stop(s, r)
				s.ended(t)
				if err := <-r.done; !errors.Is(err, errTest) && meaning(err) != "elsewhere" {
					t.Errorf("got %v", err)
				}
				if !s.fake.Jobs()[0].Interrupted {
					t.Error("our job goes on for nobody")
				}
				if failures := s.Server.Status().Failures; failures != 0 {
					t.Errorf("the breaker has seen %d failures", failures)
				}
			})
		}
	}
}

// Somebody else's job goes on when the agent stops, and the agent does not wait for it.
func TestStopBehindSomebodyElse(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			s := newStopping(t, fakesdapi.Config{Flavour: flavour, Before: func(number, _ int) {
				if number == 1 {
					<-hold
				}
			}})
			theirs := s.fake.Occupy(6)
			r := s.begin(t, 5, nil)
			eventually(t, "our call waits", func() bool { return s.fake.Answered("POST /sdapi/v1/txt2img") == 1 })
			s.stop()
			s.ended(t)
			<-r.done
			close(hold)
			<-theirs
			if first := s.fake.Jobs()[0]; first.Interrupted {
				t.Errorf("somebody else's job was hit: %+v", first)
			}
		})
	}
}

// Run ends though whoever takes the reports does not come back.
func TestStopWithACallThatHangs(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	s := newStopping(t, fakesdapi.Config{Flavour: fakesdapi.A1111})
	done, held := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Generate(context.Background(), backend.CPU(), request(), func(p job.Progress) {
			if p.Step == 0 {
				close(held)
				<-hold
			}
		})
	}()
	<-held
	s.stop()
	s.ended(t)
	close(hold)
	<-done
}
