package queue

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/shared/pool"
)

func TestSteeringSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var told atomic.Int64
	o := Options{Steered: func() { told.Add(1) }}
	q, stop := running(t, dir, o)
	if s := q.Steering(); s == nil || s.Devices == nil || len(s.Devices) != 0 {
		t.Fatalf("at first: %+v", s)
	}
	before := q.Steering()
	until, celsius := time.Date(2027, 1, 2, 3, 4, 5, 678_000_000, time.UTC), 81.5
	want := pool.Control{Mode: pool.Reserved, Until: &until, Yield: true, MaxCelsius: &celsius, Hours: "22:00-08:00"}
	kept, err := q.Steer(t.Context(), "GPU-1", want)
	check(t, err)
	if diff := differ(want, kept); diff != "" {
		t.Error(diff)
	}
	_, err = q.Steer(t.Context(), "cpu", pool.Control{Mode: pool.Paused})
	check(t, err)
	_, err = q.Steer(t.Context(), "GPU-2", pool.Control{Mode: pool.Draining})
	check(t, err)
	_, err = q.Steer(t.Context(), "GPU-2", pool.Control{Mode: pool.Active}) // forgets it
	check(t, err)
	check(t, q.SteerPool(t.Context(), pool.Settings{MaxWatts: new(900.0)}))
	celsius = 99 // the caller's memory is no longer the queue's
	all := &pool.Steering{Pool: pool.Settings{MaxWatts: new(900.0)}, Devices: map[string]pool.Control{"cpu": {Mode: pool.Paused}, "GPU-1": want}}
	all.Devices["GPU-1"] = pool.Control{Mode: pool.Reserved, Until: &until, Yield: true, MaxCelsius: new(81.5), Hours: "22:00-08:00"}
	if diff := differ(all, q.Steering()); diff != "" {
		t.Error(diff)
	}
	if len(before.Devices) != 0 || told.Load() != 5 {
		t.Errorf("what was given before was changed to %+v; told %d times, want 5", before, told.Load())
	}
	stop()
	q, stop = running(t, dir, Options{})
	if diff := differ(all, q.Steering()); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
	check(t, q.SteerPool(t.Context(), pool.Settings{}))
	stop()
	q, _ = running(t, dir, o)
	if s := q.Steering(); s.Pool.MaxWatts != nil || len(s.Devices) != 2 || told.Load() != 5 {
		t.Errorf("after the budget was lifted: %+v; told %d times", s, told.Load())
	}
}

func TestSteeringRefuses(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	var wrong *pool.FieldError
	if _, err := q.Steer(t.Context(), "GPU-1", pool.Control{Mode: "asleep"}); !errors.As(err, &wrong) {
		t.Errorf("mode: %v", err)
	}
	if err := q.SteerPool(t.Context(), pool.Settings{MaxWatts: new(-1.0)}); !errors.As(err, &wrong) {
		t.Errorf("watts: %v", err)
	}
	if _, err := q.Steer(t.Context(), "", pool.Control{Mode: pool.Paused}); err == nil {
		t.Error("a device without an ID was steered")
	}
	if n := len(q.Steering().Devices); n != 0 {
		t.Errorf("%d devices", n)
	}
}

// Several people decide at once, in one transaction: nobody's decision is lost.
func TestSimultaneousDecisions(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			if _, err := q.Steer(t.Context(), fmt.Sprint("GPU-", i), pool.Control{Mode: pool.Paused}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(q.Steering().Devices); n != 32 {
		t.Errorf("%d decisions of 32", n)
	}
	var rows int
	check(t, q.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM devices").Scan(&rows))
	if rows != 32 {
		t.Errorf("%d rows of 32", rows)
	}
}

// A commit that failed and was made all the same: memory follows the disk, and the scheduler is told.
func TestDecisionWhoseCommitFailedAndWasMade(t *testing.T) {
	t.Parallel()
	var told atomic.Int64
	q, _ := running(t, t.TempDir(), Options{Steered: func() { told.Add(1) }})
	err := q.change(t.Context(), func(b *batch) error {
		b.exec(insertDevice, "GPU-1", `{"mode":"paused"}`)
		b.steer().Devices["GPU-1"] = pool.Control{Mode: pool.Paused}
		b.exec("COMMIT")
		check(t, b.failed)
		b.failed = errDisk
		return nil
	})
	if !errors.Is(err, errDisk) || len(q.Steering().Devices) != 0 {
		t.Fatalf("%v, %+v", err, q.Steering())
	}
	submit(t, q, 1)
	if s := q.Steering(); s.Devices["GPU-1"].Mode != pool.Paused || told.Load() != 1 {
		t.Errorf("%+v, told %d times", s, told.Load())
	}
}
