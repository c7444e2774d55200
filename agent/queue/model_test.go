package queue

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/shared/job"
)

func differ(a, b any) string { return cmp.Diff(a, b) }

// model is what the queue must be, in a few lines: states, attempts and failures by id.
type model map[string]*modelled

type modelled struct {
	state             job.State
	attempt, failures int
	ends              int
}

// step makes one random call and says what the model expects of it.
type step struct {
	name    string
	attempt int
	allowed bool
	next    modelled
	call    func() (job.Job, error)
}

func (m model) step(t *testing.T, q *Queue, r *rand.Rand, id string) step {
	now := *m[id]
	attempt := now.attempt
	if r.IntN(4) == 0 {
		attempt += r.IntN(3) - 1 // sometimes one that was given up, or that never was
	}
	next := now
	is := func(s job.State) bool { return now.state == s && attempt == now.attempt }
	switch r.IntN(6) {
	case 0:
		next.state, next.attempt = job.Running, now.attempt+1
		return step{"start", attempt, is(job.Queued), next, func() (job.Job, error) {
			return q.Start(t.Context(), id, attempt, Placement{Device: 1, Backend: "b", Reason: "r"})
		}}
	case 1:
		next.state = job.Succeeded
		return step{"succeed", attempt, is(job.Running), next, func() (job.Job, error) { return q.Succeed(t.Context(), id, attempt, "i-"+id) }}
	case 2:
		next.state = job.Failed
		return step{"fail", attempt, is(job.Running) || is(job.Queued), next, func() (job.Job, error) { return q.Fail(t.Context(), id, attempt, "broken") }}
	case 3:
		next.state = job.Queued
		return step{"requeue", attempt, is(job.Running), next, func() (job.Job, error) { return q.Requeue(t.Context(), id, attempt, "paused", false) }}
	case 4:
		next.state, next.failures = job.Queued, now.failures+1
		if next.failures == job.MaxFailures {
			next.state = job.Failed
		}
		return step{"requeue after a death", attempt, is(job.Running), next, func() (job.Job, error) { return q.Requeue(t.Context(), id, attempt, "died", true) }}
	default:
		next.state = job.Cancelled
		return step{"cancel", attempt, !now.state.Terminal(), next, func() (job.Job, error) { return q.Cancel(t.Context(), id) }}
	}
}

// history checks what is published: Seq rises by one, per job the transitions are allowed ones and it ends once.
type published struct {
	mu   sync.Mutex
	seq  uint64
	jobs map[string]job.Job
	errs []error
}

func (p *published) take(jobs []job.Job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range jobs {
		before, known := p.jobs[j.ID]
		p.jobs[j.ID] = j
		switch {
		case j.Seq == before.Seq: // progress or reason
			if j.State != before.State || j.Attempt != before.Attempt {
				p.errs = append(p.errs, fmt.Errorf("%s changed its state without an event", j.ID))
			}
		case j.Seq != p.seq+1:
			p.errs = append(p.errs, fmt.Errorf("event %d after %d", j.Seq, p.seq))
		case known && before.State.Check(j.State) != nil:
			p.errs = append(p.errs, fmt.Errorf("%s: %w", j.ID, before.State.Check(j.State)))
		}
		p.seq = max(p.seq, j.Seq)
	}
}

func TestRandomCallsAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			dir, m, p := t.TempDir(), model{}, &published{jobs: map[string]job.Job{}}
			q, stop := running(t, dir, Options{Publish: p.take})
			var ids []string
			for n := range 400 {
				if len(ids) == 0 || r.IntN(12) == 0 {
					for _, j := range submit(t, q, 1+r.IntN(4)) {
						m[j.ID] = &modelled{state: job.Queued}
						ids = append(ids, j.ID)
					}
				}
				if r.IntN(100) == 0 {
					stop()
					q, stop = running(t, dir, Options{Publish: p.take})
					m.restart()
				}
				m.one(t, q, r, ids[r.IntN(len(ids))], n)
			}
			m.compare(t, q)
			compareMirror(t, q)
			stop()
			for _, err := range p.errs {
				t.Error(err)
			}
			q, _ = running(t, dir, Options{})
			m.restart()
			m.compare(t, q)
			for id, want := range m {
				if want.ends > 1 {
					t.Errorf("%s ended %d times", id, want.ends)
				}
			}
		})
	}
}

