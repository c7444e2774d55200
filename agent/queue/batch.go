package queue

import (
	"database/sql"
	"fmt"
	"time"

	"muster/shared/job"
	"muster/shared/pool"
)

// batch is one transaction being made. Changes first check everything and then write, so that one that is refused leaves nothing.
type batch struct {
	q       *Queue // nil while the queue opens
	w       *writer
	now     time.Time // UTC, whole milliseconds, as the database keeps it
	seq     uint64
	queued  int
	staged  map[string]job.Job // newest version within this transaction
	changed []job.Job          // all of them, in order of Seq
	// steering is what people decided from this transaction on; nil when it changes nothing of that.
	steering *pool.Steering
	floor    uint64 // number of the event that took sets away; 0 when none was
	failed   error  // of the disk or of the database: the whole transaction is lost
}

// exec runs a prepared statement; after the first failure it does nothing.
func (b *batch) exec(text string, args ...any) sql.Result {
	if b.failed != nil {
		return nil
	}
	result, err := b.w.prepared[text].ExecContext(uncancelled, args...)
	b.failed = err
	return result
}

// count gives the number that a statement counts; 0 after a failure.
func (b *batch) count(text string, args ...any) (n int) {
	if b.failed == nil {
		b.failed = b.w.prepared[text].QueryRowContext(uncancelled, args...).Scan(&n)
	}
	return n
}

func (b *batch) jobs(text string, args ...any) []job.Job {
	if b.failed != nil {
		return nil
	}
	var s scanner
	jobs, err := s.all(b.w.prepared[text].QueryContext(uncancelled, args...))
	b.failed = err
	return jobs
}

// job gives the version that this transaction sees.
func (b *batch) job(id string) (job.Job, error) {
	if j, ok := b.staged[id]; ok {
		return j, nil
	}
	if j, ok := b.w.mirror.get(id); ok {
		return j, nil
	}
	found := b.jobs(selectJob, id)
	if b.failed != nil {
		return job.Job{}, b.failed
	}
	if len(found) == 0 {
		return job.Job{}, fmt.Errorf("job %q: %w", id, ErrNotFound)
	}
	return found[0], nil
}

func (b *batch) insert(j job.Job) job.Job {
	b.seq++
	j.Seq = b.seq
	b.exec(insertJob, j.ID, j.SetID, j.Ordinal, j.Seq, string(j.State), j.Attempt, j.Failures, device(j), j.DeviceKey, j.Simulated,
		j.Backend, j.Seed, j.Reason, j.ImageID, j.Error, j.Created.UnixMilli(), milliseconds(j.Started), milliseconds(j.Finished))
	b.record(j, j.Reason)
	return j
}

// update writes the next version of a job if the database still holds the state and attempt of the one before.
func (b *batch) update(old, next job.Job, detail string) job.Job {
	b.seq++
	next.Seq = b.seq
	result := b.exec(updateJob, next.Seq, string(next.State), next.Attempt, next.Failures, device(next), next.DeviceKey, next.Simulated,
		next.Backend, next.Reason, next.ImageID, next.Error, milliseconds(next.Started), milliseconds(next.Finished),
		old.ID, string(old.State), old.Attempt)
	if b.failed == nil {
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			b.failed = fmt.Errorf("job %s is not %s at attempt %d on the disk as it is in memory (%d rows): %w", old.ID, old.State, old.Attempt, n, ErrCorrupt)
		}
	}
	if old.State == job.Queued {
		b.queued--
	}
	b.record(next, detail)
	return next
}

func (b *batch) record(j job.Job, detail string) {
	b.exec(insertEvent, j.Seq, j.ID, string(j.State), j.Attempt, b.now.UnixMilli(), detail)
	if j.State == job.Queued {
		b.queued++
	}
	b.staged[j.ID] = j
	b.changed = append(b.changed, j)
}

// requeueRunning gives the jobs of an agent that is gone back to the queue. Its death is not the job's failure.
func (b *batch) requeueRunning() {
	for _, j := range b.w.mirror.current() {
		if j.State == job.Running {
			const why = "queued again: the agent was restarted while it ran"
			b.update(j, waiting(j, why), why)
		}
	}
}
