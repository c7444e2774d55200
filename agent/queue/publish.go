package queue

import (
	"maps"
	"slices"
	"time"

	"muster/shared/job"
)

// progressInterval is the least time between two versions of a job that are not durable: 4 Hz.
const progressInterval = 250 * time.Millisecond

// publish gives everything that changed to out, until last is closed and nothing is left.
func (m *mirror) publish(last <-chan struct{}, out func([]job.Job)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		jobs, due := m.take(time.Now())
		if len(jobs) > 0 {
			out(jobs)
		}
		timer.Reset(due)
		select {
		case <-m.wake:
		case <-timer.C:
		case <-last:
			if jobs, _ := m.take(time.Now().Add(progressInterval)); len(jobs) > 0 {
				out(jobs)
			}
			return
		}
	}
}

// take gives what may be published now, and when there is more. Both come from one instant, so that no version follows a newer one.
func (m *mirror) take(now time.Time) (jobs []job.Job, due time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	jobs, m.outbox = m.outbox, nil
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
	return jobs, due
}
