package comfyui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/fleet"
	"muster/shared/job"
	"muster/shared/wire"
)

func TestCancelKeepsTheChildUnlessTheDeviceIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cause  error
		starts int
	}{
		"a person cancels":    {errors.New("a person cancelled"), 1},
		"the device is taken": {fmt.Errorf("reserved: %w", backend.ErrUnavailable), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFleetBench(t, fleetSetup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 30}}})
			ctx, cancel := context.WithCancelCause(t.Context())
			req := request("model")
			req.Steps = 200
			_, err := b.Backend().Generate(ctx, b.devices[0], req, func(p job.Progress) {
				if p.Step >= 2 && ctx.Err() == nil {
					cancel(tt.cause)
				}
			})
			if !errors.Is(err, tt.cause) {
				t.Fatalf("got %v; want the cause", err)
			}
			begun := time.Now()
			if err := b.make(t, request("model"), nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("the next image took %v: the long one was finished first", took)
			}
			if n := b.starts(t); n != tt.starts {
				t.Errorf("%d starts; want %d", n, tt.starts)
			}
			if err := b.Serves(b.devices[0]); err != nil {
				t.Errorf("a cancelled job counts against the device: %v", err)
			}
		})
	}
}

// A child that does not let go of what was cancelled is ended.
func TestCancelOfAHungChild(t *testing.T) {
	t.Parallel()
	l := quick()
	l.settle = 300 * time.Millisecond
	b := newFleetBench(t, fleetSetup{limits: l, models: faulty(backendtest.Fault{Do: backendtest.Hang, Start: 1, Job: 1, Step: 3})})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := b.Backend().Generate(ctx, b.devices[0], request("model"), func(p job.Progress) {
		if p.Step >= 2 && ctx.Err() == nil {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 2 {
		t.Errorf("%d starts; want a second child", n)
	}
}

func TestCancelWhileStartingKeepsTheChild(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{settings: backendtest.ComfySettings{StartMilliseconds: 1000}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.Backend().Generate(ctx, b.devices[0], request("model"), func(job.Progress) {})
		done <- err
	}()
	await(t, "a start that is told", func() bool { return b.starts(t) > 0 && b.Generators(b.devices)[0].State == wire.GeneratorStarting })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 1 {
		t.Errorf("%d starts; want the first child to be used", n)
	}
	if g := b.Generators(b.devices)[0]; g.State != wire.GeneratorReady || g.Loaded != "model" || !strings.HasPrefix(g.Address, "127.0.0.1:") || g.Problem != "" {
		t.Errorf("when it is ready: %+v", g)
	}
}

// A child's output folder does not grow: the images are in muster's own store.
func TestImagesAreTakenAway(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{})
	for seed := range keptImages + 4 {
		req := request("model")
		req.Seed, req.Steps = int64(seed), 1
		if err := b.make(t, req, nil); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(fleet.Folder(b.cfg.Dir, b.devices[0]), "output", prefixFolder)
	if files, err := os.ReadDir(dir); err != nil || len(files) > keptImages {
		t.Errorf("%d images, %v; want %d", len(files), err, keptImages)
	}
}

func TestRunEndsWithEveryCallAndChild(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 1000}}})
	f, err := newFleet(b.cfg, quick()) // a second one on the same program, whose end the test commands
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, working := make(chan error, 1), make(chan struct{}, 4)
	go func() { ended <- f.Run(ctx) }()
	failures := make(chan error, 3)
	for _, dev := range b.devices[:3] {
		go func() {
			req := request("model")
			req.Steps = 100
			_, err := f.Backend().Generate(t.Context(), dev, req, func(p job.Progress) {
				if p.Step == 0 {
					working <- struct{}{}
				}
			})
			failures <- err
		}()
	}
	for range 3 {
		<-working
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-failures; !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("a call ended with %v; want it to be tried elsewhere", err)
		}
	}
	for _, start := range backendtest.Serving(t, b.python) {
		if exists(start.PID) {
			t.Errorf("child %d lives on after Run", start.PID)
		}
	}
	if _, err := f.Backend().Generate(t.Context(), b.devices[0], request("model"), nil); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("a call after Run gives %v", err)
	}
	if err := f.Run(t.Context()); err == nil {
		t.Error("a second Run is not refused")
	}
}
