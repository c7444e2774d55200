package sdserver

import (
	"context"
	"fmt"

	"muster/agent/backend"
	"muster/shared/gpu"
)

// Load has the device's child running with the model in its memory, replacing another model's. When ctx ends first, the child is left
// loading for whoever comes next.
func (g *generator) Load(ctx context.Context, dev gpu.Device, name string) error {
	f := g.fleet
	model, err := f.model(name)
	if err != nil {
		return err
	}
	p, err := f.pin(dev)
	if err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
	ctx, cancel, err := f.children.Enter(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	s := f.slots.Of(dev)
	if err := s.Turn.Take(ctx); err != nil {
		return err
	}
	_, err = s.ensure(ctx, p, model)
	if !s.LeaveStarting(context.Cause(ctx)) {
		s.Turn.Release()
	}
	return err
}

// Unload ends the device's child, and with it all that it holds there. See fleet.Slot.Unload.
func (g *generator) Unload(ctx context.Context, dev gpu.Device) error {
	s, ok := g.fleet.slots.Known(dev)
	if !ok {
		return nil
	}
	return s.Unload(ctx, s.died)
}
