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
	select {
	case <-f.running:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := f.whileRunning(ctx)
	defer cancel()
	s := f.slot(dev)
	if err := s.take(ctx); err != nil {
		return err
	}
	_, err = s.ensure(ctx, p, model)
	if !s.leaveLoading(context.Cause(ctx)) {
		s.release()
	}
	return err
}
