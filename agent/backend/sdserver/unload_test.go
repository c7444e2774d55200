package sdserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/calls"
	"muster/agent/process"
	"muster/shared/job"
)

// begin starts an image on the first device and gives its end; it returns after the first step.
func (b *bench) begin(ctx context.Context, t *testing.T, req backend.Request) <-chan error {
	t.Helper()
	working, ended := make(chan struct{}, req.Steps), make(chan error, 1)
	go func() {
		_, err := b.Backend().Generate(ctx, b.devices[0], req, func(p job.Progress) {
			if p.Step > 0 {
				working <- struct{}{}
			}
		})
		ended <- err
	}()
	select {
	case <-working:
	case err := <-ended:
		t.Fatalf("it ended before its first step: %v", err)
	}
	return ended
}

func (b *bench) unload(ctx context.Context) error {
	return b.Backend().(backend.Unloader).Unload(ctx, b.devices[0])
}

// child gives the process of the newest start.
func (b *bench) child(t *testing.T) int {
	t.Helper()
	starts := backendtest.Serving(t, b.program)
	return starts[len(starts)-1].PID
}

// awaitStart waits until a child was started; the journal tells of it.
func (b *bench) awaitStart(t *testing.T) {
	t.Helper()
	await(t, "a start", func() bool { return b.starts(t) > 0 })
}

// await waits for what tells nobody that it has happened.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for !happened() {
		select {
		case <-late:
			t.Fatalf("waited a minute for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestUnloadWaitsForTheImageThatIsMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 100}}})
	req := b.request("model")
	req.Steps = 10
	ended := b.begin(t.Context(), t, req)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("no patience"))
	defer cancel()
	if err := b.unload(ctx); err == nil || err.Error() != "no patience" {
		t.Errorf("unloading during an image gives %v; want its context's cause", err)
	}
	if err := b.unload(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the image was not finished: %v", err)
		}
	default:
		t.Error("it was unloaded during the image")
	}
	if running(b.child(t)) {
		t.Error("the child lives")
	}
}

func TestUnloadEndsAChildThatLoads(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {Faults: []backendtest.Fault{{Start: 1, Do: backendtest.LoadHangs}}}}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := b.Backend().Generate(ctx, b.devices[0], b.request("model"), func(job.Progress) {})
		ended <- err
	}()
	b.awaitStart(t)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := b.unload(t.Context()); err != nil {
		t.Error(err)
	}
	if running(b.child(t)) {
		t.Error("the child still loads")
	}
	if err := b.make(t, "model"); err != nil {
		t.Error(err)
	}
}

func TestUnloadReturnsWithItsContextAndGoesOn(t *testing.T) {
	t.Parallel()
	l := quick()
	l.grace = 2 * time.Second
	b := newBench(t, setup{limits: l, models: map[string]backendtest.Scenario{"model": {IgnoreTerm: true}}})
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	pid := b.child(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := b.unload(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if !running(pid) {
		t.Error("a child that ignores SIGTERM has gone already: the test shows nothing")
	}
	if err := b.unload(t.Context()); err != nil {
		t.Error(err)
	}
	if running(pid) {
		t.Error("the child lives on")
	}
}

func TestUnloadTellsOfAChildThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	l := quick()
	l.grace = 100 * time.Millisecond
	b := newBench(t, setup{limits: l, models: map[string]backendtest.Scenario{"model": {IgnoreKill: true}}})
	if err := b.make(t, "model"); err != nil {
		if strings.Contains(err.Error(), os.ErrPermission.Error()) || strings.Contains(err.Error(), "operation not permitted") {
			t.Skipf("ptrace is not allowed here: %v", err)
		}
		t.Fatal(err)
	}
	pid := b.child(t)
	want := fmt.Sprintf("process %d does not end although it was killed", pid)
	for range 2 {
		err := b.unload(t.Context())
		if !errors.Is(err, process.ErrStuck) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Device 0") {
			t.Errorf("got %v; want %q", err, want)
		}
	}
	if !b.Owns(pid) {
		t.Error("a stuck child counts as another program's")
	}
	if err := b.Serves(b.devices[0]); err == nil || !strings.Contains(err.Error(), "does not end") {
		t.Errorf("the device is offered: %v", err)
	}
	await(t, "its end", func() bool {
		err := b.unload(t.Context())
		if err != nil && !errors.Is(err, process.ErrStuck) {
			t.Fatalf("while it hangs: %v", err)
		}
		return err == nil
	})
	if b.Owns(pid) || running(pid) {
		t.Error("the device is free while the child is there")
	}
}

func TestUnloadAfterRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	f, err := newFleet(b.cfg, quick())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	if _, err := f.Backend().Generate(t.Context(), b.devices[0], b.request("model"), func(job.Progress) {}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := f.Backend().(backend.Unloader).Unload(t.Context(), b.devices[0]); !errors.Is(err, calls.ErrStopping) {
		t.Errorf("got %v", err)
	}
}

// When the device or the generator itself is given up, nothing is left holding the card, however soon the child would be done.
func TestNothingIsLeftOnADeviceThatIsGivenUp(t *testing.T) {
	t.Parallel()
	lost := fmt.Errorf("was lost during the image: %w", backend.ErrUnavailable)
	t.Run("while it works", func(t *testing.T) {
		t.Parallel()
		// For an ordinary cancel this child would be left to finish: loading takes longer.
		b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 20, LoadMilliseconds: 4000}}})
		ctx, cancel := context.WithCancelCause(t.Context())
		req := b.request("model")
		req.Steps = 100
		ended := b.begin(ctx, t, req)
		pid := b.child(t)
		cancel(lost)
		if err := <-ended; !errors.Is(err, lost) {
			t.Errorf("got %v", err)
		}
		await(t, "the child's end", func() bool { return !running(pid) })
		if err := b.make(t, "model"); err != nil {
			t.Error(err)
		}
		if n := b.starts(t); n != 2 {
			t.Errorf("%d starts; want the child to be replaced", n)
		}
	})
	t.Run("while it loads", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {Faults: []backendtest.Fault{{Start: 1, Do: backendtest.LoadHangs}}}}})
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := b.Backend().Generate(ctx, b.devices[0], b.request("model"), func(job.Progress) {})
			ended <- err
		}()
		b.awaitStart(t)
		cancel(lost)
		if err := <-ended; !errors.Is(err, lost) {
			t.Errorf("got %v", err)
		}
		await(t, "the child's end", func() bool { return !running(b.child(t)) })
		if err := b.make(t, "model"); err != nil {
			t.Error(err)
		}
	})
}

func TestOwns(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {}, "other": {}}})
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	pid := b.child(t)
	for _, tt := range []struct {
		name string
		pid  int
		want bool
	}{
		{"the child", pid, true}, {"ourselves", os.Getpid(), false}, {"init", 1, false}, {"nobody", 0, false},
		{"all", -1, false}, {"a group", -pid, false}, {"a number that is not used", 1<<22 + 1, false},
	} {
		if got := b.Owns(tt.pid); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if err := b.make(t, "other"); err != nil {
		t.Fatal(err)
	}
	if b.Owns(pid) || !b.Owns(b.child(t)) {
		t.Error("after a change of model the old child is ours, or the new one is not")
	}
	if err := b.unload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.Owns(b.child(t)) {
		t.Error("after unloading the child is ours")
	}
}
