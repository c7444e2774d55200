package queue

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"muster/shared/job"
)

// Limits of List and Since.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Filter chooses jobs of List.
type Filter struct {
	State  job.State // "" is any
	SetID  string    // "" is any
	Limit  int       // jobs per page; 0 is DefaultLimit, more than MaxLimit is MaxLimit
	After  string    // id of the last job of the page before; "" is the first page
	Newest bool      // newest first
}

// Progress tells how far a running attempt is; of another attempt it is ignored. It is not durable, never blocks, and is published
// at most four times a second per job; the last of a burst always is.
func (q *Queue) Progress(id string, attempt int, p job.Progress) { q.mirror.progress(id, attempt, p) }

// Explain tells by id why queued jobs wait, and when queued and running ones are expected; of others it is ignored. It is not
// durable, never blocks, and publishes only what changed, at most four times a second per job. Expected is dropped when a job ends
// or is given back.
func (q *Queue) Explain(outlooks map[string]job.Outlook) { q.mirror.explain(outlooks) }

// Active gives the queued and running jobs, oldest first, from memory. Nobody may change the slice: everyone gets the same until the
// next durable change. What is not durable (Progress, Expected, the Reason of those that wait) may be as old as that; Job gives the newest.
func (q *Queue) Active() []job.Job { return q.mirror.active() }

// Job gives the newest version of a job, or ErrNotFound.
func (q *Queue) Job(ctx context.Context, id string) (job.Job, error) {
	if j, ok := q.mirror.get(id); ok {
		return j, nil
	}
	found, err := q.read(ctx, selectJob, id)
	if err != nil {
		return job.Job{}, err
	}
	if len(found) == 0 {
		return job.Job{}, fmt.Errorf("job %q: %w", id, ErrNotFound)
	}
	return found[0], nil
}

// List gives one page of jobs, oldest first unless f.Newest. next is what to pass as After for the following page, "" at the end.
func (q *Queue) List(ctx context.Context, f Filter) (jobs []job.Job, next string, err error) {
	limit := clamp(f.Limit)
	text, args := f.query(limit + 1)
	if jobs, err = q.read(ctx, text, args...); err != nil {
		return nil, "", err
	}
	if len(jobs) > limit {
		jobs = jobs[:limit]
		next = jobs[limit-1].ID
	}
	return jobs, next, nil
}

// Export gives every job that f chooses to each, in order of id; f.Limit and f.Newest do not count. It reads in pages, so that it
// may take as long as each does: what is submitted meanwhile is in it, what is pruned meanwhile may be. An error of each ends it.
func (q *Queue) Export(ctx context.Context, f Filter, each func(job.Job) error) error {
	f.Limit, f.Newest = MaxLimit, false
	for {
		jobs, next, err := q.List(ctx, f)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if err := each(j); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		f.After = next
	}
}

func (f Filter) query(limit int) (string, []any) {
	var conditions []string
	var args []any
	add := func(condition string, value any) {
		conditions = append(conditions, condition)
		args = append(args, value)
	}
	if f.State != "" {
		add("j.state = ?", string(f.State))
	}
	if f.SetID != "" {
		add("j.set_id = ?", f.SetID)
	}
	order := "ASC"
	switch {
	case f.Newest && f.After != "":
		add("j.id < ?", f.After)
	case f.After != "":
		add("j.id > ?", f.After)
	}
	if f.Newest {
		order = "DESC"
	}
	text := selectJobs
	if len(conditions) > 0 {
		text += "WHERE " + strings.Join(conditions, " AND ")
	}
	return text + " ORDER BY j.id " + order + " LIMIT ?", append(args, limit)
}

func clamp(limit int) int {
	if limit <= 0 {
		return DefaultLimit
	}
	return min(limit, MaxLimit)
}

// Since gives the newest versions of the jobs that changed after seq and of all active ones, in order of Seq, and the number of
// the newest event to resume from; none of them is newer, so subscribe to Publish first. complete says that the caller must drop
// what it had: seq is 0 or ahead of us, jobs were pruned since, or more than limit jobs changed; then they are the newest limit
// jobs and all active ones. limit is as Filter.Limit.
func (q *Queue) Since(ctx context.Context, seq uint64, limit int) (jobs []job.Job, newest uint64, complete bool, err error) {
	limit = clamp(limit)
	newest, _ = q.mirror.newest() // before the reads
	complete = seq == 0 || seq > newest || seq < q.mirror.prunedAt()
	if !complete {
		if jobs, err = q.read(ctx, selectAfter, seq, limit+1); err != nil {
			return nil, 0, false, err
		}
		complete = len(jobs) > limit
	}
	if complete {
		if jobs, err = q.read(ctx, selectNewest, limit); err != nil {
			return nil, 0, false, err
		}
	}
	// What changes meanwhile is left to Publish: a caller that resumes from the highest number it was given would otherwise
	// miss the changes between newest and that one.
	jobs = slices.DeleteFunc(merge(jobs, q.mirror.current()), func(j job.Job) bool { return j.Seq > newest })
	return jobs, newest, complete, nil
}

// merge keeps the newer version of each job, of equal ones that from memory, in order of Seq.
func merge(disk, memory []job.Job) []job.Job {
	at := make(map[string]int, len(disk))
	for i, j := range disk {
		at[j.ID] = i
	}
	for _, j := range memory {
		i, both := at[j.ID]
		switch {
		case !both:
			disk = append(disk, j)
		case j.Seq >= disk[i].Seq:
			disk[i] = j
		}
	}
	slices.SortFunc(disk, func(a, b job.Job) int { return cmp.Compare(a.Seq, b.Seq) })
	return disk
}

// Wait blocks until the job has ended and gives it. Errors: ErrNotFound, ErrClosed, the context's.
func (q *Queue) Wait(ctx context.Context, id string) (job.Job, error) {
	for {
		end := q.mirror.end(id)
		if end == nil {
			j, err := q.Job(ctx, id)
			if err != nil || j.State.Terminal() {
				return j, err
			}
			// It was committed this instant and is not in the mirror yet.
			soon := make(chan struct{})
			time.AfterFunc(time.Millisecond, func() { close(soon) })
			end = soon
		}
		select {
		case <-end:
		case <-ctx.Done():
			return job.Job{}, ctx.Err()
		case <-q.closed:
			return job.Job{}, ErrClosed
		}
	}
}

// References tells whether any job has that image.
func (q *Queue) References(ctx context.Context, imageID string) (bool, error) {
	var n int
	err := q.reader.QueryRowContext(ctx, countImage, imageID).Scan(&n)
	if err != nil {
		return false, q.readError(ctx, err)
	}
	return n > 0, nil
}

// read gives jobs from the disk with what memory knows beyond it.
func (q *Queue) read(ctx context.Context, text string, args ...any) ([]job.Job, error) {
	var s scanner
	jobs, err := s.all(q.reader.QueryContext(ctx, text, args...))
	if err != nil {
		return nil, q.readError(ctx, err)
	}
	for i := range jobs {
		jobs[i] = q.mirror.overlay(jobs[i])
	}
	return jobs, nil
}

func (q *Queue) readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-q.closed:
		return ErrClosed
	default:
		return explainDatabase(filepath.Join(q.dir, databaseName), err)
	}
}
