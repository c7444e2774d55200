package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/agent/images"
	"muster/shared/gpu"
	"muster/shared/job"
)

func TestDiskFullPausesStarting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.images.fail(fmt.Errorf("write image: %w", syscall.ENOSPC))
		r.run()
		ids := r.jobs.add(2)
		pass(11 * time.Second)
		r.expect(ids[0], job.Running) // its image is made: it is kept until it can be stored
		if j := r.expect(ids[1], job.Queued); !strings.Contains(j.Reason, "can't be stored") || !strings.Contains(j.Reason, "no space left") {
			t.Errorf("%+v", j)
		}
		pass(25 * time.Second)
		r.expect(ids[1], job.Queued)
		r.images.fail(nil)
		pass(30 * time.Second)
		for _, id := range ids {
			if j := r.expect(id, job.Succeeded); j.Attempt != 1 || j.Failures != 0 {
				t.Errorf("it was made again: %+v", j)
			}
		}
		if r.images.puts != 2 {
			t.Errorf("%d images were stored", r.images.puts)
		}
		r.end()
	})
}

// Every device meets the full disk: that is one fault, and not a reason to pause for longer.
func TestDiskFullOnAllDevicesIsOneFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, Predicted)
		r.images.fail(fmt.Errorf("write image: %w", syscall.ENOSPC))
		r.run()
		ids := r.jobs.add(4)
		pass(30 * time.Second)
		for _, id := range ids {
			r.expect(id, job.Running)
		}
		r.images.fail(nil)
		pass(11 * time.Second)
		for _, id := range ids {
			r.expect(id, job.Succeeded)
		}
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

// A commit that took longer than the attempt waits for it, or whose error came although it was made.
func TestStartThatIsRecordedUnnoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		var starts atomic.Int32
		r.jobs.deny = func(what string) error {
			if what == "start" && starts.Add(1) == 1 {
				return context.DeadlineExceeded
			}
			return nil
		}
		r.run()
		ids := r.jobs.add(1)
		pass(time.Second)
		if j := r.expect(ids[0], job.Queued); j.Failures != 0 {
			t.Errorf("%+v", j)
		}
		pass(time.Minute)
		if j := r.expect(ids[0], job.Succeeded); j.Attempt != 2 || j.Seed != 100 {
			t.Errorf("attempt %d, seed %d", j.Attempt, j.Seed)
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
