package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/backend"
	"muster/agent/images"
	"muster/shared/gpu"
	"muster/shared/job"
)

// within runs a test in fake time.
func within(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, f)
	})
}

func TestFourImagesGoToFourEqualDevices(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{Predicted, LeastLoaded, RoundRobin} {
		within(t, string(policy), func(t *testing.T) {
			r := newRig(t, 4, policy)
			r.run()
			ids := r.jobs.add(4)
			synctest.Wait()
			if diff := cmp.Diff([]int{0, 1, 2, 3}, r.where(ids)); diff != "" {
				t.Errorf("at once (-want +got): %s", diff)
			}
			pass(11 * time.Second)
			for i, id := range ids {
				j := r.expect(id, job.Succeeded)
				if want := fmt.Sprintf("image of %d", 100+i); j.ImageID != want || j.Reason == "" || j.Backend != "fake" {
					t.Errorf("%s: image %q, reason %q, backend %q", id, j.ImageID, j.Reason, j.Backend)
				}
			}
			r.end()
		})
	}
}

func TestFastBusyDeviceIsPreferredWhenSooner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.speeds = []float64{1, 0.1}
		r.backend.generate = steady(func(d gpu.Device) float64 { return []float64{6, 60}[d.Index] })
		r.run()
		first := r.jobs.add(1)
		pass(5 * time.Second)
		second := r.jobs.add(1)
		pass(time.Millisecond)
		if j := r.expect(second[0], job.Queued); !strings.HasPrefix(j.Reason, "waiting ") || !strings.Contains(j.Reason, "for Device 0: sooner than loading on Device 1") {
			t.Errorf("reason is %q", j.Reason)
		}
		pass(10 * time.Second)
		r.expect(second[0], job.Succeeded)
		if diff := cmp.Diff([]int{0, 0}, r.where(append(first, second...))); diff != "" {
			t.Error(diff)
		}
		r.end()
	})
}

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

func TestCancel(t *testing.T) {
	t.Parallel()
	within(t, "queued", func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.run()
		ids := r.jobs.add(2)
		pass(time.Second)
		r.jobs.cancel(ids[1])
		pass(30 * time.Second)
		if j := r.expect(ids[1], job.Cancelled); j.Attempt != 0 {
			t.Errorf("it was started: %+v", j)
		}
		r.end()
	})
	within(t, "running", func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		var cause error
		r.backend.generate = func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
			if req.Seed == 100 {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return backend.Image{}, cause
			}
			return steady(always(1))(ctx, dev, req, report)
		}
		r.run()
		ids := r.jobs.add(2)
		pass(time.Second)
		r.jobs.cancel(ids[0])
		pass(2 * time.Second)
		if !errors.Is(cause, errCancelled) {
			t.Errorf("cause is %v", cause)
		}
		r.expect(ids[0], job.Cancelled)
		r.expect(ids[1], job.Succeeded)
		if r.Capacity().Slots[0].Problem != "" {
			t.Errorf("a cancel is not the slot's fault: %q", r.Capacity().Slots[0].Problem)
		}
		r.end()
	})
	within(t, "running and deaf", func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		release := make(chan struct{})
		var calls atomic.Int32
		r.backend.generate = func(context.Context, gpu.Device, backend.Request, func(job.Progress)) (backend.Image, error) {
			calls.Add(1)
			<-release
			return backend.Image{PNG: []byte("late")}, nil
		}
		r.run()
		ids := r.jobs.add(2)
		pass(time.Second)
		r.jobs.cancel(ids[0])
		pass(29 * time.Second)
		if problem := r.Capacity().Slots[0].Problem; problem != "" {
			t.Errorf("too early: %q", problem)
		}
		pass(2 * time.Second)
		if problem := r.Capacity().Slots[0].Problem; problem != "is still finishing a cancelled image" {
			t.Errorf("problem is %q", problem)
		}
		if j := r.expect(ids[1], job.Queued); calls.Load() != 1 || j.Reason != "waiting: Device 0 is still finishing a cancelled image" {
			t.Errorf("%d calls on one slot, reason %q", calls.Load(), j.Reason)
		}
		close(release)
		pass(time.Second)
		r.expect(ids[0], job.Cancelled)
		r.expect(ids[1], job.Succeeded)
		if r.images.puts != 1 {
			t.Errorf("%d images stored: the late one of a cancelled job is dropped", r.images.puts)
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

func TestPinnedAndPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, Predicted)
		r.run()
		if err := r.Pause(7, true); err == nil {
			t.Error("a device that does not exist was paused")
		}
		if err := r.Pause(2, true); err != nil {
			t.Fatal(err)
		}
		two := gpu.Ref(2)
		pin := r.jobs.add(1, func(j *job.Job) { j.PinnedTo = &two })
		others := r.jobs.add(3)
		pass(time.Millisecond)
		if j := r.expect(pin[0], job.Queued); j.Reason != "waiting: Device 2 is paused" {
			t.Errorf("reason is %q", j.Reason)
		}
		if slot := r.Capacity().Slots[2]; !slot.Paused || slot.Problem != "" {
			t.Errorf("%+v", slot)
		}
		pass(45 * time.Second)
		for i, device := range r.where(others) {
			if device == 2 || device < 0 {
				t.Errorf("image %d went to %d", i, device)
			}
		}
		if err := r.Pause(2, false); err != nil {
			t.Fatal(err)
		}
		pass(11 * time.Second)
		if j := r.expect(pin[0], job.Succeeded); *j.DeviceID != 2 || j.Reason != "Device 2 was asked for" {
			t.Errorf("device %v, reason %q", *j.DeviceID, j.Reason)
		}
		r.end()
	})
}

func TestHotDeviceCoolsFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		at := func(celsius float64) {
			r.measure(func(_ int, reading *gpu.Reading) {
				reading.Temperatures = []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 60}, {Sensor: gpu.SensorJunction, Celsius: celsius}, {Sensor: gpu.SensorMemory, Celsius: 99}}
			})
			synctest.Wait()
		}
		at(95)
		r.run()
		ids := r.jobs.add(1)
		synctest.Wait()
		if j := r.expect(ids[0], job.Queued); !strings.Contains(j.Reason, "too hot") {
			t.Errorf("reason is %q", j.Reason)
		}
		at(91)
		r.expect(ids[0], job.Queued)
		at(89)
		r.expect(ids[0], job.Running)
		r.end()
	})
}

func TestModelThatNoSlotHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.run()
		ids := r.jobs.add(2, func(j *job.Job) { j.Model = "flux" })
		pass(time.Second)
		if j := r.expect(ids[0], job.Queued); j.Reason != `waiting: no device has a generator for model "flux" now` {
			t.Errorf("reason is %q", j.Reason)
		}
		pass(missingAfter + time.Second)
		for _, id := range ids {
			if j := r.expect(id, job.Failed); !strings.Contains(j.Error, `"flux"`) {
				t.Errorf("error is %q", j.Error)
			}
		}
		r.end()
	})
}

func TestMemoryRuleSeesOtherPrograms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fresh bool
		want  job.State
	}{{"reported full", true, job.Queued}, {"reported full, but frozen long ago", false, job.Running}} {
		within(t, tt.name, func(t *testing.T) {
			r := newRig(t, 1, Predicted)
			full := func(_ int, reading *gpu.Reading) {
				used := uint64(20) << 30
				reading.MemoryUsedBytes = &used
			}
			r.measure(full)
			r.run()
			ids := r.jobs.add(1)
			for range 15 {
				pass(time.Second)
				if tt.fresh {
					r.measure(full)
				}
				r.Wake()
			}
			pass(time.Millisecond)
			r.expect(ids[0], tt.want)
			r.end()
		})
	}
}

func TestDiskFullPausesStarting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.images.fail(fmt.Errorf("write image: %w", syscall.ENOSPC))
		r.run()
		ids := r.jobs.add(1)
		pass(11 * time.Second)
		j := r.expect(ids[0], job.Queued)
		if j.Failures != 0 || j.Attempt != 1 || !strings.Contains(j.Reason, "can't be stored") {
			t.Errorf("%+v", j)
		}
		pass(25 * time.Second)
		if j := r.expect(ids[0], job.Queued); j.Attempt != 1 {
			t.Errorf("started again while the disk is full: attempt %d", j.Attempt)
		}
		r.images.fail(nil)
		pass(20 * time.Second)
		r.expect(ids[0], job.Succeeded)
		r.end()
	})
}

func TestBadImageIsTheBackendsFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.images.fail(fmt.Errorf("cut off: %w", images.ErrInvalid))
		r.run()
		ids := r.jobs.add(1)
		pass(2 * time.Minute)
		if j := r.expect(ids[0], job.Failed); j.Failures != job.MaxFailures {
			t.Errorf("%+v", j)
		}
		r.end()
	})
}

