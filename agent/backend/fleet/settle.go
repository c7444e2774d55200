package fleet

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/backend"
	"muster/agent/backend/calls"
	"muster/agent/process"
)

// HandOn has rest done by a goroutine, to which the slot's turn passes: what is left to do for a call that was given up. Its context
// ends with the fleet, or with the cause ErrUnload. false when the fleet is ending and nothing needs to be done.
func (s *Slot[C]) HandOn(rest func(ctx context.Context)) bool {
	ctx, leave := context.WithCancelCause(context.Background())
	ctx, cancel := s.fleet.life.Within(ctx)
	s.setLeave(leave)
	done := func() {
		s.setLeave(nil)
		cancel()
	}
	handed := s.fleet.Settle(func() {
		defer s.Turn.Release()
		defer done()
		rest(ctx)
	})
	if !handed {
		done()
	}
	return handed
}

func (s *Slot[C]) setLeave(leave context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = leave
}

// hurry cuts short what is left to do for a call that was given up, if there is something.
func (s *Slot[C]) hurry(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave != nil {
		s.leave(cause)
	}
}

// LeaveStarting ends a child that was still starting when the device or the generator itself was given up; for any other cause it is
// left starting for whoever comes next. It says whether the slot's turn was handed on.
func (s *Slot[C]) LeaveStarting(cause error) bool {
	if s.empty() || !errors.Is(cause, backend.ErrUnavailable) {
		return false
	}
	return s.HandOn(func(context.Context) { _ = s.Drop(cause.Error()) })
}

// ErrUnload ends what is left of a call that was given up: nobody wants its child any more.
var ErrUnload = errors.New("the model is unloaded")

// Unload ends the device's child, and with it all that it holds there. It does not wait for a call that was given up before: what is
// left of that one is cut short. A child that does not end is an error that wraps process.ErrStuck, now and each time until it is
// gone. When ctx ends first, the child is still being ended, and the next call for the device waits for that. died explains a child
// that has ended by itself, counts it and forgets it.
func (s *Slot[C]) Unload(ctx context.Context, died func() error) error {
	ctx, cancel := s.fleet.life.Within(ctx)
	defer cancel()
	s.hurry(ErrUnload)
	if err := s.Turn.Take(ctx); err != nil {
		return err
	}
	unloaded := make(chan error, 1)
	if !s.fleet.Settle(func() {
		err := s.unload(died)
		s.Turn.Release()
		unloaded <- err
	}) {
		s.Turn.Release()
		return calls.ErrStopping
	}
	select {
	case err := <-unloaded:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unload does it, with the turn.
func (s *Slot[C]) unload(died func() error) error {
	if s.empty() {
		return s.stuckStill()
	}
	label := s.Device.Index.Label()
	if ended(s.Child.base().Process) {
		s.fleet.cfg.Log.Warn(s.fleet.cfg.Name+" ended", "device", label, "error", died())
		return nil
	}
	if err := s.Drop(fmt.Sprintf("the memory of %s could not be freed", label)); err != nil {
		return err
	}
	s.fleet.cfg.Log.Info(s.fleet.cfg.Name+" was ended to free the device", "device", label)
	return nil
}

// stuckStill tells of a child that was killed in vain before; nil when there is none or it has gone since.
func (s *Slot[C]) stuckStill() error {
	if s.stuck == nil {
		return nil
	}
	if ended(s.stuck) {
		s.stuck = nil
		return nil
	}
	return fmt.Errorf("the memory of %s is still held: process %d %w", s.Device.Index.Label(), s.stuck.PID(), process.ErrStuck)
}
