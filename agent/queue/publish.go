package queue

import (
	"maps"
	"slices"
	"time"

	"muster/shared/job"
)

// progressInterval is the least time between two versions of a job that are not durable: 4 Hz.
const progressInterval = 250 * time.Millisecond

// publish gives everything that changed to out, until last is closed and nothing is left; before what came after sets were taken
// away, it calls pruned.
func (m *mirror) publish(last <-chan struct{}, out func([]job.Job), pruned func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pass := func(now time.Time) (due time.Duration) {
		jobs, forget, due := m.take(now)
		if forget && pruned != nil {
			pruned()
		}
		if len(jobs) > 0 {
			out(jobs)
		}
		return due
	}
	for {
		timer.Reset(pass(time.Now()))
		select {
		case <-m.wake:
		case <-timer.C:
		case <-last:
			pass(time.Now().Add(progressInterval))
			return
		}
	}
}

// take gives what may be published now, and when there is more. Both come from one instant, so that no version follows a newer one.
func (m *mirror) take(now time.Time) (jobs []job.Job, pruned bool, due time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	jobs, m.outbox = m.outbox, nil
	pruned, m.pruned = m.pruned, false
	due = time.Hour
	for _, id := range slices.Sorted(maps.Keys(m.dirty)) {
		e := m.dirty[id]
		if wait := progressInterval - now.Sub(e.published); wait > 0 && !e.published.IsZero() {
			due = min(due, wait)
			continue
		}
		e.published = now
		delete(m.dirty, id)
		jobs = append(jobs, e.job)
	}
	return jobs, pruned, due
}
