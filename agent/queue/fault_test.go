package queue

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"muster/shared/job"
	"muster/shared/pool"
)

// TestEveryCallOfTheDiskFails lets each call into the file system fail in turn, from opening to closing, until a run needs fewer
// calls than that. After each: what was accepted is there once, errors were errors, and once the disk is well the same queue works
// on.
func TestEveryCallOfTheDiskFails(t *testing.T) {
	t.Parallel()
	template := worn(t)
	for first, kind := range everyFault {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			n := 1 + first%stride
			for ; ; n += stride {
				dir := memoryFolder(t)
				check(t, os.CopyFS(dir, os.DirFS(template)))
				if failed := faultyLife(t, dir, kind, n); failed == 0 || t.Failed() {
					break
				}
				check(t, os.RemoveAll(dir))
			}
			if n < 5 {
				t.Errorf("only %d calls: the faults do not reach the database", n)
			}
			t.Logf("%d calls", n)
		})
	}
}

// memoryFolder gives a folder in memory where there is such a thing: what is tested makes its own faults, and a real disk's syncs
// take their time.
func memoryFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "muster-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// worn gives a folder as a crash leaves it, with a log so long that the next commit begins a checkpoint.
func worn(t *testing.T) string {
	t.Helper()
	dir, copied := memoryFolder(t), memoryFolder(t)
	q, _ := running(t, dir, Options{})
	made(t, q, "a")
	j := submit(t, q, 1)[0]
	for info := (os.FileInfo)(nil); info == nil || info.Size() < 1001*4120; { // frames are a page and 24 bytes
		var err error
		j, err = q.Requeue(t.Context(), j.ID, start(t, q, j).Attempt, "worn", false)
		check(t, err)
		info, err = os.Stat(filepath.Join(dir, databaseName+"-wal"))
		check(t, err)
	}
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(copied, name), text, 0o600))
	}
	return copied
}

