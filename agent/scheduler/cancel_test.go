package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

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

func TestImageFinishedAfterTheCancelIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.backend.generate = func(ctx context.Context, _ gpu.Device, _ backend.Request, _ func(job.Progress)) (backend.Image, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			return backend.Image{PNG: []byte("late")}, nil
		}
		r.run()
		ids := r.jobs.add(1)
		pass(time.Second)
		r.jobs.cancel(ids[0])
		pass(3 * time.Second)
		if r.images.puts != 0 {
			t.Error("the image of a cancelled job was stored")
		}
		r.end()
	})
}

func TestJobWaitsForAnotherDeviceRatherThanWhereItFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.speeds = []float64{1, 0.5}
		r.backend.generate = func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
			if dev.Index == 0 && req.Attempt == 1 {
				return backend.Image{}, fmt.Errorf("child died: %w", backend.ErrUnavailable)
			}
			return steady(always(10))(ctx, dev, req, report)
		}
		r.run()
		one := gpu.Ref(1)
		other := r.jobs.add(1, func(j *job.Job) { j.PinnedTo = &one })
		pass(time.Second)
		ids := r.jobs.add(1)
		pass(25 * time.Second)
		r.expect(other[0], job.Succeeded)
		if j := r.expect(ids[0], job.Succeeded); *j.DeviceID != 1 || j.Attempt != 2 {
			t.Errorf("attempt %d on device %v: want the second on the other one, although the first is free sooner", j.Attempt, *j.DeviceID)
		}
		r.end()
	})
}
