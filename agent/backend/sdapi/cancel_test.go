package sdapi

import (
	"context"
	"errors"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/job"
)

var errTest = errors.New("the test gave it up")

// running is a call under way.
type running struct {
	cancel context.CancelCauseFunc
	done   chan error
}

// begin starts an image of so many steps.
func (b *bench) begin(t *testing.T, steps int, report func(job.Progress)) running {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := running{cancel, make(chan error, 1)}
	req := request()
	req.Steps = steps
	if report == nil {
		report = func(job.Progress) {}
	}
	go func() {
		_, err := b.Generate(ctx, backend.CPU(), req, report)
		r.done <- err
	}()
	return r
}

// gaveUp wants the end of a call that was cancelled.
func (r running) gaveUp(t *testing.T, cause error) {
	t.Helper()
	r.cancel(cause)
	select {
	case err := <-r.done:
		if !errors.Is(err, cause) {
			t.Errorf("got %v; want its cause", err)
		}
	case <-time.After(waiting):
		t.Fatal("a cancelled call did not return")
	}
}

// Our own job is interrupted when it is cancelled, wherever that can be proven, and the next call follows soon.
func TestCancelInterruptsOurs(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Step: 20 * time.Millisecond}, quick())
			r := b.begin(t, 10_000, nil)
			eventually(t, "the job runs", func() bool { jobs := b.fake.Jobs(); return len(jobs) == 1 && jobs[0].Made > 2 })
			r.gaveUp(t, errTest)
			if _, err := b.make(t, request()); err != nil {
				t.Fatal(err)
			}
			jobs := b.fake.Jobs()
			if !jobs[0].Interrupted || jobs[0].Made == jobs[0].Steps || jobs[1].Interrupted || b.fake.Answered("POST /sdapi/v1/interrupt") != 1 {
				t.Errorf("%d interrupts; jobs %+v", b.fake.Answered("POST /sdapi/v1/interrupt"), jobs)
			}
		})
	}
}

// Somebody else's job is never interrupted: ours waits behind it, is cancelled, and interrupted when its turn has come.
func TestCancelWhileSomebodyElsesJobRuns(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Step: time.Millisecond, Before: func(number, step int) {
				if number == 1 && step == 3 {
					<-hold
				}
			}}, quick())
			theirs := b.fake.Occupy(6)
			told := make(chan job.Progress, 100)
			r := b.begin(t, 5000, func(p job.Progress) { told <- p })
			eventually(t, "our call waits", func() bool { return b.fake.Answered("POST /sdapi/v1/txt2img") == 1 })
			looks := func() int {
				return b.fake.Answered("POST /internal/progress") + b.fake.Answered("GET /sdapi/v1/progress")
			}
			before := looks()
			eventually(t, "it was looked at", func() bool { return looks() > before+10 })
			r.gaveUp(t, errTest)
			before = looks()
			eventually(t, "it was looked at after it was given up", func() bool { return looks() > before+10 })
			close(told)
			for p := range told {
				if p.Step != 0 {
					t.Errorf("somebody else's progress was reported: %+v", p)
				}
			}
			if b.fake.Answered("POST /sdapi/v1/interrupt") != 0 {
				t.Fatal("somebody else's job was interrupted")
			}
			close(hold)
			<-theirs
			if _, err := b.make(t, request()); err != nil {
				t.Fatal(err)
			}
			jobs := b.fake.Jobs()
			if jobs[0].Interrupted || jobs[0].Made != 6 {
				t.Errorf("somebody else's job was hit: %+v", jobs[0])
			}
			if !jobs[1].Interrupted || jobs[1].Made > 4000 {
				t.Errorf("ours went on: %+v", jobs[1])
			}
		})
	}
}

// Where marks do not show, that is learned: progress is told from the second image on, and nothing is ever interrupted.
func TestFrozenSettings(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.SDNext, Frozen: true, Step: 20 * time.Millisecond}, quick())
	for image := range 2 {
		steps := 0
		r := b.begin(t, 20, func(p job.Progress) {
			if p.Step > 0 && p.Step < 20 {
				steps++
			}
		})
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		if (steps > 0) != (image == 1) {
			t.Errorf("image %d: %d steps were told", image+1, steps)
		}
	}
	r := b.begin(t, 20, nil)
	eventually(t, "the job runs", func() bool { jobs := b.fake.Jobs(); return len(jobs) == 3 && jobs[2].Made > 2 })
	r.gaveUp(t, errTest)
	if _, err := b.make(t, request()); err != nil {
		t.Fatal(err)
	}
	if third := b.fake.Jobs()[2]; third.Interrupted || third.Made != 20 {
		t.Errorf("what was not proven to be ours was interrupted: %+v", third)
	}
}