func TestOutcomeIsRecordedWhenTheDiskAllowsItAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		until := time.Now().Add(40 * time.Second)
		r.jobs.refuse = func(what string) error {
			if what == "succeed" && time.Now().Before(until) {
				return errors.New("disk I/O error")
			}
			return nil
		}
		r.run()
		ids := r.jobs.add(1)
		pass(35 * time.Second)
		r.expect(ids[0], job.Running)
		pass(35 * time.Second)
		if j := r.expect(ids[0], job.Succeeded); j.Attempt != 1 {
			t.Errorf("it was made again: attempt %d", j.Attempt)
		}
		r.end()
	})
}

func TestShutdownLeavesJobsRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		var ended atomic.Int32
		r.backend.generate = func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended.Add(1)
			return backend.Image{}, context.Cause(ctx)
		}
		r.run()
		ids := r.jobs.add(3)
		pass(time.Second)
		r.end()
		if n := ended.Load(); n != 2 {
			t.Errorf("Run did not wait for %d of 2 attempts", 2-n)
		}
		for _, id := range ids[:2] {
			if j := r.expect(id, job.Running); j.Failures != 0 {
				t.Errorf("%+v", j)
			}
		}
	})
}

func TestShutdownDoesNotWaitForTheDeaf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		release := make(chan struct{})
		r.backend.generate = func(context.Context, gpu.Device, backend.Request, func(job.Progress)) (backend.Image, error) {
			<-release
			return backend.Image{}, nil
		}
		r.run()
		r.jobs.add(1)
		pass(time.Second)
		r.end()
		close(release)
	})
}

func TestETAAndLearnedSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.speeds = []float64{3, 1} // wrong: they are equal
		r.backend.generate = steady(always(20))
		r.run()
		ids := r.jobs.add(1)
		pass(10*time.Second + time.Millisecond)
		j := r.expect(ids[0], job.Running)
		if p := j.Progress; p.Step != 10 || p.ETASeconds == nil || *p.ETASeconds != 10 {
			t.Errorf("progress %+v", p)
		}
		pass(12 * time.Second)
		// Device 0 is measured now, device 1 still taken for a third of it: it is used only when the other one is crowded.
		few := r.jobs.add(2)
		synctest.Wait()
		if got := r.where(few); got[1] != -2 {
			t.Errorf("before learning: %v", got)
		}
		r.jobs.add(8)
		pass(5 * time.Minute)
		again := r.jobs.add(2)
		synctest.Wait()
		if got := r.where(again); !slices.Contains(got, 0) || !slices.Contains(got, 1) {
			t.Errorf("after learning: %v", got)
		}
		r.end()
	})
}

func TestReasonsDoNotFlicker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.backend.generate = steady(always(60))
		r.run()
		ids := r.jobs.add(3)
		for range 590 {
			pass(100 * time.Millisecond)
			r.Wake()
		}
		if n := len(r.jobs.explains[ids[1]]); n > 18 {
			t.Errorf("the next in line was told %d reasons in a minute: %q", n, r.jobs.explains[ids[1]])
		}
		if got := r.jobs.explains[ids[2]]; len(got) != 1 {
			t.Errorf("the last was told %q", got)
		}
		r.end()
	})
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		if c := r.Capacity(); c.Policy != "predicted" || c.DefaultModel != "" || c.Models == nil || c.Slots == nil {
			t.Errorf("before Run: %+v", c)
		}
		sketch := &fakeBackend{name: sketcher, generate: steady(always(1))}
		slots := r.config.Slots
		r.config.Slots = func(inventory gpu.Inventory) []Slot {
			return append([]Slot{{Device: backend.CPU(), Backend: sketch, Models: []backend.Model{{Name: "sketch", Title: "built-in"}}}}, slots(inventory)...)
		}
		r.run()
		c := r.Capacity()
		if c.DefaultModel != "sdxl" || len(c.Models) != 2 || len(c.Slots) != 3 || c.Slots[0].Device != gpu.CPU || c.Slots[1].Loaded != "" {
			t.Errorf("%+v", c)
		}
		r.jobs.add(1)
		synctest.Wait()
		if got := r.published.Load(); got == nil || got.Slots[1].Loaded != "sdxl" {
			t.Errorf("published %+v", got)
		}
		r.end()
	})
}
