package sdapi

import (
	"errors"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/job"
)

// Whoever waits for an image behind somebody else's, or for one whose steps take long, hears that the server is still there.
func TestSignsOfLife(t *testing.T) {
	t.Parallel()
	for _, flavour := range all {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			l := quick()
			l.alive = 20 * time.Millisecond
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Before: func(number, _ int) {
				if number == 1 {
					<-hold
				}
			}}, l)
			theirs := b.fake.Occupy(3)
			told := 0
			_, err := b.Generate(t.Context(), backend.CPU(), request(), func(p job.Progress) {
				if told++; told == 4 {
					close(hold)
				}
			})
			if err != nil {
				t.Error(err)
			}
			<-theirs
		})
	}
}

// A call that waits for what is left of another one is no hang either.
func TestSignsOfLifeBehindWhatIsLeft(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	l := quick()
	l.alive = 20 * time.Millisecond
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.SDServer, Before: func(number, _ int) {
		if number == 1 {
			<-hold
		}
	}}, l)
	r := b.begin(t, 5, nil)
	eventually(t, "the job runs", func() bool { return len(b.fake.Jobs()) == 1 })
	r.gaveUp(t, errTest)
	told := 0
	_, err := b.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) {
		if told++; told == 3 {
			close(hold)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// A server that does not answer gives no sign of life.
func TestNoSignsOfLife(t *testing.T) {
	t.Parallel()
	c := &call{req: backend.Request{Steps: 5}}
	told := 0
	c.report = func(job.Progress) { told++ }
	for range 3 {
		c.see(sight{err: errTest}, 0)
	}
	if told != 0 {
		t.Errorf("told %d times though nothing was seen", told)
	}
	c.see(sight{others: true}, 0)
	c.see(sight{others: true}, time.Hour)
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}

// A call that never began leaves the server to those whom it works for, also when the device is wanted for something else.
func TestGivingUpTheDeviceWhileQueued(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			l := quick()
			l.alive = time.Millisecond
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Before: func(number, step int) {
				if number == 1 && step == 3 {
					<-hold
				}
			}}, l)
			theirs := b.fake.Occupy(6)
			waits := make(chan struct{})
			told := 0
			r := b.begin(t, 5, func(job.Progress) {
				if told++; told == 20 {
					close(waits)
				}
			})
			<-waits
			r.gaveUp(t, errors.Join(errTest, backend.ErrUnavailable))
			close(hold)
			<-theirs
			if _, err := b.make(t, request()); err != nil {
				t.Error(err)
			}
			if n := b.fake.Answered("POST /sdapi/v1/unload-checkpoint"); n != 0 {
				t.Errorf("unloaded %d times", n)
			}
		})
	}
}

// A call that waited for others too long says nothing against the server.
func TestOthersForTooLong(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	l := hasty()
	l.queue = 200 * time.Millisecond
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111, Before: func(number, _ int) {
		if number == 1 {
			<-hold
		}
	}}, l)
	theirs := b.fake.Occupy(3)
	if _, err := b.make(t, request()); meaning(err) != "elsewhere" || !strings.Contains(err.Error(), "worked for others") {
		t.Errorf("got %v", err)
	}
	if failures := b.Server.Status().Failures; failures != 0 {
		t.Errorf("the breaker has seen %d failures", failures)
	}
	close(hold)
	<-theirs
}
