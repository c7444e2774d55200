package telemetry

import (
	"context"
	"errors"
	"reflect"
	"time"

	"muster/shared/gpu"
)

// launch starts a goroutine per reader, and asks each for its inventory.
func (s *Sampler) launch(ctx context.Context) {
	now := time.Now()
	for _, reader := range s.config.Readers {
		r := s.newRoster(ctx, reader)
		r.begin(now)
		s.rosters = append(s.rosters, r)
	}
	if s.config.Host != nil {
		s.host = s.newHostWorker(ctx, s.config.Host)
		s.host.static.begin(now)
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
	window := min(collectWindow, s.config.Interval/2)
	begun := s.begun[:0]
	for _, readers := range s.devices {
		for _, w := range readers {
			if !w.missing && w.begin(now) {
				begun = append(begun, w.call)
				if w.state == "" {
					window = min(firstWindow, s.config.Interval/2)
				}
			}
		}
	}
	if s.host != nil && s.host.read.begin(now) {
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
		if s.inTrouble(i) {
			r.hurry()
		} else {
			r.calm()
		}
		if !now.Before(r.due) {
			r.begin(now)
		}
		if r.late(now, inventoryDeadline) && !r.overdue {
			r.overdue, s.relist = true, true
		}
	}
	if s.host != nil && !now.Before(s.host.due) {
		s.host.static.begin(now)
	}
}

// inTrouble says whether a new inventory of that reader may help one of its devices.
func (s *Sampler) inTrouble(reader int) bool {
	for o, w := range s.workers {
		if o.listing != reader {
			continue
		}
		switch w.state {
		case gpu.StateLost, gpu.StateDriverMismatch, gpu.StateNoDriver:
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
			w.missing = r.isMissing(o.id)
			used[o] = true
			s.devices[i] = append(s.devices[i], w)
		}
	}
	for o, w := range s.workers {
		if used[o] {
			continue
		}
		if w.busy {
			s.relist = true // look again when it may have returned
			continue
		}
		close(w.start)
		delete(s.workers, o)
	}
}

// publish makes the snapshot of this moment. record says that it belongs to a tick, and so to the history.
func (s *Sampler) publish(record bool) {
	inv := s.inventory.Load()
	if inv == nil {
		return
	}
	now := time.Now()
	s.seq++
	snap := &gpu.Snapshot{Seq: s.seq, Time: now.UTC(), Revision: inv.Revision, GPUs: make([]gpu.Reading, len(s.devices))}
	if s.host != nil {
		snap.Host = s.host.view(now, s.deadline)
	}
	if record {
		s.past.advance(s.tickAt)
	}
	for i, readers := range s.devices {
		reading, measured := s.view(readers, now, inv.Devices[i])
		reading.Index = gpu.Ref(i)
		snap.GPUs[i] = reading
		if record && len(readers) > 0 && measured.After(readers[0].recorded) {
			readers[0].recorded = measured
			s.past.record(inv.Devices[i].ID, &snap.GPUs[i])
		}
	}
	s.snapshot.Store(snap)
	if s.config.Publish != nil {
		s.config.Publish(inv, snap)
	}
}

// view combines what the readers of one device say, and gives when the first of them measured.
func (s *Sampler) view(readers []*worker, now time.Time, d gpu.Device) (gpu.Reading, time.Time) {
	if len(readers) == 0 {
		return gpu.Reading{State: gpu.StateUnsupported}, time.Time{}
	}
	reading, measured := readers[0].view(now, s.tickAt, s.deadline)
	s.logState(readers[0], reading.State, d)
	for _, w := range readers[1:] {
		other, at := w.view(now, s.tickAt, s.deadline)
		s.logState(w, other.State, d)
		reading = combine(reading, other)
		if measured.IsZero() {
			measured = at
		}
	}
	return reading, measured
}

// logState says once that a device's state changed.
func (s *Sampler) logState(w *worker, state gpu.State, d gpu.Device) {
	if w.shown == state || w.state == "" && !w.late(time.Now(), s.deadline) {
		return
	}
	w.shown = state
	if state.Usable() {
		s.log.Info("device state", "device", d.Index, "id", d.ID, "name", d.Name, "state", state)
		return
	}
	s.log.Warn("device state", "device", d.Index, "id", d.ID, "name", d.Name, "state", state, "error", w.err)
	s.logStack(w.err)
}

// logFailure says once that something could not be read.
func (s *Sampler) logFailure(what, reader string, err error) {
	if s.complained[what+reader] == err.Error() {
		return
	}
	s.complained[what+reader] = err.Error()
	s.log.Warn("can't read the "+what, "reader", reader, "error", err)
	s.logStack(err)
}

func (s *Sampler) logStack(err error) {
	var p *panicError
	if errors.As(err, &p) {
		s.log.Error("a reader panicked", "panic", p.value, "stack", string(p.stack))
	}
}
