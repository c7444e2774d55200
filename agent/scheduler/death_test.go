package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

func TestDeviceDeathMidJob(t *testing.T) {
	t.Parallel()
	for _, state := range []gpu.State{gpu.StateLost, gpu.StateStuck} {
		within(t, string(state), func(t *testing.T) {
			r := newRig(t, 2, Predicted)
			r.backend.generate = steady(always(60))
			r.run()
			ids := r.jobs.add(1)
			pass(5 * time.Second)
			dead := func(i int, reading *gpu.Reading) {
				if i == 0 {
					reading.State = state
				}
			}
			r.measure(dead)
			pass(9 * time.Second)
			if j := r.expect(ids[0], job.Running); j.Attempt != 1 {
				t.Errorf("given up too early: attempt %d", j.Attempt)
			}
			pass(2 * time.Second)
			j := r.expect(ids[0], job.Running)
			if j.Attempt != 2 || *j.DeviceID != 1 || j.Seed != 100 || j.Failures != 1 {
				t.Errorf("attempt %d on device %v, seed %d, %d failures", j.Attempt, *j.DeviceID, j.Seed, j.Failures)
			}
			if problem := r.Capacity().Slots[0].Problem; problem != stateWords(state) {
				t.Errorf("slot's problem is %q", problem)
			}
			pass(61 * time.Second)
			r.expect(ids[0], job.Succeeded)
			r.end()
		})
	}
	within(t, "vanished", func(t *testing.T) {
		r := newRig(t, 2, RoundRobin)
		r.backend.generate = steady(always(60))
		r.run()
		ids := r.jobs.add(2)
		pass(time.Second)
		whole := *r.inventory.Load()
		r.inventory.Store(&gpu.Inventory{Revision: 2, Devices: whole.Devices[:1]})
		r.measure(func(int, *gpu.Reading) {})
		pass(12 * time.Second)
		if j := r.expect(ids[1], job.Queued); j.Failures != 1 || !strings.Contains(j.Error, "vanished") {
			t.Errorf("%d failures, error %q", j.Failures, j.Error)
		}
		pass(120 * time.Second)
		r.expect(ids[1], job.Succeeded)
		if diff := cmp.Diff([]int{0, 0}, r.where(ids)); diff != "" {
			t.Error(diff)
		}
		r.end()
	})
}

// The processor serves while no GPU can. When one can again it takes no new images, but it has not vanished.
func TestProcessorFinishesWhatItBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, Predicted)
		r.backend.generate = steady(always(60))
		var served atomic.Bool
		served.Store(true)
		r.config.Slots = func(gpu.Inventory) []Slot {
			if !served.Load() {
				return nil
			}
			return []Slot{{Device: backend.CPU(), Backend: r.backend, Models: r.models}}
		}
		r.run()
		ids := r.jobs.add(1)
		pass(time.Second)
		served.Store(false)
		r.Wake()
		pass(time.Minute)
		if j := r.expect(ids[0], job.Succeeded); j.Attempt != 1 || j.Failures != 0 {
			t.Errorf("attempt %d, %d failures: %s", j.Attempt, j.Failures, j.Error)
		}
		r.end()
	})
}

func TestThreeDeathsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, Predicted)
		var devices []gpu.Ref
		r.backend.generate = func(_ context.Context, dev gpu.Device, _ backend.Request, _ func(job.Progress)) (backend.Image, error) {
			devices = append(devices, dev.Index)
			return backend.Image{}, fmt.Errorf("the child died: %w", backend.ErrUnavailable)
		}
		r.run()
		ids := r.jobs.add(1)
		pass(time.Minute)
		if j := r.expect(ids[0], job.Failed); j.Attempt != 3 {
			t.Errorf("%d attempts", j.Attempt)
		}
		if diff := cmp.Diff([]gpu.Ref{0, 1, 2}, devices); diff != "" {
			t.Errorf("each attempt should go elsewhere: %s", diff)
		}
		r.end()
	})
}

func TestOneDeviceRestsLongerAfterEachFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		var mu sync.Mutex
		var at []time.Duration
		begun := time.Now()
		var broken atomic.Bool
		broken.Store(true)
		r.backend.generate = func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
			mu.Lock()
			at = append(at, time.Since(begun))
			mu.Unlock()
			if broken.Load() {
				return backend.Image{}, fmt.Errorf("2 of 3 GiB: %w", backend.ErrOutOfMemory)
			}
			return steady(always(1))(ctx, dev, req, report)
		}
		r.run()
		ids := r.jobs.add(3)
		pass(2500 * time.Millisecond)
		slot := r.Capacity().Slots[0]
		if want := "rests up to 2 s after 2 failures in a row: 2 of 3 GiB: no room on the device"; slot.Problem != want {
			t.Errorf("problem is %q: want %q", slot.Problem, want)
		}
		if j := r.jobs.get(ids[0]); !strings.Contains(j.Reason, "Device 0 rests") {
			t.Errorf("reason is %q", j.Reason)
		}
		pass(18 * time.Second)
		mu.Lock()
		if want := []time.Duration{0, 1, 3, 7, 15}; len(at) != len(want) || slices.ContainsFunc(want, func(d time.Duration) bool { return !slices.Contains(at, d*time.Second) }) {
			t.Errorf("attempts at %v: want %v s", at, want)
		}
		mu.Unlock()
		broken.Store(false)
		pass(time.Minute)
		if r.Capacity().Slots[0].Problem != "" {
			t.Errorf("still: %q", r.Capacity().Slots[0].Problem)
		}
		r.end()
	})
}

func TestOtherErrorsAreFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.backend.generate = func(context.Context, gpu.Device, backend.Request, func(job.Progress)) (backend.Image, error) {
			return backend.Image{}, errors.New("sampler \"x\" is not known")
		}
		r.run()
		ids := r.jobs.add(1)
		pass(time.Second)
		if j := r.expect(ids[0], job.Failed); j.Attempt != 1 || j.Error != "sampler \"x\" is not known" {
			t.Errorf("attempt %d, error %q", j.Attempt, j.Error)
		}
		r.end()
	})
}

func TestPanicOfABackendCostsOneAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.backend.generate = func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
			if req.Attempt == 1 {
				panic("index out of range")
			}
			return steady(always(1))(ctx, dev, req, report)
		}
		r.run()
		ids := r.jobs.add(1)
		pass(3 * time.Second)
		if j := r.expect(ids[0], job.Succeeded); j.Attempt != 2 || j.Failures != 1 || *j.DeviceID != 1 {
			t.Errorf("%+v", j)
		}
		r.end()
	})
}

func TestHungBackendIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		release := make(chan struct{})
		r.backend.generate = func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
			if req.Attempt == 1 {
				<-release // deaf to ctx
				return backend.Image{PNG: []byte("late")}, nil
			}
			return steady(always(5))(ctx, dev, req, report)
		}
		r.run()
		ids := r.jobs.add(1)
		pass(hangAfter - time.Second)
		r.expect(ids[0], job.Running)
		pass(20 * time.Second)
		j := r.expect(ids[0], job.Succeeded)
		if j.Attempt != 2 || *j.DeviceID != 1 || j.ImageID != "image of 100" {
			t.Errorf("%+v", j)
		}
		close(release)
		pass(time.Second)
		if j := r.expect(ids[0], job.Succeeded); j.ImageID != "image of 100" {
			t.Errorf("the late result replaced the image: %q", j.ImageID)
		}
		r.end()
	})
}
