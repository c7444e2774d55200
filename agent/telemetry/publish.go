package telemetry

import (
	"errors"
	"time"

	"muster/shared/gpu"
)

// publish makes the snapshot of this moment.
func (s *Sampler) publish() {
	inv := s.inventory.Load()
	if inv == nil {
		return
	}
	now := time.Now()
	s.seq++
	snap := &gpu.Snapshot{Seq: s.seq, Time: now.UTC(), Revision: inv.Revision, GPUs: make([]gpu.Reading, len(s.devices))}
	if s.host != nil {
		snap.Host = s.host.view(now)
	}
	for i, readers := range s.devices {
		snap.GPUs[i] = s.view(readers, now, inv.Devices[i])
		snap.GPUs[i].Index = gpu.Ref(i)
	}
	s.rounds.noteStates(snap)
	s.snapshot.Store(snap)
	if s.config.Publish != nil {
		s.config.Publish(inv, snap)
	}
}

// view combines what the readers of one device say.
func (s *Sampler) view(readers []*worker, now time.Time, d gpu.Device) gpu.Reading {
	if len(readers) == 0 {
		return gpu.Reading{State: gpu.StateUnsupported}
	}
	reading := readers[0].view(now, s.tickAt)
	s.logState(readers[0], reading.State, d)
	for _, w := range readers[1:] {
		other := w.view(now, s.tickAt)
		s.logState(w, other.State, d)
		reading = combine(reading, other)
	}
	return reading
}

// errNotReturned is why a device is stuck whose driver has not even failed.
var errNotReturned = errors.New("a driver call has not returned: if this stays, see the kernel log, and reboot")

// logState says once that a device's state changed.
func (s *Sampler) logState(w *worker, state gpu.State, d gpu.Device) {
	if w.shown == state || w.state == "" && !w.late(time.Now()) {
		return
	}
	w.shown = state
	if state.Usable() {
		s.log.Info("device state", "device", d.Index, "id", d.ID, "name", d.Name, "reader", w.reader, "state", state)
		return
	}
	err := w.err
	if state == gpu.StateStuck && err == nil {
		err = errNotReturned
	}
	s.log.Warn("device state", "device", d.Index, "id", d.ID, "name", d.Name, "reader", w.reader, "state", state, "error", err)
	s.logStack(err)
}

// logFailure says once that something could not be read. of is a device's ID, or "".
func (s *Sampler) logFailure(what, reader, of string, err error) {
	key := what + "\x00" + reader + "\x00" + of
	if s.complained[key] == err.Error() {
		return
	}
	s.complained[key] = err.Error()
	s.log.Warn("can't read the "+what, "reader", reader, "error", err)
	s.logStack(err)
}

func (s *Sampler) logStack(err error) {
	var p *panicError
	if errors.As(err, &p) {
		s.log.Error("a reader panicked", "panic", p.value, "stack", string(p.stack))
	}
}
