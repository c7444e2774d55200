// Package queue owns the jobs: it accepts them durably, records every change of their state, and tells one listener about each.
//
// The database is SQLite (WAL, synchronous=FULL) in the data folder. One goroutine, in Run, writes: it commits whatever has
// gathered while the disk was busy as one transaction, and only then answers. Queued and running jobs are mirrored in memory;
// the mirror changes after the commit, never before, so that nobody sees what a crash could take back. Readers use connections
// of their own. The package imports nothing of muster but the nouns.
package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
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
	ErrDisk      = errors.New("the disk does not do what it is asked")
	ErrLocked    = errors.New("data folder is in use")
	ErrClosed    = errors.New("the queue is closed")
	ErrCorrupt   = errors.New("the database is damaged")
)

// DefaultMaxQueued is how many jobs may wait when Options do not say.
const DefaultMaxQueued = 10_000

// Options of a Queue; the zero value works.
type Options struct {
	// Publish gets every changed job, in order of Seq; versions that differ only in Progress or Reason keep the job's Seq and
	// come after it. One goroutine at a time calls it, from Run; while it blocks nothing else is published. nil publishes nothing.
	Publish func([]job.Job)
	// Pruned is called after sets were taken away, before any later change is published, by the goroutine that calls Publish:
	// those who watch should ask Since anew. nil tells nobody.
	Pruned func()
	// Steered is called when what people decided was changed, from the goroutine that writes: it must not block. nil tells nobody.
	Steered func()
	// MakeRoom is called before a submission is refused because the disk is nearly full, with that submission's context and by its
	// goroutine. nil makes none.
	MakeRoom func(ctx context.Context)
	// MaxQueued is how many jobs may wait; 0 is DefaultMaxQueued.
	MaxQueued int
	// Free tells the free and total bytes of the disk that dir is on; nil asks the file system.
	Free func(dir string) (free, total uint64, err error)
	// MinFree is the free bytes below which Submit refuses, by the size of the disk; nil is DefaultMinFree.
	MinFree func(total uint64) uint64
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger // nil discards
}

func (o Options) withDefaults() Options {
	if o.MaxQueued == 0 {
		o.MaxQueued = DefaultMaxQueued
	}
	if o.Free == nil {
		o.Free = diskFree
	}
	if o.MinFree == nil {
		o.MinFree = DefaultMinFree
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Queue owns the jobs. Its methods may be called from any goroutine.
//
// Methods that write wait for Run: before it starts they block until it does or their context ends, after it returned they give
// ErrClosed. When a context ends while its change waits for the disk, the method gives the context's error, and the change is
// either made whole or not at all; Job tells which. Methods that only read work from Open on.
type Queue struct {
	dir     string
	options Options
	lock    *os.File

	writer   *writer // Run's alone
	requests chan *request
	reader   *sql.DB
	mirror   *mirror

	ran     atomic.Bool
	closed  chan struct{} // closed when Run stops taking requests
	unclean bool          // the last agent on this folder did not stop in order
	damage  atomic.Pointer[error]
}

// Open opens the jobs in dir, DIR/muster.db, and makes them when there are none. Jobs that were running are queued again: their
// agent is gone. It writes nothing into a file that is not muster's. Errors: ErrLocked when another agent uses the folder,
// ErrCorrupt when the file is damaged. Run must follow, even if only with an ended context: it is what closes.
func Open(ctx context.Context, dir string, o Options) (*Queue, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		dir:      dir,
		options:  o.withDefaults(),
		lock:     lock,
		requests: make(chan *request),
		closed:   make(chan struct{}),
	}
	if err := q.open(ctx); err != nil {
		q.release()
		return nil, err
	}
	return q, nil
}

func (q *Queue) open(ctx context.Context) error {
	path := filepath.Join(q.dir, databaseName)
	if err := prepareFile(ctx, path); err != nil {
		return err
	}
	q.mirror = newMirror(q.options.Publish != nil)
	var err error
	if q.writer, err = openWriter(ctx, path, q); err != nil {
		return explainDatabase(path, err)
	}
	if q.unclean, err = q.writer.restart(ctx); err != nil {
		return explainDatabase(path, err)
	}
	if q.reader, err = openReaders(ctx, path); err != nil {
		return explainDatabase(path, err)
	}
	return syncFolder(q.dir)
}

// Run writes and publishes until ctx ends; then it commits what it had taken, publishes what is left, closes the database and
// gives the folder free. It returns nil. It can run once.
func (q *Queue) Run(ctx context.Context) error {
	if q.ran.Swap(true) {
		return errors.New("queue: Run was called twice")
	}
	background, stop := context.WithCancel(ctx)
	published := make(chan struct{})
	checked := make(chan struct{})
	last := make(chan struct{}) // closed when nothing more will be committed
	go func() {
		defer close(published)
		q.mirror.publish(last, q.options.Publish, q.options.Pruned)
	}()
	go func() {
		defer close(checked)
		if q.unclean {
			q.check(background)
		}
	}()
	q.write(ctx)
	stop()
	close(last)
	<-published
	<-checked
	if err := q.writer.markStopped(); err != nil {
		q.options.Log.Warn("mark the database as closed in order", "error", err)
	}
	q.release()
	return nil
}

// checkAgain is when the check is done once more that the disk did not let come to its end.
const checkAgain = time.Minute

// check runs SQLite's own check after an unclean stop. Jobs are refused from then on when it finds damage: what would be
// accepted could not be kept.
func (q *Queue) check(ctx context.Context) {
	path := filepath.Join(q.dir, databaseName)
	for {
		began := time.Now()
		err := quickCheck(ctx, q.reader)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			q.options.Log.Info("database is sound after an unclean stop", "took", time.Since(began))
			return
		}
		err = explainDatabase(path, err)
		q.options.Log.Error("check of the database after an unclean stop", "error", err)
		if errors.Is(err, ErrCorrupt) {
			q.damage.Store(&err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkAgain):
		}
	}
}

func (q *Queue) release() {
	if q.reader != nil {
		q.reader.Close()
	}
	if q.writer != nil {
		q.writer.close()
	}
	unlockFolder(q.lock)
}

// Placement is where an attempt runs, and why there.
type Placement struct {
	Device    gpu.Ref
	DeviceKey string // the device's stable ID, "cpu" for the processor
	Backend   string
	Simulated bool
	Reason    string // in words for people
}
