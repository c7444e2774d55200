package queue

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

// What callers branch on.
var (
	ErrNotFound  = errors.New("no such job")
	ErrKeyReused = errors.New("this idempotency key was used for another command")
	ErrFull      = errors.New("the queue is full")
	ErrDiskFull  = errors.New("the disk is nearly full")
	ErrLocked    = errors.New("data folder is in use")
	ErrClosed    = errors.New("the queue is closed")
	ErrCorrupt   = errors.New("the database is damaged")
)

// Options of a Queue; the zero value works.
type Options struct {
	// Publish gets every changed job, in order of Seq. One goroutine at a time calls it; it must not block.
	Publish func([]job.Job)
	// MaxQueued is how many jobs may wait; 0 is 10,000.
	MaxQueued int
	// Free tells the free and total bytes of the disk that dir is on; nil asks the file system.
	Free func(dir string) (free, total uint64, err error)
	// MinFree is the free bytes below which Submit refuses, by the size of the disk; nil is DefaultMinFree.
	MinFree func(total uint64) uint64
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger // nil discards
}

// Placement is where an attempt runs, and why there.
type Placement struct {
	Device    gpu.Ref
	DeviceKey string // the device's stable ID, "cpu" for the processor
	Backend   string
	Simulated bool
	Reason    string // in words for people
}

// Filter chooses jobs of List.
type Filter struct {
	State  job.State // "" is any
	SetID  string    // "" is any
	Limit  int       // jobs per page; 0 is 100, at most 1,000
	After  string    // id of the last job of the page before; "" is the first page
	Newest bool      // newest first
}

// Queue owns the jobs.
type Queue struct{}

func Open(ctx context.Context, dir string, o Options) (*Queue, error) { return nil, ErrClosed }
func (q *Queue) Run(ctx context.Context) error                        { return ErrClosed }
func (q *Queue) Submit(ctx context.Context, key string, spec job.Spec) (jobs []job.Job, created bool, err error) {
	return nil, false, ErrClosed
}
func (q *Queue) Start(ctx context.Context, id string, attempt int, at Placement) (job.Job, error) {
	return job.Job{}, ErrClosed
}
func (q *Queue) Progress(id string, attempt int, p job.Progress) {}
func (q *Queue) Explain(reasons map[string]string)               {}
func (q *Queue) Succeed(ctx context.Context, id string, attempt int, imageID string) (job.Job, error) {
	return job.Job{}, ErrClosed
}
func (q *Queue) Fail(ctx context.Context, id string, attempt int, why string) (job.Job, error) {
	return job.Job{}, ErrClosed
}
func (q *Queue) Requeue(ctx context.Context, id string, attempt int, why string, countsAsFailure bool) (job.Job, error) {
	return job.Job{}, ErrClosed
}
func (q *Queue) Cancel(ctx context.Context, id string) (job.Job, error) { return job.Job{}, ErrClosed }
func (q *Queue) Job(ctx context.Context, id string) (job.Job, error)    { return job.Job{}, ErrClosed }
func (q *Queue) List(ctx context.Context, f Filter) (jobs []job.Job, next string, err error) {
	return nil, "", ErrClosed
}
func (q *Queue) Active() []job.Job { return nil }
func (q *Queue) Since(ctx context.Context, seq uint64, limit int) (jobs []job.Job, newest uint64, complete bool, err error) {
	return nil, 0, false, ErrClosed
}
func (q *Queue) Wait(ctx context.Context, id string) (job.Job, error) { return job.Job{}, ErrClosed }
func (q *Queue) PutSession(ctx context.Context, hash [32]byte, label string, expires time.Time) error {
	return ErrClosed
}
func (q *Queue) Session(ctx context.Context, hash [32]byte) (ok bool, err error) {
	return false, ErrClosed
}
func (q *Queue) DeleteSession(ctx context.Context, hash [32]byte) error { return ErrClosed }
