package queue

import (
	"cmp"
	"reflect"
	"slices"
	"sync"
	"time"

	"muster/shared/job"
	"muster/shared/pool"
)

// entry is a queued or running job in memory. Its job is replaced, never changed.
type entry struct {
	job       job.Job
	published time.Time // of the last version that was not durable; monotonic
}

// mirror holds the queued and running jobs as the database does, and on top of that what is not durable: Progress, Expected, and the
// Reason of those that wait.
type mirror struct {
	wake   chan struct{} // of size 1: there may be something to publish
	listen bool          // somebody publishes

	mu       sync.RWMutex
	byID     map[string]*entry
	ordered  []*entry  // by id, which is by submission
	shown    []job.Job // what active gave last; nil when something durable changed since
	seq      uint64    // of the newest durable event
	floor    uint64    // of the newest that took sets away; 0 when none ever was
	queued   int
	steering *pool.Steering    // replaced, never changed
	pruned   bool              // not yet published that sets were taken away
	outbox   []job.Job         // durable versions not yet published, in order of Seq
	dirty    map[string]*entry // those whose newest version that is not durable is not yet published
	ends     map[string]chan struct{}
}

func newMirror(listen bool) *mirror {
	return &mirror{
		wake:     make(chan struct{}, 1),
		listen:   listen,
		byID:     map[string]*entry{},
		dirty:    map[string]*entry{},
		ends:     map[string]chan struct{}{},
		steering: &pool.Steering{Devices: map[string]pool.Control{}},
	}
}

// committed is what a transaction changed.
type committed struct {
	jobs     []job.Job      // in order of Seq
	seq      uint64         // of the newest event
	floor    uint64         // as in mirror; 0 when it did not change
	steering *pool.Steering // nil when it did not change
}

// load fills an empty mirror from the database; nothing of it is published.
func (m *mirror) load(all committed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range all.jobs {
		m.put(j)
	}
	m.seq, m.floor, m.steering = all.seq, all.floor, all.steering
}

// apply takes over what was committed. steered says that what people decided is another than before.
func (m *mirror) apply(c committed) (steered bool) {
	m.mu.Lock()
	defer m.nudge()
	defer m.mu.Unlock()
	for _, j := range c.jobs {
		j = m.put(j)
		delete(m.dirty, j.ID)
		if m.listen {
			m.outbox = append(m.outbox, j)
		}
	}
	m.seq = max(m.seq, c.seq)
	if c.floor > m.floor {
		m.floor, m.pruned = c.floor, true
	}
	if c.steering == nil || reflect.DeepEqual(c.steering, m.steering) {
		return false
	}
	m.steering = c.steering
	return true
}

// put is called with mu held. It gives the version as it is in memory.
func (m *mirror) put(j job.Job) job.Job {
	m.shown = nil
	e, known := m.byID[j.ID]
	if known && j.State == job.Running {
		j.Expected = e.job.Expected // it may have been told while the disk worked
	}
	if known && e.job.State == job.Queued {
		m.queued--
	}
	if j.State == job.Queued {
		m.queued++
	}
	switch {
	case j.State.Terminal():
		if known {
			delete(m.byID, j.ID)
			at, _ := m.find(j.ID)
			m.ordered = slices.Delete(m.ordered, at, at+1)
		}
		if end, ok := m.ends[j.ID]; ok {
			close(end)
			delete(m.ends, j.ID)
		}
	case known:
		e.job = j
	default:
		e = &entry{job: j}
		m.byID[j.ID] = e
		at, _ := m.find(j.ID)
		m.ordered = slices.Insert(m.ordered, at, e)
	}
	return j
}

func (m *mirror) find(id string) (int, bool) {
	return slices.BinarySearchFunc(m.ordered, id, func(e *entry, id string) int { return cmp.Compare(e.job.ID, id) })
}

func (m *mirror) get(id string) (job.Job, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.byID[id]
	if !ok {
		return job.Job{}, false
	}
	return e.job, true
}

// overlay gives what memory knows beyond the database's version of a job: its progress and why it waits.
func (m *mirror) overlay(j job.Job) job.Job {
	if newer, ok := m.get(j.ID); ok && newer.Seq == j.Seq {
		return newer
	}
	return j
}

// active gives the versions of the last durable change, the same slice until the next one: with a full queue a copy takes
// milliseconds and megabytes.
func (m *mirror) active() []job.Job {
	m.mu.RLock()
	shown := m.shown
	m.mu.RUnlock()
	if shown != nil {
		return shown
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown == nil {
		m.shown = m.copy()
	}
	return m.shown
}

// current gives the newest versions; the slice is the caller's.
func (m *mirror) current() []job.Job {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.copy()
}

// copy is called with mu held, if only to read.
func (m *mirror) copy() []job.Job {
	jobs := make([]job.Job, len(m.ordered))
	for i, e := range m.ordered {
		jobs[i] = e.job
	}
	return jobs
}

// prunedAt is the number of the newest event that took sets away; 0 when none ever was.
func (m *mirror) prunedAt() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.floor
}

func (m *mirror) decided() *pool.Steering {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.steering
}

func (m *mirror) newest() (seq uint64, queued int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.seq, m.queued
}

// end gives a channel that is closed when the job ends; nil when it is not active.
func (m *mirror) end(id string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.byID[id]; !ok {
		return nil
	}
	if m.ends[id] == nil {
		m.ends[id] = make(chan struct{})
	}
	return m.ends[id]
}

// progress replaces the progress of that attempt, if it still runs.
func (m *mirror) progress(id string, attempt int, p job.Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byID[id]
	if !ok || e.job.State != job.Running || e.job.Attempt != attempt {
		return
	}
	if p.ETASeconds != nil {
		eta := *p.ETASeconds // the caller's may change
		p.ETASeconds = &eta
	}
	e.job.Progress = p
	m.touch(e)
}

// explain replaces what differs: the reasons of queued jobs, and when active ones are expected.
func (m *mirror) explain(outlooks map[string]job.Outlook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, outlook := range outlooks {
		e, ok := m.byID[id]
		if !ok {
			continue
		}
		reason := e.job.Reason
		if outlook.Reason != "" && e.job.State == job.Queued {
			reason = outlook.Reason
		}
		if reason == e.job.Reason && same(outlook.Expected, e.job.Expected) {
			continue
		}
		e.job.Reason, e.job.Expected = reason, nil
		if outlook.Expected != nil {
			own := *outlook.Expected
			e.job.Expected = &own
		}
		m.touch(e)
	}
}

func same(a, b *job.Expected) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.At.Equal(b.At) && a.Early.Equal(b.Early) && a.Late.Equal(b.Late)
}

// touch is called with mu held.
func (m *mirror) touch(e *entry) {
	if !m.listen {
		return
	}
	m.dirty[e.job.ID] = e
	m.nudge()
}

func (m *mirror) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