// faultyLife opens, works and closes while the n-th call fails, and gives how many calls failed.
func faultyLife(t *testing.T, dir string, kind fault, n int) (failed int) {
	t.Helper()
	disk := newFaultyDisk(t, dir, kind)
	defer func() {
		if t.Failed() {
			t.Logf("call %d", n)
		}
	}()
	disk.arm(n)
	q, err := Open(t.Context(), dir, spacious(Options{}))
	if err != nil {
		notDamage(t, "open", err)
		failed = disk.mend()
		if q, err = Open(t.Context(), dir, spacious(Options{})); err != nil {
			t.Fatalf("open when the disk is well again: %v", err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	w := &worker{t: t, q: q, keys: map[string][]string{}, states: map[string][]job.State{}}
	w.work()
	if n%2 == 0 { // sometimes the disk is well only after the end
		failed += disk.mend()
		w.work()
		w.verify(q)
	}
	stop()
	check(t, <-done)
	failed += disk.mend()
	q, _ = running(t, dir, Options{})
	w.q = q
	w.verify(q)
	w.work()
	w.verify(q)
	for _, state := range w.states {
		if len(state) != 1 {
			t.Errorf("uncertain after everything was done again: %v", state)
		}
	}
	check(t, quickCheck(t.Context(), q.reader))
	compareMirror(t, q)
	var twice int
	check(t, q.reader.QueryRowContext(t.Context(), `SELECT count(*) FROM (SELECT 1 FROM events WHERE state IN ('succeeded', 'failed', 'cancelled')
		GROUP BY job_id HAVING count(*) > 1)`).Scan(&twice))
	if twice != 0 {
		t.Errorf("%d jobs ended twice", twice)
	}
	return failed
}

func notDamage(t *testing.T, what string, err error) {
	t.Helper()
	if errors.Is(err, ErrCorrupt) {
		t.Errorf("%s: a fault of the disk is taken for damage: %v", what, err)
	}
}

// worker does the same things each time it works, like a client that repeats what failed, and remembers what may be true.
type worker struct {
	t      *testing.T
	q      *Queue
	keys   map[string][]string    // what was accepted
	states map[string][]job.State // by job: in which of these it is; one when it was acknowledged
	paused bool
}

func (w *worker) work() {
	w.t.Helper()
	for _, key := range []string{"a", "b"} {
		jobs, _, err := w.q.Submit(w.t.Context(), key, spec(2), spec(2))
		if err != nil {
			notDamage(w.t, "submit", err)
			continue
		}
		if w.keys[key] == nil {
			w.keys[key] = ids(jobs)
			for _, j := range jobs {
				if w.states[j.ID] == nil {
					w.states[j.ID] = []job.State{job.Queued}
				}
			}
		} else if !slices.Equal(ids(jobs), w.keys[key]) {
			w.t.Errorf("key %s: %v, accepted were %v", key, ids(jobs), w.keys[key])
		}
		w.finish(jobs[0].ID, job.Succeeded)
		w.finish(jobs[1].ID, job.Cancelled)
	}
	if _, err := w.q.Steer(w.t.Context(), "GPU-1", pool.Control{Mode: pool.Paused}); err == nil {
		w.paused = true
	} else {
		notDamage(w.t, "steer", err)
	}
	if _, err := w.q.Prune(w.t.Context(), Limits{Age: 365 * 24 * time.Hour}); err != nil {
		notDamage(w.t, "prune", err)
	}
}

// finish brings a job from wherever it is to its end.
func (w *worker) finish(id string, end job.State) {
	w.t.Helper()
	do := func(to job.State, change func() (job.Job, error)) bool {
		_, err := change()
		switch {
		case err == nil:
			w.states[id] = []job.State{to}
		case errors.Is(err, job.ErrTransition) && slices.Contains(w.states[id], to): // it was made after all
			w.states[id] = []job.State{to}
		default:
			notDamage(w.t, string(to), err)
			w.states[id] = append(w.states[id], to)
			return false
		}
		return true
	}
	j, err := w.q.Job(w.t.Context(), id)
	if err != nil {
		notDamage(w.t, "read", err)
		return
	}
	if !slices.Contains(w.states[id], j.State) && (j.State != job.Queued || !slices.Contains(w.states[id], job.Running)) { // running ones are queued by a restart
		w.t.Errorf("%s is %s, and may be %v", id, j.State, w.states[id])
	}
	w.states[id] = []job.State{j.State}
	if j.State == job.Queued && end == job.Succeeded && do(job.Running, func() (job.Job, error) { return w.q.Start(w.t.Context(), id, j.Attempt, Placement{}) }) {
		j.State, j.Attempt = job.Running, j.Attempt+1
	}
	switch {
	case j.State == job.Running:
		do(job.Succeeded, func() (job.Job, error) { return w.q.Succeed(w.t.Context(), id, j.Attempt, "image-"+id) })
	case j.State == job.Queued && end == job.Cancelled:
		do(job.Cancelled, func() (job.Job, error) { return w.q.Cancel(w.t.Context(), id) })
	}
}

// verify compares a healthy queue with what was acknowledged.
func (w *worker) verify(q *Queue) {
	w.t.Helper()
	for key, want := range w.keys {
		jobs, created, err := q.Submit(w.t.Context(), key, spec(2), spec(2))
		if err != nil || created || !slices.Equal(ids(jobs), want) {
			w.t.Errorf("accepted set %s: created=%v, %v, %v; want %v", key, created, ids(jobs), err, want)
		}
	}
	for id, may := range w.states {
		j, err := q.Job(w.t.Context(), id)
		if err != nil || !slices.Contains(may, j.State) && !(j.State == job.Queued && slices.Contains(may, job.Running)) {
			w.t.Errorf("%s is %s, %v; it may be %v", id, j.State, err, may)
		}
	}
	if _, ok := q.Steering().Devices["GPU-1"]; w.paused && !ok {
		w.t.Error("a decision is lost")
	}
	var sets int
	check(w.t, q.reader.QueryRowContext(w.t.Context(), "SELECT count(*) FROM sets").Scan(&sets))
	if sets > 2+2 || sets < 2+len(w.keys) {
		w.t.Errorf("%d sets; 2 were there, %d were accepted", sets, len(w.keys))
	}
	if len(q.Active()) == 0 {
		w.t.Error("the job that waits is gone")
	}
}
