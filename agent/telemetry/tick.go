package telemetry

import (
	"context"
	"reflect"
	"time"

	"muster/shared/gpu"
)

// launch starts a goroutine per reader, and asks each for its inventory.
func (s *Sampler) launch(ctx context.Context) {
	now := time.Now()
	for _, reader := range s.config.Readers {
		r := s.newRoster(ctx, reader)
		r.begin(now, r.list)
		s.rosters = append(s.rosters, r)
	}
	if s.config.Host != nil {
		s.host = s.newHostWorker(ctx, s.config.Host)
		s.host.static.begin(now, s.host.describe)
	}
	if s.config.DescribeProcesses != nil {
		s.rounds.describing = s.newCall(ctx)
	}
	s.relist = true
}

// listing counts the inventories in flight.
func (s *Sampler) listing() int {
	n := 0
	for _, r := range s.rosters {
		if r.busy {
			n++
		}
	}
	if s.host != nil && s.host.static.busy {
		n++
	}
	return n
}

// tick starts every call that is due and waits a little for what it brings.
func (s *Sampler) tick(ctx context.Context) {
	now := time.Now()
	s.tickAt = now
	s.takeExits()
	s.beginInventories(now)
	if s.relist {
		s.relist = false
		s.rebuild(ctx)
	}
	s.collecting = true
	defer func() { s.collecting = false }()
	window := min(collectWindow, s.config.Interval/2)
	begun := s.begun[:0]
	for _, readers := range s.devices {
		for _, w := range readers {
			if w.missing {
				continue
			}
			if !w.begin(now, w.read) {
				w.owed = w.aside
				continue
			}
			begun = append(begun, w.call)
			if w.state == "" {
				window = min(firstWindow, s.config.Interval/2)
			}
		}
	}
	if s.host != nil && s.host.read.begin(now, s.host.sample) {
		begun = append(begun, s.host.read)
	}
	s.begun = begun
	s.settle(ctx, window, func() bool {
		for len(begun) > 0 && !begun[len(begun)-1].busy {
			begun = begun[:len(begun)-1]
		}
		return len(begun) == 0
	})
}

// takeExits counts goroutines that ended because their device went.
func (s *Sampler) takeExits() {
	for {
		select {
		case <-s.exited:
			s.goroutines--
		default:
			return
		}
	}
}

func (s *Sampler) beginInventories(now time.Time) {
	for i, r := range s.rosters {
		if s.inTrouble(i, now) {
			r.hurry()
		} else {
			r.calm()
		}
		if !now.Before(r.due) {
			r.begin(now, r.list)
		}
		if r.late(now) && !r.overdue {
			r.overdue, s.relist = true, true
		}
	}
	if s.host != nil && !now.Before(s.host.due) {
		s.host.static.begin(now, s.host.describe)
	}
}

// inTrouble says whether a new inventory of that reader may help one of its devices.
func (s *Sampler) inTrouble(reader int, now time.Time) bool {
	for o, w := range s.workers {
		if o.listing != reader {
			continue
		}
		switch w.state {
		case gpu.StateLost, gpu.StateDriverMismatch, gpu.StateNoDriver, gpu.StateStuck:
			return true
		}
		if w.late(now) {
			return true
		}
	}
	return false
}

// rebuild merges what the rosters list, and gives every device its workers.
func (s *Sampler) rebuild(ctx context.Context) {
	listings := make([]listing, len(s.rosters))
	for i, r := range s.rosters {
		listings[i] = r.listing()
	}
	var host gpu.Host
	if s.host != nil {
		host = s.host.facts
	}
	inv, origins := merge(host, listings)
	s.assign(ctx, origins)
	last := s.inventory.Load()
	if last != nil {
		inv.Revision = last.Revision
		if reflect.DeepEqual(*last, inv) {
			return
		}
	}
	inv.Revision++
	s.inventory.Store(&inv)
}

// assign reuses the workers there are: the one of a hung call is never doubled, even when its device comes back.
func (s *Sampler) assign(ctx context.Context, origins [][]origin) {
	used := make(map[origin]bool, len(s.workers))
	s.devices = make([][]*worker, len(origins))
	for i, list := range origins {
		for _, o := range list {
			r := s.rosters[o.listing]
			w := s.workers[o]
			if w == nil {
				w = s.newWorker(ctx, r.reader, o.id)
				s.workers[o] = w
			}
			w.roster, w.missing, w.position, w.sources = r, r.isMissing(o.id), i, r.sources(o.id)
			used[o] = true
			s.devices[i] = append(s.devices[i], w)
		}
	}
	for o, w := range s.workers {
		if used[o] {
			continue
		}
		w.missing = true
		if w.busy {
			s.relist = true // look again when it may have returned
			continue
		}
		close(w.start)
		delete(s.workers, o)
	}
}
