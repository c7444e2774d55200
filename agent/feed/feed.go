// Package feed fans out what the agent publishes: each event is encoded once per format, whatever the number of subscribers, and
// only when a subscriber of that format takes it.
//
// A subscriber never has a backlog. It gets the newest inventory, capacity, library, details and snapshot, and of every job that changed the newest
// version; how much changed while it was busy costs it nothing. Publishing never blocks on a subscriber. The package knows
// nothing of sockets: server writes the frames.
package feed

import (
	"container/list"
	"log/slog"
	"sync"
	"sync/atomic"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// maxJobs bounds how many changed jobs are remembered. A subscriber that is further behind is told so (Batch.Missed) and asks
// the queue instead.
const maxJobs = 1024

// Feed keeps the newest of everything. Make it with New. Its methods may be called from any goroutine.
type Feed struct {
	encodings atomic.Uint64
	log       *slog.Logger

	// What was published. mu is held for a few assignments and never while anything is encoded, written or woken.
	mu        sync.RWMutex
	inventory *frame
	capacity  *frame
	library   *frame
	snapshot  *frame
	details   *frame
	jobs      map[string]*list.Element // by id, of order
	order     *list.List               // of *change, by version: what changed last is last
	version   uint64                   // number of the last change of a job
	forgotten uint64                   // version of the newest change that was dropped from order
	published uint64                   // the highest job.Job.Seq

	// Who listens. It has a lock of its own, so that those who are woken can take while the others are still being woken.
	subscribersMu sync.Mutex
	subscribers   []*Subscription
	listening     atomic.Int64 // how many these are
}

// change is the newest version of one job.
type change struct {
	version uint64
	job     *job.Job
	frame   *frame
}

// New makes a feed without subscribers to which nothing was published.
func New() *Feed {
	return &Feed{jobs: map[string]*list.Element{}, order: list.New(), log: slog.New(slog.DiscardHandler)}
}

// Log sets where events that can't be encoded are reported; without it they are dropped in silence. It must come before the
// first subscriber.
func (f *Feed) Log(log *slog.Logger) { f.log = log }

// Encodings counts the frames encoded so far: at most one per event and format.
func (f *Feed) Encodings() uint64 { return f.encodings.Load() }

// Subscribers counts who listens.
func (f *Feed) Subscribers() int { return int(f.listening.Load()) }

// Inventory publishes what is static. The same revision again is not published again. nil is ignored.
func (f *Feed) Inventory(inventory *gpu.Inventory) {
	if inventory == nil {
		return
	}
	f.mu.Lock()
	same := f.inventory != nil && f.inventory.event.Inventory.Revision == inventory.Revision
	if !same {
		f.inventory = f.frame(wire.Event{Inventory: inventory})
	}
	f.mu.Unlock()
	if !same {
		f.wake()
	}
}

// Snapshot publishes what was measured. nil is ignored.
func (f *Feed) Snapshot(snapshot *gpu.Snapshot) {
	if snapshot == nil {
		return
	}
	f.mu.Lock()
	f.snapshot = f.frame(wire.Event{Snapshot: snapshot})
	f.mu.Unlock()
	f.wake()
}

// Details publishes what is dear to ask of the devices. nil is ignored.
func (f *Feed) Details(report *gpu.Report) {
	if report == nil {
		return
	}
	f.mu.Lock()
	f.details = f.frame(wire.Event{Details: report})
	f.mu.Unlock()
	f.wake()
}

// Capacity publishes what can generate. nil is ignored.
func (f *Feed) Capacity(capacity *wire.Capacity) {
	if capacity == nil {
		return
	}
	f.mu.Lock()
	f.capacity = f.frame(wire.Event{Capacity: capacity})
	f.mu.Unlock()
	f.wake()
}

// Library publishes what is installed and on its way. nil is ignored.
func (f *Feed) Library(library *model.Library) {
	if library == nil {
		return
	}
	f.mu.Lock()
	f.library = f.frame(wire.Event{Library: library})
	f.mu.Unlock()
	f.wake()
}

// Jobs publishes changed jobs, in order of Seq, as the queue gives them. A version older than one already published is dropped.
func (f *Feed) Jobs(changed []job.Job) {
	if len(changed) == 0 {
		return
	}
	f.mu.Lock()
	for i := range changed {
		own := changed[i]
		f.record(&own)
	}
	f.mu.Unlock()
	f.wake()
}

// record is called with mu held.
func (f *Feed) record(j *job.Job) {
	at, known := f.jobs[j.ID]
	if known && at.Value.(*change).job.Seq > j.Seq {
		return
	}
	f.version++
	f.published = max(f.published, j.Seq)
	next := &change{version: f.version, job: j, frame: f.frame(wire.Event{Job: j})}
	if known {
		at.Value = next
		f.order.MoveToBack(at)
		return
	}
	f.jobs[j.ID] = f.order.PushBack(next)
	if f.order.Len() > maxJobs {
		oldest := f.order.Remove(f.order.Front()).(*change)
		delete(f.jobs, oldest.job.ID)
		f.forgotten = oldest.version
	}
}

// Forget makes every subscriber ask the queue for the jobs once more (Batch.Missed): some that were published are no more.
func (f *Feed) Forget() {
	f.mu.Lock()
	f.version++
	f.forgotten = f.version
	f.order.Init()
	clear(f.jobs)
	f.mu.Unlock()
	f.wake()
}

// wake tells every subscriber to look. One that has not looked since the last time needs no second telling.
func (f *Feed) wake() {
	f.subscribersMu.Lock()
	defer f.subscribersMu.Unlock()
	for _, s := range f.subscribers {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}
