package queue

import (
	"context"
	"fmt"
	"time"

	"muster/shared/job"
)

// Start moves a queued job to Running if it is still at that attempt; the result has the next one. Errors wrap job.ErrTransition
// when it is not, ErrNotFound when there is no such job.
func (q *Queue) Start(ctx context.Context, id string, attempt int, at Placement) (job.Job, error) {
	return q.transition(ctx, id, &attempt, func(b *batch, j job.Job) (job.Job, string) {
		j.State = job.Running
		j.Attempt++
		j.DeviceID, j.DeviceKey = &at.Device, at.DeviceKey
		j.Simulated, j.Backend, j.Reason = at.Simulated, at.Backend, at.Reason
		j.Progress = job.Progress{}
		j.Started = notBefore(j.Created, b.now)
		return j, at.Reason
	})
}

// Succeed ends a running attempt with its image, which must be on the disk already. Errors as Start.
func (q *Queue) Succeed(ctx context.Context, id string, attempt int, imageID string) (job.Job, error) {
	return q.transition(ctx, id, &attempt, func(b *batch, j job.Job) (job.Job, string) {
		j.ImageID = imageID
		j.Error = ""
		j.Progress = complete(j)
		return ended(b, j, job.Succeeded), ""
	})
}

// Fail ends an attempt, or a job that waits, with what a person is told. Errors as Start.
func (q *Queue) Fail(ctx context.Context, id string, attempt int, why string) (job.Job, error) {
	return q.transition(ctx, id, &attempt, func(b *batch, j job.Job) (job.Job, string) {
		j.Error = why
		return ended(b, j, job.Failed), why
	})
}

// Requeue gives a running attempt back to the queue. With countsAsFailure, for the death of its device or backend, why stays in
// Error, and the job fails instead when it was the job.MaxFailures-th. Errors as Start.
func (q *Queue) Requeue(ctx context.Context, id string, attempt int, why string, countsAsFailure bool) (job.Job, error) {
	return q.transition(ctx, id, &attempt, func(b *batch, j job.Job) (job.Job, string) {
		if !countsAsFailure {
			return waiting(j, "queued again: "+why), why
		}
		j.Failures++
		j.Error = why
		if j.Failures >= job.MaxFailures {
			j.Error = fmt.Sprintf("given up after %d attempts that a device or backend did not survive; the last one: %s", j.Failures, why)
			return ended(b, j, job.Failed), why
		}
		return waiting(j, "queued again: "+why), why
	})
}

// Cancel gives up a job that has not ended. It wraps job.ErrTransition when it has, ErrNotFound when there is no such job.
func (q *Queue) Cancel(ctx context.Context, id string) (job.Job, error) {
	return q.transition(ctx, id, nil, func(b *batch, j job.Job) (job.Job, string) {
		j.Reason = "cancelled"
		return ended(b, j, job.Cancelled), ""
	})
}

// transition makes the next version of a job: a compare-and-set on state and attempt (nil is any) with its event, in one transaction.
func (q *Queue) transition(ctx context.Context, id string, attempt *int, next func(*batch, job.Job) (job.Job, string)) (job.Job, error) {
	answers := make(chan job.Job, 1) // not a variable of ours: we may be gone when it is made
	err := q.change(ctx, func(b *batch) error {
		j, err := b.move(id, attempt, next)
		answers <- j
		return err
	})
	if err != nil {
		return job.Job{}, err
	}
	return <-answers, nil
}

func (b *batch) move(id string, attempt *int, next func(*batch, job.Job) (job.Job, string)) (job.Job, error) {
	old, err := b.job(id)
	if err != nil {
		return job.Job{}, err
	}
	j, detail := next(b, old)
	if err := old.State.Check(j.State); err != nil {
		return job.Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	if attempt != nil && *attempt != old.Attempt {
		return job.Job{}, fmt.Errorf("job %s: attempt %d was given up, it is at %d: %w", id, *attempt, old.Attempt, job.ErrTransition)
	}
	return b.update(old, j, detail), b.failed
}

func ended(b *batch, j job.Job, state job.State) job.Job {
	j.State = state
	j.Finished, j.Expected = notBefore(j.Created, b.now), nil
	if j.Started != nil {
		j.Finished = notBefore(*j.Started, b.now)
	}
	if state != job.Succeeded {
		j.Progress = job.Progress{}
	}
	return j
}

// notBefore is the time, or what came before it where the clock was put back since.
func notBefore(before, now time.Time) *time.Time {
	if now.Before(before) {
		return &before
	}
	return &now
}

// waiting is a job that was given back to the queue. It keeps where it ran last.
func waiting(j job.Job, reason string) job.Job {
	j.State = job.Queued
	j.Reason = reason
	j.Started, j.Expected = nil, nil
	j.Progress = job.Progress{}
	return j
}