// A program that gives up what nobody waits for is left by closing the connection; no other is.
func TestCancelByClosing(t *testing.T) {
	t.Parallel()
	for flavour, stops := range map[fakesdapi.Flavour]bool{fakesdapi.KoboldNew: true, fakesdapi.KoboldCpp: false, fakesdapi.SDServer: false} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Step: 10 * time.Millisecond}, quick())
			r := b.begin(t, 60, nil)
			eventually(t, "the job runs", func() bool { jobs := b.fake.Jobs(); return len(jobs) == 1 && jobs[0].Made > 2 })
			r.gaveUp(t, errTest)
			if _, err := b.make(t, request()); err != nil {
				t.Fatal(err)
			}
			jobs := b.fake.Jobs()
			if (jobs[0].Made == 60) == stops {
				t.Errorf("made %d of 60 steps", jobs[0].Made)
			}
			if !jobs[0].Ended {
				t.Error("the next call was sent while it worked")
			}
		})
	}
}

// A cause that gives up the device frees it too.
func TestGivingUpTheDeviceUnloads(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.Forge, Step: 10 * time.Millisecond}, quick())
	r := b.begin(t, 10_000, nil)
	eventually(t, "the job runs", func() bool { jobs := b.fake.Jobs(); return len(jobs) == 1 && jobs[0].Made > 2 })
	r.gaveUp(t, errors.Join(errTest, backend.ErrUnavailable))
	eventually(t, "the model is out of memory", func() bool { return b.fake.Resident() == "" })
	if _, err := b.make(t, request()); err != nil {
		t.Error(err)
	}
}

// Somebody else's interrupt is noticed also when the server has begun its next job before we could ask.
func TestSomebodyElsesInterruptFollowedByTheirJob(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			var b *bench
			hold := make(chan struct{})
			defer close(hold)
			b = newBench(t, fakesdapi.Config{Flavour: flavour, Step: 20 * time.Millisecond, Before: func(number, step int) {
				if number == 2 {
					<-hold
				}
			}}, quick())
			r := b.begin(t, 1000, nil)
			eventually(t, "the job runs", func() bool { jobs := b.fake.Jobs(); return len(jobs) == 1 && jobs[0].Made > 9 })
			go b.fake.Occupy(3)
			b.fake.Interrupt()
			select {
			case err := <-r.done:
				if meaning(err) != "elsewhere" {
					t.Errorf("got %v", err)
				}
			case <-time.After(waiting):
				t.Fatal("no answer")
			}
		})
	}
}

// While a call waits behind others the clock of a stall does not run.
func TestWaitingBehindOthersIsNoStall(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			l := quick()
			l.firstStep, l.stall = 2*time.Second, 2*time.Second
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Step: 20 * time.Millisecond}, l)
			theirs := b.fake.Occupy(200) // 4 s
			if _, err := b.make(t, request()); err != nil {
				t.Error(err)
			}
			<-theirs
		})
	}
}

// One call is in flight at a time, whoever calls.
func TestOneCallAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111, Step: 5 * time.Millisecond, Faults: []backendtest.Fault{}}, quick())
	var calls []running
	for range 4 {
		calls = append(calls, b.begin(t, 5, nil))
	}
	eventually(t, "one runs", func() bool { return len(b.fake.Jobs()) > 0 })
	if waits := b.fake.Answered("POST /sdapi/v1/txt2img") - len(b.fake.Jobs()); waits > 1 {
		t.Errorf("%d calls wait in the server", waits)
	}
	for _, r := range calls {
		if err := <-r.done; err != nil {
			t.Error(err)
		}
	}
	for i, j := range b.fake.Jobs() {
		if j.Number != i+1 || !j.Ended {
			t.Errorf("%+v", j)
		}
	}
}
