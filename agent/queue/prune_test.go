package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"muster/shared/job"
)

// clock is a wall clock that a test sets.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// made gives a set of images that have ended now, each succeeded one with the image of that name; "" is one that was cancelled.
func made(t testing.TB, q *Queue, images ...string) (jobs []job.Job) {
	t.Helper()
	check(t, q.change(t.Context(), func(b *batch) error { // in one transaction: many take their time
		var err error
		if jobs, _, err = b.submit(asCommand(t, "", spec(len(images)))); err != nil {
			return err
		}
		for i, image := range images {
			next := ended(b, jobs[i], job.Cancelled)
			if image != "" {
				jobs[i] = b.update(jobs[i], jobs[i], "")
				next = ended(b, jobs[i], job.Succeeded)
				next.ImageID = image
			}
			jobs[i] = b.update(jobs[i], next, "")
		}
		return b.failed
	}))
	return jobs
}

func exists(t testing.TB, q *Queue, jobs []job.Job) int {
	t.Helper()
	n := 0
	for _, j := range jobs {
		_, err := q.Job(t.Context(), j.ID)
		if err == nil {
			n++
		} else if !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	return n
}

func TestPruneByAge(t *testing.T) {
	t.Parallel()
	c := newClock()
	q, _ := running(t, t.TempDir(), Options{Now: c.now})
	old := made(t, q, "a", "b", "")
	half := made(t, q, "c", "a")
	waits := submit(t, q, 2) // one of them ends, the other never does
	_, err := q.Cancel(t.Context(), waits[0].ID)
	check(t, err)
	runs := submit(t, q, 1)
	start(t, q, runs[0])
	late := submit(t, q, 2)
	_, err = q.Cancel(t.Context(), late[0].ID)
	check(t, err)
	c.advance(time.Hour)
	_, err = q.Cancel(t.Context(), late[1].ID) // the set's age is that of its last job
	check(t, err)
	young := made(t, q, "b")
	c.advance(time.Hour)
	done, err := q.Prune(t.Context(), Limits{Age: 2*time.Hour + time.Millisecond})
	if err != nil || done.Sets != 0 {
		t.Fatalf("a millisecond too early: %+v, %v", done, err)
	}
	done, err = q.Prune(t.Context(), Limits{Age: 2 * time.Hour})
	slices.Sort(done.Images)
	if err != nil || done.Sets != 2 || done.Jobs != 5 || !slices.Equal(done.Images, []string{"a", "c"}) {
		t.Errorf("pruned %+v, %v; want 2 sets of 5 jobs, with images a and c: b is named still", done, err)
	}
	for name, set := range map[string][]job.Job{"half waits": waits, "runs": runs, "ended later": late, "young": young} {
		if n := exists(t, q, set); n != len(set) {
			t.Errorf("%s: %d of %d jobs are left", name, n, len(set))
		}
	}
	if n := exists(t, q, append(old, half...)); n != 0 {
		t.Errorf("%d jobs of pruned sets are left", n)
	}
	for table, want := range map[string]int{"sets": 4, "jobs": 6, "events": 2 + 1 + 1 + 1 + 2 + 2 + 3} {
		var n int
		check(t, q.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
		if n != want {
			t.Errorf("%d rows of %s, want %d", n, table, want)
		}
	}
	compareMirror(t, q)
}

func TestPruneByBytes(t *testing.T) {
	t.Parallel()
	c := newClock()
	q, _ := running(t, t.TempDir(), Options{Now: c.now})
	var sets [][]job.Job
	for n := range 90 { // more than one transaction takes
		images := []string{fmt.Sprint("x", n), "shared"}
		sets = append(sets, made(t, q, images...))
		c.advance(time.Second)
	}
	active := submit(t, q, 1)
	size := func(id string) int64 {
		if id == "shared" {
			return 1 << 40 // never freed while one set names it
		}
		return 10
	}
	done, err := q.Prune(t.Context(), Limits{Bytes: 701, Size: size})
	if err != nil || done.Sets != 71 || len(done.Images) != 71 || slices.Contains(done.Images, "shared") {
		t.Fatalf("%d sets, %d images, %v; want 71", done.Sets, len(done.Images), err)
	}
	for n, set := range sets {
		want := 2
		if n <= 70 {
			want = 0
		}
		if got := exists(t, q, set); got != want {
			t.Errorf("set %d has %d jobs, want %d: the oldest go first", n, got, want)
		}
	}
	done, err = q.Prune(t.Context(), Limits{Bytes: 1 << 50, Size: size})
	if err != nil || done.Sets != 19 || !slices.Contains(done.Images, "shared") {
		t.Errorf("everything that ended: %d sets, %v", done.Sets, err)
	}
	if exists(t, q, active) != 1 {
		t.Error("a job that waits was pruned")
	}
	if done, err := q.Prune(t.Context(), Limits{}); err != nil || done.Sets != 0 {
		t.Errorf("no limits: %+v, %v", done, err)
	}
}

// Numbers of events and ids of jobs never repeat, also when nothing is left to count from and the clock fell back.
func TestNumbersGoOnWhenEverythingWasPruned(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	var seen []job.Job
	var pruned atomic.Int64
	o := Options{Now: c.now, Pruned: func() { pruned.Add(1) }}
	for round := range 3 {
		q, stop := running(t, dir, o)
		jobs := made(t, q, "a", "")
		for _, j := range jobs {
			if last := len(seen) - 1; last >= 0 && (j.ID <= seen[last].ID || j.Seq <= seen[last].Seq) {
				t.Errorf("round %d: %s at %d after %s at %d", round, j.ID, j.Seq, seen[last].ID, seen[last].Seq)
			}
			seen = append(seen, j)
		}
		newest, _ := q.mirror.newest()
		c.advance(time.Minute)
		if done, err := q.Prune(t.Context(), Limits{Age: time.Second}); err != nil || done.Jobs != 2 {
			t.Fatalf("%+v, %v", done, err)
		}
		if after, _ := q.mirror.newest(); after != newest+1 {
			t.Errorf("event %d after %d: what was taken away has a number", after, newest)
		}
		compareMirror(t, q)
		stop()
		if pruned.Load() != int64(round+1) {
			t.Errorf("told %d times after %d", pruned.Load(), round+1)
		}
		c.advance(-24 * time.Hour)
	}
}

func TestClientsLearnWhatWasPruned(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	q, stop := running(t, dir, Options{Now: c.now})
	gone := made(t, q, "a")
	c.advance(time.Hour)
	stays := made(t, q, "b")[0]
	before := stays.Seq
	if _, _, complete, _ := q.Since(t.Context(), before, 0); complete {
		t.Error("complete before anything was pruned")
	}
	_, err := q.Prune(t.Context(), Limits{Age: time.Minute})
	check(t, err)
	for _, when := range []string{"at once", "after a restart"} {
		jobs, newest, complete, err := q.Since(t.Context(), before, 0)
		if err != nil || !complete || len(jobs) != 1 || jobs[0].ID != stays.ID || newest <= before {
			t.Errorf("%s: %d jobs, newest %d, complete=%v, %v", when, len(jobs), newest, complete, err)
		}
		if _, _, complete, _ := q.Since(t.Context(), newest, 0); complete {
			t.Errorf("%s: complete, though it knows of the pruning", when)
		}
		stop()
		q, stop = running(t, dir, Options{Now: c.now})
	}
	if exists(t, q, gone) != 0 {
		t.Error("it is back")
	}
}

// Whoever chose the set, the transaction looks once more: one that has not ended stays.
func TestPruneNeverTakesWhatHasNotEnded(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	waits, runs := submit(t, q, 2), submit(t, q, 1)
	_, err := q.Cancel(t.Context(), waits[0].ID)
	check(t, err)
	start(t, q, runs[0])
	check(t, q.change(t.Context(), func(b *batch) error {
		var done Pruned
		for _, set := range []string{waits[0].SetID, runs[0].SetID, "nonsense"} {
			b.prune(endedSet{id: set, old: true}, &done)
		}
		if done.Jobs != 0 {
			t.Errorf("%+v", done)
		}
		return b.failed
	}))
	if exists(t, q, append(waits, runs...)) != 3 {
		t.Error("jobs are gone")
	}
	compareMirror(t, q)
}

// The key of a pruned set is free: the same command makes new images.
func TestKeyOfAPrunedSet(t *testing.T) {
	t.Parallel()
	c := newClock()
	q, _ := running(t, t.TempDir(), Options{Now: c.now})
	first, _, err := q.Submit(t.Context(), "k", spec(1), spec(1))
	check(t, err)
	_, err = q.Cancel(t.Context(), first[0].ID)
	check(t, err)
	c.advance(time.Hour)
	_, err = q.Prune(t.Context(), Limits{Age: time.Minute})
	check(t, err)
	again, created, err := q.Submit(t.Context(), "k", spec(2), spec(2))
	if err != nil || !created || len(again) != 2 {
		t.Errorf("%d jobs, created=%v, %v", len(again), created, err)
	}
}

func TestPruneStopsWithItsContext(t *testing.T) {
	t.Parallel()
	c := newClock()
	q, _ := running(t, t.TempDir(), Options{Now: c.now})
	for range 3 * pruneBatch {
		made(t, q, "a")
		c.advance(time.Second)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, err := q.Prune(ctx, Limits{Bytes: 1 << 40, Size: func(string) int64 { cancel(); return 0 }})
	if !errors.Is(err, context.Canceled) || done.Sets > pruneBatch {
		t.Errorf("%d sets, %v", done.Sets, err)
	}
	compareMirror(t, q)
	damage := error(ErrCorrupt)
	q.damage.Store(&damage)
	if done, err := q.Prune(t.Context(), Limits{Age: time.Nanosecond}); !errors.Is(err, ErrCorrupt) || done.Sets != 0 {
		t.Errorf("a damaged database: %+v, %v", done, err)
	}
}

// Events of long ago go, those of jobs that have not ended stay.
func TestOldEventsAreTrimmed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	waits := submit(t, q, 1)
	ended := made(t, q, "a", "b")
	check(t, q.change(t.Context(), func(b *batch) error { // as if very much had happened since
		b.seq += keepEvents + trimBatch
		j, err := b.job(waits[0].ID)
		check(t, err)
		b.update(j, j, "")
		return b.failed
	}))
	done, err := q.Prune(t.Context(), Limits{})
	if err != nil || done.Events != 6 || done.Jobs != 0 {
		t.Errorf("%+v, %v; want 6 events", done, err)
	}
	if exists(t, q, append(ended, waits...)) != 3 {
		t.Error("jobs went with their events")
	}
	compareMirror(t, q)
	stop()
	q, _ = running(t, dir, Options{})
	compareMirror(t, q)
}

func TestExport(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	var want []string
	for range 70 { // more than a page
		want = append(want, ids(submit(t, q, job.MaxCount))...)
	}
	var got []string
	check(t, q.Export(t.Context(), Filter{Newest: true, Limit: 3}, func(j job.Job) error {
		if len(got) == 0 { // the database is not held while it is written out
			submit(t, q, 1)
		}
		got = append(got, j.ID)
		return nil
	}))
	if len(got) != len(want)+1 || !slices.Equal(got[:len(want)], want) {
		t.Errorf("%d jobs of %d, in order=%v", len(got), len(want)+1, slices.IsSorted(got))
	}
	one, err := q.Job(t.Context(), want[0])
	check(t, err)
	got = nil
	full := errors.New("pipe is closed")
	err = q.Export(t.Context(), Filter{SetID: one.SetID}, func(j job.Job) error {
		got = append(got, j.ID)
		if len(got) == 5 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || !slices.Equal(got, want[:5]) {
		t.Errorf("a set: %v, %v", got, err)
	}
}

func TestRoomIsMadeBeforeRefusing(t *testing.T) {
	t.Parallel()
	var free, asked atomic.Int64
	var helps atomic.Bool
	q, _ := running(t, t.TempDir(), Options{
		Free: func(string) (uint64, uint64, error) { return uint64(free.Load()), 100e9, nil },
		MakeRoom: func(context.Context) {
			asked.Add(1)
			if helps.Load() {
				free.Store(50e9)
			}
		},
	})
	if _, _, err := q.Submit(t.Context(), "", spec(1), spec(1)); !errors.Is(err, ErrDiskFull) || asked.Load() != 1 {
		t.Errorf("no room: %v, asked %d times", err, asked.Load())
	}
	helps.Store(true)
	for range 2 { // the second has room already
		if jobs := submit(t, q, 2); len(jobs) != 2 || asked.Load() != 2 {
			t.Errorf("%d jobs, asked %d times", len(jobs), asked.Load())
		}
	}
}
