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
	library   *frame
	snapshot  *frame
	details   *frame
	version   uint64

	at int // in feed.subscribers, guarded by its lock
}

// Batch is everything new since the last Take. The byte slices are shared by all subscribers and must not be changed.
type Batch struct {
	Inventory []byte // nil when it did not change; so are the others
	Capacity  []byte
	Library   []byte
	Details   []byte     // belongs to the newest inventory that was taken
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

// Subscribe listens from now on. The first Take gives the newest inventory, capacity, library, details and snapshot, and jobs that changed after
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
	f.listening.Store(int64(len(f.subscribers)))
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
	f.listening.Store(int64(last))
}

// Wake gets a value when Take may have something new. It is never closed.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

// Take gives what is new since the last call; an empty Batch when nothing is.
func (s *Subscription) Take() Batch {
	n := s.look()
	b := Batch{Missed: n.missed}
	encode := func(fr *frame) []byte {
		if fr == nil {
			return nil
		}
		return fr.bytes(s.format)
	}
	b.Inventory, b.Capacity, b.Library, b.Details = encode(n.inventory), encode(n.capacity), encode(n.library), encode(n.details)
	for _, c := range n.changes {
		if bytes := c.frame.bytes(s.format); bytes != nil {
			b.Jobs = append(b.Jobs, JobFrame{ID: c.job.ID, Seq: c.job.Seq, Bytes: bytes})
		}
	}
	b.Snapshot = encode(n.snapshot)
	return b
}

// news is what a subscriber did not take yet; nil where nothing is new.
type news struct {
	inventory, capacity, library, details, snapshot *frame
	changes                                         []*change
	missed                                          bool
}

// look collects what is new under the lock, for Take to encode without it.
func (s *Subscription) look() (n news) {
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
	n.inventory = newer(&s.inventory, f.inventory)
	n.capacity = newer(&s.capacity, f.capacity)
	n.library = newer(&s.library, f.library)
	n.snapshot = newer(&s.snapshot, f.snapshot)
	if f.details != nil && s.inventory != nil && f.details.event.Details.Revision == s.inventory.event.Inventory.Revision {
		n.details = newer(&s.details, f.details) // of another revision they would be read as another device's
	}
	n.missed = s.version < f.forgotten
	if !n.missed {
		for at := f.order.Back(); at != nil && at.Value.(*change).version > s.version; at = at.Prev() {
			n.changes = append(n.changes, at.Value.(*change))
		}
		slices.Reverse(n.changes)
	}
	s.version = f.version
	return n
}

// Published is the number of the newest event of a job that was published; the versions that Take gives from now on are of this
// number or, of jobs that did not change since, the newest below it.
func (f *Feed) Published() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.published
}
