package feed

import (
	"slices"

	"muster/shared/wire"
)

// Subscription is one listener's place in the feed. Take and Close belong to one goroutine; Wake may be waited on by any.
type Subscription struct {
	feed   *Feed
	format wire.Format
	wake   chan struct{} // size 1: there is something to take

	// What was taken last, owned by the goroutine that takes.
	inventory *frame
	capacity  *frame
	snapshot  *frame
	version   uint64

	at int // in feed.subscribers, guarded by its lock
}

// Batch is everything new since the last Take. The byte slices are shared by all subscribers and must not be changed.
type Batch struct {
	Inventory []byte // nil when it did not change; so are the others
	Capacity  []byte
	Jobs      []JobFrame // in the order in which the jobs changed, each job once
	Snapshot  []byte
	// Missed says that more jobs changed than the feed remembers: ask the queue for them. Jobs is empty then.
	Missed bool
}

// JobFrame is the newest version of one job.
type JobFrame struct {
	ID    string
	Seq   uint64
	Bytes []byte
}

// Subscribe listens from now on. The first Take gives the newest inventory, capacity and snapshot, and jobs that changed after
// this call. Close must follow. A format that wire does not list is a programmer's error.
func (f *Feed) Subscribe(format wire.Format) *Subscription {
	if !slices.Contains(wire.Formats, format) {
		panic("feed: unknown format")
	}
	s := &Subscription{feed: f, format: format, wake: make(chan struct{}, 1)}
	s.wake <- struct{}{} // what was published before this is new to it
	f.mu.RLock()
	s.version = f.version
	f.mu.RUnlock()
	f.subscribersMu.Lock()
	s.at = len(f.subscribers)
	f.subscribers = append(f.subscribers, s)
	f.subscribersMu.Unlock()
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	f := s.feed
	f.subscribersMu.Lock()
	defer f.subscribersMu.Unlock()
	last := len(f.subscribers) - 1
	f.subscribers[s.at] = f.subscribers[last]
	f.subscribers[s.at].at = s.at
	f.subscribers[last] = nil
	f.subscribers = f.subscribers[:last]
}

// Wake gets a value when Take may have something new. It is never closed.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

// Take gives what is new since the last call; an empty Batch when nothing is.
func (s *Subscription) Take() Batch {
	inventory, capacity, snapshot, changes, missed := s.look()
	b := Batch{Missed: missed}
	if inventory != nil {
		b.Inventory = inventory.bytes(s.format)
	}
	if capacity != nil {
		b.Capacity = capacity.bytes(s.format)
	}
	for _, c := range changes {
		if bytes := c.frame.bytes(s.format); bytes != nil {
			b.Jobs = append(b.Jobs, JobFrame{ID: c.job.ID, Seq: c.job.Seq, Bytes: bytes})
		}
	}
	if snapshot != nil {
		b.Snapshot = snapshot.bytes(s.format)
	}
	return b
}

// look collects what is new under the lock, for Take to encode without it.
func (s *Subscription) look() (inventory, capacity, snapshot *frame, changes []*change, missed bool) {
	f := s.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	newer := func(mine **frame, newest *frame) *frame {
		if *mine == newest {
			return nil
		}
		*mine = newest
		return newest
	}
	inventory = newer(&s.inventory, f.inventory)
	capacity = newer(&s.capacity, f.capacity)
	snapshot = newer(&s.snapshot, f.snapshot)
	missed = s.version < f.forgotten
	if !missed {
		for at := f.order.Back(); at != nil && at.Value.(*change).version > s.version; at = at.Prev() {
			changes = append(changes, at.Value.(*change))
		}
		slices.Reverse(changes)
	}
	s.version = f.version
	return inventory, capacity, snapshot, changes, missed
}

// Published is the number of the newest event of a job that was published; the versions that Take gives from now on are of this
// number or, of jobs that did not change since, the newest below it.
func (f *Feed) Published() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.published
}