func (m model) one(t *testing.T, q *Queue, r *rand.Rand, id string, n int) {
	t.Helper()
	now := m[id]
	q.Progress(id, now.attempt, job.Progress{Step: n})
	q.Explain(map[string]job.Outlook{id: {Reason: fmt.Sprint("waits, call ", n)}})
	s := m.step(t, q, r, id)
	got, err := s.call()
	if !s.allowed {
		if !errors.Is(err, job.ErrTransition) {
			t.Fatalf("call %d: %s of %+v with attempt %d gave %v", n, s.name, *now, s.attempt, err)
		}
		return
	}
	if err != nil || got.State != s.next.state || got.Attempt != s.next.attempt || got.Failures != s.next.failures {
		t.Fatalf("call %d: %s of %+v with attempt %d gave %+v, %v; want %+v", n, s.name, *now, s.attempt, got, err, s.next)
	}
	if s.next.state.Terminal() {
		s.next.ends++
	}
	*now = s.next
}

func (m model) restart() {
	for _, want := range m {
		if want.state == job.Running {
			want.state = job.Queued
		}
	}
}

func (m model) compare(t *testing.T, q *Queue) {
	t.Helper()
	active := 0
	for _, id := range slices.Sorted(maps.Keys(m)) {
		want := m[id]
		got, err := q.Job(t.Context(), id)
		if err != nil || got.State != want.state || got.Attempt != want.attempt || got.Failures != want.failures {
			t.Errorf("%s is %+v, %v; want %+v", id, got, err, *want)
		}
		if got.State.Terminal() != (got.Finished != nil) || (got.ImageID != "") != (got.State == job.Succeeded) {
			t.Errorf("%s does not fit its state: %+v", id, got)
		}
		if !got.State.Terminal() {
			active++
		}
	}
	if n := len(q.Active()); n != active {
		t.Errorf("%d active jobs, want %d", n, active)
	}
}

// compareMirror checks that memory has what the disk has, apart from what is not durable.
func compareMirror(t *testing.T, q *Queue) {
	t.Helper()
	var s scanner
	rows, err := s.all(q.reader.QueryContext(t.Context(), selectJobs+"WHERE j.state IN ('queued', 'running') ORDER BY j.id"))
	check(t, err)
	memory := q.mirror.current()
	queued := 0
	for i := range memory {
		memory[i].Progress, memory[i].Expected = job.Progress{}, nil
		if memory[i].State == job.Queued {
			queued++
			memory[i].Reason = ""
		}
	}
	for i := range rows {
		if rows[i].State == job.Queued {
			rows[i].Reason = ""
		}
	}
	if len(rows) > 0 || len(memory) > 0 {
		if diff := differ(rows, memory); diff != "" {
			t.Errorf("memory differs from disk: %s", diff)
		}
	}
	var onDisk, floor uint64
	check(t, q.reader.QueryRowContext(t.Context(), selectSeq).Scan(&onDisk, &floor))
	if seq, n := q.mirror.newest(); seq != onDisk || n != queued {
		t.Errorf("memory is at event %d with %d queued, the disk at %d with %d", seq, n, onDisk, queued)
	}
}

// Every job is started by several goroutines at once; one of them gets it.
func TestOneOfManyStarts(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	jobs := submit(t, q, 8)
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for _, j := range jobs {
				_, err := q.Start(t.Context(), j.ID, 0, Placement{Device: 1})
				if err == nil {
					mu.Lock()
					got[j.ID]++
					mu.Unlock()
				} else if !errors.Is(err, job.ErrTransition) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, j := range jobs {
		if got[j.ID] != 1 {
			t.Errorf("%s was started %d times", j.ID, got[j.ID])
		}
	}
}
