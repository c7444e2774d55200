package queue

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/shared/job"
	"muster/shared/pool"
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

// published checks what is published: Seq rises, per job the transitions are allowed ones and it ends once.
type published struct {
	mu      sync.Mutex
	seq     uint64
	jobs    map[string]job.Job
	errs    []error
	missing uint64 // numbers that no job had
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
		case j.Seq <= p.seq:
			p.errs = append(p.errs, fmt.Errorf("event %d after %d", j.Seq, p.seq))
		case known && before.State.Check(j.State) != nil:
			p.errs = append(p.errs, fmt.Errorf("%s: %w", j.ID, before.State.Check(j.State)))
		}
		if j.Seq > p.seq {
			p.missing += j.Seq - p.seq - 1
			p.seq = j.Seq
		}
	}
}

// machine is a queue, its model, and everything around them that may go wrong.
type machine struct {
	t     *testing.T
	r     *rand.Rand
	clock *clock
	dir   string
	q     *Queue
	stop  func()
	model model
	sets  map[string][]string // ids of the jobs of each set that was not pruned
	ids   []string            // of all jobs ever, in order of submission
	steer map[string]pool.Control
	told  *published
	calls int
	prune uint64 // transactions that took sets away: each has a number of its own
}

func TestRandomCallsAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &machine{t: t, r: rand.New(rand.NewPCG(seed, 1)), clock: newClock(), dir: t.TempDir(), model: model{},
				sets: map[string][]string{}, steer: map[string]pool.Control{}, told: &published{jobs: map[string]job.Job{}}}
			m.open()
			for range 500 {
				m.step()
			}
			m.verify()
			m.reopen()
			m.verify()
			m.stop()
			for _, err := range m.told.errs {
				t.Error(err)
			}
			if m.told.missing > m.prune {
				t.Errorf("%d numbers of events are missing, %d were taken by what was pruned", m.told.missing, m.prune)
			}
			if m.prune == 0 || len(m.model) == 0 {
				t.Errorf("%d times something was pruned, %d jobs are left: the test tests too little", m.prune, len(m.model))
			}
		})
	}
}

func (m *machine) open() {
	m.t.Helper()
	m.q, m.stop = running(m.t, m.dir, Options{Publish: m.told.take, Now: m.clock.now})
}

func (m *machine) reopen() {
	m.t.Helper()
	m.stop()
	m.open()
	m.model.restart()
}

// crash goes on with a copy of the files as they were at an instant of the running queue.
func (m *machine) crash() {
	m.t.Helper()
	copied := m.t.TempDir()
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		text, err := os.ReadFile(filepath.Join(m.dir, name))
		check(m.t, err)
		check(m.t, os.WriteFile(filepath.Join(copied, name), text, 0o600))
	}
	m.stop()
	m.dir = copied
	m.open()
	m.model.restart()
}

func (m *machine) step() {
	m.t.Helper()
	m.calls++
	m.clock.advance(time.Duration(m.r.IntN(3)) * time.Second)
	switch n := m.r.IntN(100); {
	case n < 8 || len(m.model) == 0:
		m.submit()
	case n < 9:
		m.reopen()
	case n < 10:
		m.crash()
	case n < 14:
		m.clock.advance(time.Duration(1-2*m.r.IntN(2)) * time.Hour)
	case n < 18:
		m.decide()
	case n < 22:
		m.pruneByAge()
	case n < 23:
		m.pruneByBytes()
	default:
		id := slices.Sorted(maps.Keys(m.model))[m.r.IntN(len(m.model))]
		m.model.one(m.t, m.q, m.r, id, m.calls)
	}
}

func (m *machine) submit() {
	m.t.Helper()
	jobs := submit(m.t, m.q, 1+m.r.IntN(4))
	for _, j := range jobs {
		if last := len(m.ids) - 1; last >= 0 && j.ID <= m.ids[last] {
			m.t.Errorf("call %d: id %s after %s", m.calls, j.ID, m.ids[last])
		}
		if !j.Created.Equal(m.clock.now()) {
			m.t.Errorf("call %d: created %s, it is %s", m.calls, j.Created, m.clock.now())
		}
		m.ids = append(m.ids, j.ID)
		m.model[j.ID] = &modelled{state: job.Queued}
	}
	m.sets[jobs[0].SetID] = ids(jobs)
}

