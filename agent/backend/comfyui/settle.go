package comfyui

import (
	"context"
	"errors"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/fleet"
)

// settle deals with a prompt whose call was given up: it is cancelled. When the device itself was given up, or the prompt does not go,
// the child is ended.
func (s *slot) settle(ctx context.Context, c *child, left *queued, cause error) {
	if s.Child != c {
		return
	}
	if errors.Is(cause, backend.ErrUnavailable) {
		_ = s.Drop(cause.Error())
		return
	}
	err := c.settle(ctx, left)
	switch {
	case c.ended():
		s.fleet.cfg.Log.Warn("ComfyUI ended", "device", s.Device.Index.Label(), "error", s.died())
	case err != nil && !errors.Is(context.Cause(ctx), fleet.ErrUnload):
		_ = s.Drop("a prompt that was given up does not end")
	}
}

// ended says whether the child is dead, waiting a moment for one whose connection was dropped.
func (c *child) ended() bool {
	select {
	case <-c.Process.Done():
		return true
	default:
	}
	if _, err := c.api.stats(context.Background()); !unreachable(err) {
		return false
	}
	select {
	case <-c.Process.Done():
		return true
	case <-time.After(time.Second):
		return false
	}
}
