package agent

import (
	"context"
	"log/slog"
	"time"

	"muster/agent/images"
	"muster/agent/queue"
)

const (
	// sweepEvery is how often what was kept long enough is looked for.
	sweepEvery = time.Hour
	// orphanAge is how old an image that no job names must be before its file goes: it may belong to a job that is just ending.
	// A crash between the image's rename and the job's commit leaves such images, and so does one between the end of a job's rows
	// and its image's.
	orphanAge = time.Hour
	// roomEvery is how often a nearly full disk makes submissions wait for a sweep.
	roomEvery = time.Minute
)

// retention takes away what was kept long enough: sets that have ended, then the images that no job names any more. Rows go
// before files, so that no job ever names an image that is gone.
type retention struct {
	jobs  *queue.Queue
	store *images.Store
	age   time.Duration // 0 keeps jobs for ever
	bytes int64         // of images; 0 is no limit
	log   *slog.Logger

	turn chan struct{} // of size 1: held while sweeping; guards the rest
	last time.Time     // end of the newest sweep that was to make room
}

func newRetention(jobs *queue.Queue, store *images.Store, age time.Duration, bytes int64, log *slog.Logger) *retention {
	return &retention{jobs: jobs, store: store, age: age, bytes: bytes, log: log, turn: make(chan struct{}, 1)}
}

// run sweeps at once and every hour until ctx ends.
func (r *retention) run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case r.turn <- struct{}{}:
			r.sweep(ctx)
			<-r.turn
		case <-ctx.Done():
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// makeRoom sweeps because the disk is nearly full, at most once in roomEvery. Nothing goes that the limits would keep; without
// limits it does nothing.
func (r *retention) makeRoom(ctx context.Context) {
	if r.age == 0 && r.bytes == 0 {
		return
	}
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-r.turn }()
	if r.last.IsZero() || time.Since(r.last) >= roomEvery {
		r.sweep(ctx)
		r.last = time.Now()
	}
}

// sweep gives how many images it removed.
func (r *retention) sweep(ctx context.Context) (removed int) {
	swept, err := r.store.Sweep(ctx, func(id string) bool {
		used, err := r.jobs.References(ctx, id)
		return used || err != nil
	}, orphanAge)
	r.report(ctx, "sweep of images that no job names", err)
	removed = swept.Removed
	limits := queue.Limits{Age: r.age, Size: r.store.Size}
	if r.bytes > 0 && err == nil {
		limits.Bytes = max(0, swept.Kept-r.bytes)
	}
	pruned, err := r.jobs.Prune(ctx, limits)
	r.report(ctx, "removal of jobs that were kept long enough", err)
	for _, id := range pruned.Images {
		gone, err := r.store.Remove(id, orphanAge)
		r.report(ctx, "removal of their images", err)
		if gone {
			removed++
		}
	}
	if removed > 0 || pruned.Sets > 0 {
		r.log.Info("removed what was kept long enough", "sets", pruned.Sets, "jobs", pruned.Jobs, "images", removed)
	}
	return removed
}

func (r *retention) report(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		r.log.Warn(what, "error", err)
	}
}
