package sdserver

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/process"
	"muster/shared/gpu"
)

// errUnload ends what is left of a call that was given up: nobody wants its child any more.
var errUnload = errors.New("the model is unloaded")

// Unload ends the device's child, and with it all that it holds there. It does not wait for a call that was given up before: that
// one's child is ended too. A child that does not end is an error that wraps process.ErrStuck, now and each time until it is gone.
// When ctx ends first, the child is still being ended, and the next call for the device waits for that.
func (g *generator) Unload(ctx context.Context, dev gpu.Device) error {
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
	if s.server == nil {
		return s.stuckStill()
	}
	select {
	case <-s.server.child.Done():
		s.fleet.cfg.Log.Warn("sd-server ended", "device", s.dev.Index.Label(), "error", s.died())
		return nil
	default:
	}
	err := s.stop(fmt.Sprintf("the memory of %s could not be freed", s.dev.Index.Label()))
	if errors.Is(err, process.ErrStuck) {
		return s.failed(err)
	}
	s.fleet.cfg.Log.Info("sd-server was ended to free the device", "device", s.dev.Index.Label())
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
