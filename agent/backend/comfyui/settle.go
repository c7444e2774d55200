package comfyui

import (
	"context"
	"errors"
	"fmt"
	"time"

	"muster/agent/backend"
	"muster/agent/process"
	"muster/shared/gpu"
)

// handOn has rest done by a goroutine, to which the slot's turn passes: what is left to do for a call that was given up. Its context
// ends with the fleet, or with hurry. false when the fleet is ending and nothing needs to be done.
func (s *slot) handOn(rest func(ctx context.Context)) bool {
	ctx, leave := context.WithCancelCause(context.Background())
	ctx, cancel := s.fleet.whileRunning(ctx)
	s.setLeave(leave)
	done := func() {
		s.setLeave(nil)
		cancel()
	}
	handed := s.fleet.settle(func() {
		defer s.release()
		defer done()
		rest(ctx)
	})
	if !handed {
		done()
	}
	return handed
}

func (s *slot) setLeave(leave context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = leave
}

// hurry cuts short what is left to do for a call that was given up, if there is something.
func (s *slot) hurry(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave != nil {
		s.leave(cause)
	}
}

// leaveStarting ends a child that was still starting when the device or the generator itself was given up; for any other cause it is
// left starting for whoever comes next. It says whether the slot's turn was handed on.
func (s *slot) leaveStarting(cause error) bool {
	if s.child == nil || !errors.Is(cause, backend.ErrUnavailable) {
		return false
	}
	return s.handOn(func(context.Context) { s.abort(cause.Error()) })
}

// settle deals with a prompt whose call was given up: it is cancelled. When the device itself was given up, or the prompt does not go,
// the child is ended.
func (s *slot) settle(ctx context.Context, c *child, left *queued, cause error) {
	if s.child != c {
		return
	}
	if errors.Is(cause, backend.ErrUnavailable) {
		s.abort(cause.Error())
		return
	}
	err := c.settle(ctx, left)
	switch {
	case c.ended():
		s.fleet.cfg.Log.Warn("ComfyUI ended", "device", s.dev.Index.Label(), "error", s.died())
	case err != nil && !errors.Is(context.Cause(ctx), errUnload):
		s.abort("a prompt that was given up does not end")
	}
}

// ended says whether the child is dead, waiting a moment for one whose connection was dropped.
func (c *child) ended() bool {
	select {
	case <-c.process.Done():
		return true
	default:
	}
	if _, err := c.api.stats(context.Background()); !unreachable(err) {
		return false
	}
	select {
	case <-c.process.Done():
		return true
	case <-time.After(time.Second):
		return false
	}
}

// abort ends the child, and counts one that does not end against the device.
func (s *slot) abort(why string) {
	if s.child == nil {
		return
	}
	if err := s.stop(why); errors.Is(err, process.ErrStuck) {
		_ = s.failed(err)
	}
}

// errUnload ends what is left of a call that was given up: nobody wants its child any more.
var errUnload = errors.New("the model is unloaded")

// Unload ends the device's child, and with it all that it holds there: /free would leave the driver's context and what PyTorch keeps.
// It does not wait for a call that was given up before. A child that does not end is an error that wraps process.ErrStuck, now and each
// time until it is gone. When ctx ends first, the child is still being ended, and the next call for the device waits for that.
func (g *fleetGenerator) Unload(ctx context.Context, dev gpu.Device) error {
	f := g.fleet
	f.mu.Lock()
	s := f.slots[dev.ID]
	f.mu.Unlock()
	if s == nil {
		return nil
	}
	ctx, cancel := f.whileRunning(ctx)
	defer cancel()
	s.hurry(errUnload)
	if err := s.take(ctx); err != nil {
		return err
	}
	ended := make(chan error, 1)
	if !f.settle(func() {
		err := s.unload()
		s.release()
		ended <- err
	}) {
		s.release()
		return errStopping
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unload does it, with the slot's turn.
func (s *slot) unload() error {
	if s.child == nil {
		return s.stuckStill()
	}
	select {
	case <-s.child.process.Done():
		s.fleet.cfg.Log.Warn("ComfyUI ended", "device", s.dev.Index.Label(), "error", s.died())
		return nil
	default:
	}
	err := s.stop(fmt.Sprintf("the memory of %s could not be freed", s.dev.Index.Label()))
	if errors.Is(err, process.ErrStuck) {
		return s.failed(err)
	}
	s.fleet.cfg.Log.Info("ComfyUI was ended to free the device", "device", s.dev.Index.Label())
	return nil
}

// stuckStill tells of a child that was killed in vain before; nil when there is none or it has gone since.
func (s *slot) stuckStill() error {
	if s.stuck == nil {
		return nil
	}
	select {
	case <-s.stuck.Done():
		s.stuck = nil
		return nil
	default:
		return fmt.Errorf("the memory of %s is still held: process %d %w", s.dev.Index.Label(), s.stuck.PID(), process.ErrStuck)
	}
}
