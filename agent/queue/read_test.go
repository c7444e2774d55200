package queue

import (
	"context"
	"errors"
	"slices"
	"testing"

	"muster/shared/job"
)

func ids(jobs []job.Job) []string {
	list := make([]string, len(jobs))
	for i, j := range jobs {
		list[i] = j.ID
	}
	return list
}

func TestListPages(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	var all, set, cancelled []string
	for n := range 5 {
		jobs := submit(t, q, 5)
		all = append(all, ids(jobs)...)
		if n == 2 {
			set = ids(jobs)
		}
		_, err := q.Cancel(t.Context(), jobs[n].ID)
		check(t, err)
		cancelled = append(cancelled, jobs[n].ID)
	}
	reversed := func(list []string) []string { list = slices.Clone(list); slices.Reverse(list); return list }
	third, err := q.Job(t.Context(), set[0])
	check(t, err)
	for _, c := range []struct {
		name string
		in   Filter
		want []string
	}{
		{"all", Filter{}, all},
		{"newest first", Filter{Newest: true}, reversed(all)},
		{"a set", Filter{SetID: third.SetID}, set},
		{"a state", Filter{State: job.Cancelled}, cancelled},
		{"a state, newest first", Filter{State: job.Cancelled, Newest: true}, reversed(cancelled)},
		{"a state of a set", Filter{State: job.Cancelled, SetID: third.SetID}, cancelled[2:3]},
		{"nothing", Filter{State: job.Failed}, nil},
		{"no such set", Filter{SetID: "x"}, nil},
	} {
		for _, limit := range []int{0, 1, 2, 7, 25, 5000} {
			var got []string
			f := c.in
			f.Limit = limit
			for pages := 0; ; pages++ {
				jobs, next, err := q.List(t.Context(), f)
				check(t, err)
				got = append(got, ids(jobs)...)
				if limit > 0 && len(jobs) > limit || pages > 30 {
					t.Fatalf("%s by %d: page %d has %d jobs", c.name, limit, pages, len(jobs))
				}
				if next == "" {
					break
				}
				f.After = next
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s by %d: %v, want %v", c.name, limit, got, c.want)
			}
		}
	}
}

