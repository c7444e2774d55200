package sdapi

import (
	"context"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/job"
)

// missProbe has a probe of the server fail.
func (b *bench) missProbe(t *testing.T) {
	t.Helper()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.probe(gone); err == nil {
		t.Error("the probe did not fail")
	}
}

// A probe that fails while an image is made changes nothing about it: what somebody interrupted is still seen to be half made, a
// cancelled one is still interrupted, and the next one can be made at once.
func TestProbeFailsDuringACall(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			fault := backendtest.Fault{Job: 1, Step: 3, Do: backendtest.Interrupted}
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Step: 20 * time.Millisecond, Faults: []backendtest.Fault{fault}}, quick())
			_, err := b.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) { b.missProbe(t) })
			if err == nil || !strings.Contains(err.Error(), "somebody else interrupted") {
				t.Errorf("a half image: %v", err)
			}
			r := b.begin(t, 10_000, func(job.Progress) { b.missProbe(t) })
			eventually(t, "the job runs", func() bool { jobs := b.fake.Jobs(); return len(jobs) == 2 && jobs[1].Made > 2 })
			b.missProbe(t)
			r.gaveUp(t, errTest)
			if _, err := b.make(t, request()); err != nil {
				t.Error(err)
			}
			if second := b.fake.Jobs()[1]; !second.Interrupted {
				t.Errorf("it was not interrupted: %+v", second)
			}
			before := b.fake.Answered("GET /sdcpp/v1/capabilities")
			b.missProbe(t)
			b.Look()
			eventually(t, "it is asked anew which program it is", func() bool { return b.fake.Answered("GET /sdcpp/v1/capabilities") > before })
		})
	}
}

// A panic of who takes the reports ends the call alone: the turn is free, and the server is looked at again.
func TestPanic(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.Forge}, quick())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_, _ = b.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) { panic("the test's") })
	}()
	before := b.fake.Answered("GET /sdapi/v1/sd-models")
	b.Look()
	eventually(t, "it is looked at", func() bool { return b.fake.Answered("GET /sdapi/v1/sd-models") > before })
	if _, err := b.make(t, request()); err != nil {
		t.Error(err)
	}
	if failures := b.Server.Status().Failures; failures != 0 {
		t.Errorf("the breaker has seen %d failures", failures)
	}
}
