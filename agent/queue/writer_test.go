package queue

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"

	"muster/shared/job"
)

var errDisk = errors.New("fsync: input/output error")

// The disk reports an error of a commit that it made all the same: memory must follow the disk, and the key must find the jobs.
func TestCommitThatFailedAndWasMade(t *testing.T) {
	t.Parallel()
	p := &published{jobs: map[string]job.Job{}}
	q, stop := running(t, t.TempDir(), Options{Publish: p.take})
	j := submit(t, q, 1)[0]
	err := q.change(t.Context(), func(b *batch) error {
		_, _, err := b.submit(asCommand(t, "k", spec(3)))
		check(t, err)
		current, _ := b.job(j.ID)
		b.update(current, ended(b, current, job.Cancelled), "")
		b.exec("COMMIT")
		check(t, b.failed)
		b.failed = errDisk
		return nil
	})
	if !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if n := len(q.Active()); n != 1 {
		t.Errorf("memory went ahead: %d active jobs", n)
	}
	jobs, created, err := q.Submit(t.Context(), "k", spec(3), spec(3))
	if err != nil || created || len(jobs) != 3 {
		t.Errorf("the key: %d jobs, created=%v, %v", len(jobs), created, err)
	}
	if n := len(q.Active()); n != 3 {
		t.Errorf("%d active jobs, want 3", n)
	}
	compareMirror(t, q)
	stop()
	if p.seq != 5 || len(p.errs) > 0 || p.missing > 0 {
		t.Errorf("published up to event %d, %v", p.seq, p.errs)
	}
}

func TestFailedTransactionLeavesNothing(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	j := submit(t, q, 1)[0]
	err := q.change(t.Context(), func(b *batch) error {
		_, _, err := b.submit(asCommand(t, "k", spec(3)))
		check(t, err)
		b.failed = errDisk
		return nil
	})
	if !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	compareMirror(t, q)
	if _, created, err := q.Submit(t.Context(), "k", spec(2), spec(2)); err != nil || !created {
		t.Errorf("the key of what failed: created=%v, %v", created, err)
	}
	start(t, q, j)
	compareMirror(t, q)
}

// A connection that can't even roll back is replaced.
func TestStuckConnection(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	submit(t, q, 1)
	var stuck *sql.Conn
	err := q.change(t.Context(), func(b *batch) error {
		_, _, err := b.submit(asCommand(t, "k", spec(1)))
		check(t, err)
		stuck = b.w.conn
		check(t, b.w.prepared["ROLLBACK"].Close())
		b.failed = errDisk
		return nil
	})
	if !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	submit(t, q, 2)
	compareMirror(t, q)
	if n := len(q.Active()); n != 3 || q.writer.conn == stuck {
		t.Errorf("%d active jobs, the same connection=%v", n, q.writer.conn == stuck)
	}
}

// Memory and disk that disagree are damage, not a lost race: nothing is written on top.
func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	j := submit(t, q, 1)[0]
	check(t, q.change(t.Context(), func(b *batch) error {
		_, err := b.w.conn.ExecContext(uncancelled, "UPDATE jobs SET attempt = 7")
		return err
	}))
	if _, err := q.Start(t.Context(), j.ID, 0, Placement{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("start: %v", err)
	}
	var state string
	check(t, q.reader.QueryRowContext(t.Context(), "SELECT state FROM jobs").Scan(&state))
	if state != string(job.Queued) {
		t.Errorf("state %s", state)
	}
}

// A caller that goes away while its change waits for the disk gets its context's error, and the change is whole or absent.
func TestCallerThatGoesAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		made bool // the transaction is under way when the caller goes
	}{{"before the writer comes to it", false}, {"while the disk works", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, err := Open(t.Context(), t.TempDir(), spacious(Options{}))
			check(t, err)
			leaves, leave := context.WithCancel(t.Context())
			gone := make(chan error)
			go func() {
				_, _, err := q.Submit(leaves, "k", spec(3), spec(3))
				gone <- err
			}()
			submission := <-q.requests // the test is the writer
			left := func() {
				leave()
				if err := <-gone; !errors.Is(err, context.Canceled) {
					t.Errorf("the caller got %v", err)
				}
			}
			if !c.made {
				left()
			}
			q.commit([]*request{submission, {done: make(chan error, 1), do: func(*batch) error {
				if c.made {
					left()
				}
				return nil
			}}})
			compareMirror(t, q)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- q.Run(ctx) }()
			jobs, created, err := q.Submit(t.Context(), "k", spec(3), spec(3))
			if err != nil || len(jobs) != 3 || created == c.made || len(q.Active()) != 3 {
				t.Errorf("%d jobs, created=%v, %d active, %v", len(jobs), created, len(q.Active()), err)
			}
			cancel()
			check(t, <-done)
		})
	}
}

// What Run had taken when its context ended is answered, the rest gets ErrClosed; the disk has what was answered.
func TestStopInTheMiddle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	var mu sync.Mutex
	accepted := map[string]bool{}
	var all sync.WaitGroup
	started := make(chan struct{}, 1000)
	for range 8 {
		all.Go(func() {
			for {
				jobs, _, err := q.Submit(t.Context(), "", spec(1), spec(1))
				if errors.Is(err, ErrClosed) {
					return
				}
				check(t, err)
				mu.Lock()
				accepted[jobs[0].ID] = true
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 50 {
		<-started
	}
	stop()
	all.Wait()
	q, _ = running(t, dir, Options{})
	active := q.Active()
	for _, j := range active {
		delete(accepted, j.ID)
	}
	if len(accepted) != 0 {
		t.Errorf("%d accepted jobs are lost of %d", len(accepted), len(active))
	}
}