func (m *machine) decide() {
	m.t.Helper()
	device := fmt.Sprint("GPU-", m.r.IntN(3))
	c := pool.Control{Mode: pool.Modes[m.r.IntN(len(pool.Modes))], Yield: m.r.IntN(2) == 0}
	_, err := m.q.Steer(m.t.Context(), device, c)
	check(m.t, err)
	if delete(m.steer, device); !c.IsZero() {
		m.steer[device] = c
	}
}

// ended gives when the last job of a set ended; ok is false when one has not.
func (m *machine) ended(set string) (at time.Time, ok bool) {
	m.t.Helper()
	for _, id := range m.sets[set] {
		j, err := m.q.Job(m.t.Context(), id)
		check(m.t, err)
		if !j.State.Terminal() {
			return at, false
		}
		if j.Finished.After(at) {
			at = *j.Finished
		}
	}
	return at, true
}

func (m *machine) pruneByAge() {
	m.t.Helper()
	age := time.Duration(1+m.r.IntN(600)) * time.Second
	var want []string
	for set := range m.sets {
		if at, ok := m.ended(set); ok && !at.After(m.clock.now().Add(-age)) {
			want = append(want, set)
		}
	}
	done, err := m.q.Prune(m.t.Context(), Limits{Age: age})
	if err != nil || done.Sets != len(want) {
		m.t.Errorf("call %d: pruned %d sets of age %s, %v; want %d", m.calls, done.Sets, age, err, len(want))
	}
	m.forget(want)
}

func (m *machine) pruneByBytes() {
	m.t.Helper()
	bytes := int64(1 + m.r.IntN(3))
	done, err := m.q.Prune(m.t.Context(), Limits{Bytes: bytes, Size: func(string) int64 { return 1 }})
	check(m.t, err)
	var gone, left []string
	for set, jobs := range m.sets {
		if _, err := m.q.Job(m.t.Context(), jobs[0]); errors.Is(err, ErrNotFound) {
			gone = append(gone, set)
		} else if at, ok := m.ended(set); ok {
			left = append(left, at.String())
		}
	}
	if len(gone) != done.Sets || len(done.Images) < int(bytes) && len(left) > 0 {
		m.t.Errorf("call %d: %d sets are gone, %+v, %d that ended are left", m.calls, len(gone), done, len(left))
	}
	m.forget(gone)
}

func (m *machine) forget(sets []string) {
	m.t.Helper()
	if len(sets) > 0 {
		m.prune++
	}
	for _, set := range sets {
		for _, id := range m.sets[set] {
			if !m.model[id].state.Terminal() {
				m.t.Errorf("call %d: %s was pruned and is %s", m.calls, id, m.model[id].state)
			}
			delete(m.model, id)
			if _, err := m.q.Job(m.t.Context(), id); !errors.Is(err, ErrNotFound) {
				m.t.Errorf("call %d: %s was pruned and is there: %v", m.calls, id, err)
			}
		}
		delete(m.sets, set)
	}
}

func (m *machine) verify() {
	m.t.Helper()
	m.model.compare(m.t, m.q)
	compareMirror(m.t, m.q)
	if diff := differ(m.steer, m.q.Steering().Devices); diff != "" {
		m.t.Errorf("decisions: %s", diff)
	}
	for id, want := range m.model {
		if want.ends > 1 {
			m.t.Errorf("%s ended %d times", id, want.ends)
		}
	}
	var twice int
	check(m.t, m.q.reader.QueryRowContext(m.t.Context(), `SELECT count(*) FROM (SELECT 1 FROM events WHERE state IN ('succeeded', 'failed', 'cancelled')
		GROUP BY job_id HAVING count(*) > 1)`).Scan(&twice))
	if twice != 0 {
		m.t.Errorf("%d jobs ended twice", twice)
	}
}

func (m model) one(t *testing.T, q *Queue, r *rand.Rand, id string, n int) {
	t.Helper()
	now := m[id]
	q.Progress(id, now.attempt, job.Progress{Step: n})
	at := time.Unix(int64(n), 0)
	q.Explain(map[string]job.Outlook{id: {Reason: fmt.Sprint("waits, call ", n), Expected: &job.Expected{At: at, Early: at, Late: at}}})
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
	if got.State != job.Running && got.Expected != nil {
		t.Errorf("call %d: %s is %s and expected", n, id, got.State)
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
		if got.Started != nil && got.Started.Before(got.Created) || got.Finished != nil && (got.Finished.Before(got.Created) || got.Started != nil && got.Finished.Before(*got.Started)) {
			t.Errorf("%s was created %s, started %v, finished %v", id, got.Created, got.Started, got.Finished)
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
