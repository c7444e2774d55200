package queue

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"muster/shared/job"
)

// inUse is the heap after a collection.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A full queue of single images with long prompts of their own costs what its texts cost, and little more.
func TestMemoryOfAFullQueue(t *testing.T) { // not parallel: it measures the heap of the process
	q, stop := running(t, memoryFolder(t), Options{Publish: func([]job.Job) {}})
	before := inUse()
	const jobs, prompt = DefaultMaxQueued / 4, 1000 // a quarter takes a quarter: to write them all takes long under -race
	for n := 0; n < jobs; n += maxBatch {
		check(t, q.change(t.Context(), func(b *batch) error {
			for i := range min(maxBatch, jobs-n) {
				s := spec(1)
				s.Prompt = fmt.Sprintf("%0*d", prompt, n+i)
				if _, _, err := b.submit(asCommand(t, fmt.Sprint("key-", n+i), s)); err != nil {
					return err
				}
			}
			return b.failed
		}))
	}
	if n := len(q.Active()); n != jobs { // what the scheduler holds is counted too
		t.Fatalf("%d jobs", n)
	}
	const budget = 3000 // bytes a job: 30 MB of a full queue, 10 of them prompts
	if each := (inUse() - before) / jobs; each > budget {
		t.Errorf("a queued job takes %d bytes, the budget is %d", each, budget)
	} else {
		t.Logf("%d bytes a job", each)
	}
	runtime.KeepAlive(q.Active())
	stop()
}

// 10,000 programs submit at once: as many as may wait are accepted, the others are told so, and nothing grows with them.
func TestTenThousandSubmissionsAtOnce(t *testing.T) {
	const clients, places = 10_000, 1_000
	q, stop := running(t, memoryFolder(t), Options{MaxQueued: places})
	before := inUse()
	var accepted, full atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for range clients {
		all.Go(func() {
			<-start
			_, created, err := q.Submit(t.Context(), "", spec(1), spec(1))
			switch {
			case err == nil && created:
				accepted.Add(1)
			case errors.Is(err, ErrFull):
				full.Add(1)
			default:
				t.Errorf("created=%v, %v", created, err)
			}
		})
	}
	close(start)
	all.Wait()
	if accepted.Load() != places || full.Load() != clients-places || len(q.Active()) != places {
		t.Errorf("%d accepted, %d refused, %d wait; want %d, %d, %d", accepted.Load(), full.Load(), len(q.Active()), places, clients-places, places)
	}
	compareMirror(t, q)
	const budget = 20 << 20
	if grown := inUse() - before; grown > budget {
		t.Errorf("%d bytes are left in use, the budget is %d", grown, budget)
	}
	stop()
}

// 1,000 jobs are cancelled at once while a scheduler starts and ends them as fast as it can: each ends once, as one of the two
// would have it.
func TestThousandCancelsWhileTheyStart(t *testing.T) {
	t.Parallel()
	q, _ := running(t, memoryFolder(t), Options{})
	var jobs []job.Job
	for len(jobs) < 1000 {
		jobs = append(jobs, submit(t, q, 8)...)
	}
	var cancelled, made atomic.Int64
	lost := func(err error) bool {
		if err != nil && !errors.Is(err, job.ErrTransition) {
			t.Error(err)
		}
		return err != nil
	}
	var all sync.WaitGroup
	for device := range 4 {
		all.Go(func() {
			for i := device; i < len(jobs); i += 4 {
				j, err := q.Start(t.Context(), jobs[i].ID, 0, Placement{})
				if lost(err) {
					continue
				}
				if _, err := q.Succeed(t.Context(), j.ID, j.Attempt, "i"); !lost(err) {
					made.Add(1)
				}
			}
		})
	}
	for _, j := range jobs {
		all.Go(func() {
			if _, err := q.Cancel(t.Context(), j.ID); !lost(err) {
				cancelled.Add(1)
			}
		})
	}
	all.Wait()
	if cancelled.Load()+made.Load() != int64(len(jobs)) || len(q.Active()) != 0 {
		t.Errorf("%d cancelled, %d made of %d; %d are active", cancelled.Load(), made.Load(), len(jobs), len(q.Active()))
	}
	for state, want := range map[job.State]int64{job.Cancelled: cancelled.Load(), job.Succeeded: made.Load()} {
		var rows, events int64
		check(t, q.reader.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM jobs WHERE state = ?), (SELECT count(*) FROM events WHERE state = ?)", string(state), string(state)).Scan(&rows, &events))
		if rows != want || events != want {
			t.Errorf("%s: %d jobs, %d events; %d were told", state, rows, events, want)
		}
	}
	compareMirror(t, q)
}