func TestReadsShowProgressAndReason(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	jobs := submit(t, q, 2)
	runs := start(t, q, jobs[0])
	eta := 1.5
	q.Progress(runs.ID, runs.Attempt, job.Progress{Step: 3, Steps: 20, ETASeconds: &eta})
	q.Progress(runs.ID, runs.Attempt-1, job.Progress{Step: 19})
	eta = 99 // the caller's memory is no longer the queue's
	q.Explain(map[string]job.Outlook{jobs[1].ID: {Reason: "waits for GPU 0"}, runs.ID: {Reason: "it runs"}, "nonsense": {Reason: "x"}})
	list, _, err := q.List(t.Context(), Filter{})
	check(t, err)
	since, _, _, err := q.Since(t.Context(), runs.Seq-1, 0)
	check(t, err)
	one, err := q.Job(t.Context(), runs.ID)
	check(t, err)
	for name, got := range map[string]job.Job{"List": list[0], "Job": one, "Since": since[len(since)-1]} {
		if got.ID != runs.ID || got.Progress.Step != 3 || *got.Progress.ETASeconds != 1.5 || got.Reason != "idle" || got.Seq != runs.Seq {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if list[1].Reason != "waits for GPU 0" || list[1].Seq != jobs[1].Seq {
		t.Errorf("reason %q", list[1].Reason)
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	a := submit(t, q, 4) // events 1 to 4
	for _, j := range a[:3] {
		_, err := q.Cancel(t.Context(), j.ID) // 5 to 7
		check(t, err)
	}
	b := submit(t, q, 1)[0] // 8
	b = start(t, q, b)      // 9
	for _, c := range []struct {
		name     string
		seq      uint64
		limit    int
		want     []string // in order of Seq; a[3] and b are active
		complete bool
	}{
		{"from the start", 0, 0, []string{a[3].ID, a[0].ID, a[1].ID, a[2].ID, b.ID}, true},
		{"nothing new", 9, 0, []string{a[3].ID, b.ID}, false},
		{"one change", 6, 0, []string{a[3].ID, a[2].ID, b.ID}, false},
		{"as many as the limit", 6, 2, []string{a[3].ID, a[2].ID, b.ID}, false},
		{"more than the limit", 5, 2, []string{a[3].ID, b.ID}, true},
		{"ahead of us", 10, 0, []string{a[3].ID, a[0].ID, a[1].ID, a[2].ID, b.ID}, true},
		{"far ahead of us", 1 << 62, 1, []string{a[3].ID, b.ID}, true},
		{"beyond what SQLite counts", 1<<64 - 1, 1, []string{a[3].ID, b.ID}, true},
	} {
		jobs, newest, complete, err := q.Since(t.Context(), c.seq, c.limit)
		check(t, err)
		if !slices.Equal(ids(jobs), c.want) || newest != 9 || complete != c.complete {
			t.Errorf("%s: %v newest=%d complete=%v; want %v complete=%v", c.name, ids(jobs), newest, complete, c.want, c.complete)
		}
	}
	stop() // b runs: the restart makes event 10
	q, _ = running(t, dir, Options{})
	jobs, newest, complete, err := q.Since(t.Context(), 9, 0)
	check(t, err)
	if last := jobs[len(jobs)-1]; newest != 10 || complete || last.ID != b.ID || last.State != job.Queued || last.Seq != 10 {
		t.Errorf("over a restart: %+v newest=%d complete=%v", last, newest, complete)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	q, stop := running(t, t.TempDir(), Options{})
	jobs := submit(t, q, 3)
	type answer struct {
		job job.Job
		err error
	}
	wait := func(ctx context.Context, id string) chan answer {
		c := make(chan answer, 1)
		go func() {
			j, err := q.Wait(ctx, id)
			c <- answer{j, err}
		}()
		return c
	}
	first, second := wait(t.Context(), jobs[0].ID), wait(t.Context(), jobs[0].ID)
	brief, cancel := context.WithCancel(t.Context())
	given := wait(brief, jobs[1].ID)
	rest := wait(t.Context(), jobs[2].ID)
	_, err := q.Succeed(t.Context(), jobs[0].ID, start(t, q, jobs[0]).Attempt, "i")
	check(t, err)
	for _, c := range []chan answer{first, second, wait(t.Context(), jobs[0].ID)} {
		if a := <-c; a.err != nil || a.job.State != job.Succeeded || a.job.ImageID != "i" {
			t.Errorf("%+v", a)
		}
	}
	cancel()
	if a := <-given; !errors.Is(a.err, context.Canceled) {
		t.Errorf("after the context: %v", a.err)
	}
	if a := <-wait(t.Context(), "nonsense"); !errors.Is(a.err, ErrNotFound) {
		t.Errorf("no such job: %v", a.err)
	}
	stop()
	if a := <-rest; !errors.Is(a.err, ErrClosed) {
		t.Errorf("after Run: %v", a.err)
	}
}

// A page is found through an index, never by reading every job.
func TestReadsUseIndices(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	texts := map[string][]any{selectJob: {""}, selectSet: {""}, selectState: {""}, selectAfter: {0, 1}, selectKey: {""}, selectSession: {[]byte{}, 0}, selectLastID: {}, selectEnded: {1}, selectImages: {""}, countImage: {""}, trimEvents: {1, 1}}
	for _, f := range []Filter{{State: job.Queued, After: "x"}, {SetID: "s"}, {SetID: "s", State: job.Failed, Newest: true, After: "x"}, {State: job.Failed, Newest: true}} {
		text, args := f.query(10)
		texts[text] = args
	}
	for text, args := range texts {
		rows, err := q.reader.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, args...)
		check(t, err)
		for rows.Next() {
			var id, parent, unused int
			var detail string
			check(t, rows.Scan(&id, &parent, &unused, &detail))
			if detail == "SCAN j" || detail == "SCAN s" || detail == "USE TEMP B-TREE FOR ORDER BY" {
				t.Errorf("%s: %s", text, detail)
			}
		}
		rows.Close()
	}
}
