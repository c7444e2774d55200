package comfyui

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

// fleetGenerator is the Fleet as a backend.Backend, backend.Unloader and backend.Loader.
type fleetGenerator struct{ fleet *Fleet }

// Name gives "comfyui".
func (g *fleetGenerator) Name() string { return "comfyui" }

// Generate makes one image on the device's own child. When ctx ends it returns at once, the prompt is cancelled by its id, and a child
// that does not let go of it is ended; the next call for the device waits for that.
func (g *fleetGenerator) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	if err := check(req); err != nil {
		return backend.Image{}, err
	}
	var png []byte
	err := g.work(ctx, dev, req, func(ctx context.Context, c *child, e entry, background func(func())) (p *queued, err error) {
		png, p, err = generate(ctx, c.server, e, c.has, req, report, background)
		return p, err
	})
	if err != nil {
		return backend.Image{}, err
	}
	return backend.Image{PNG: png}, nil
}

// Unload ends the device's child, and with it all that it holds there: /free would leave the driver's context and what PyTorch keeps.
// See fleet.Slot.Unload.
func (g *fleetGenerator) Unload(ctx context.Context, dev gpu.Device) error {
	s, ok := g.fleet.slots.Known(dev)
	if !ok {
		return nil
	}
	return s.Unload(ctx, s.died)
}

// Load has the device's child running with the model in its memory.
func (g *fleetGenerator) Load(ctx context.Context, dev gpu.Device, name string) error {
	return g.work(ctx, dev, backend.Request{Model: name}, func(ctx context.Context, c *child, e entry, background func(func())) (*queued, error) {
		if c.loaded == e.name {
			return nil, nil
		}
		return load(ctx, c.server, e, c.has, warmUp(e), background)
	})
}

// work does a call's work with the turn of its device and a child that answers.
func (g *fleetGenerator) work(ctx context.Context, dev gpu.Device, req backend.Request,
	do func(context.Context, *child, entry, func(func())) (*queued, error)) error {
	f := g.fleet
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if _, err := find(f.stock.Load().entries, req.Model); err != nil {
		return err
	}
	masks, err := f.pin(dev)
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
	kept := true // also when something panics
	defer func() {
		if kept {
			s.Turn.Release()
		}
	}()
	c, err := s.ensure(ctx, masks)
	if err != nil {
		kept = !s.LeaveStarting(context.Cause(ctx))
		return err
	}
	e, err := find(f.entries(c.has, f.stock.Load().extra), req.Model)
	if err != nil { // it may have come since
		c.refresh(ctx)
		e, err = find(f.entries(c.has, f.stock.Load().extra), req.Model)
	}
	if err != nil {
		return err
	}
	c.out.begin(req)
	left, err := do(ctx, c, e, func(rest func()) { f.background(rest) })
	kept, err = s.conclude(ctx, c, req, e, left, err)
	return err
}

// background runs what must outlive a call, and is bounded by itself.
func (f *Fleet) background(rest func()) {
	if !f.children.Settle(rest) {
		go rest() // the fleet is ending: the exchange ends with the child
	}
}

// conclude deals with how a call ended, and gives its error. kept says that the turn is still the call's: it was not handed on.
func (s *slot) conclude(ctx context.Context, c *child, req backend.Request, e entry, left *queued, err error) (kept bool, failed error) {
	switch {
	case err == nil:
		s.succeeded(e.name)
		return true, nil
	case ctx.Err() != nil:
		cause := context.Cause(ctx)
		if left == nil && !errors.Is(cause, backend.ErrUnavailable) {
			return true, cause
		}
		return !s.HandOn(func(ctx context.Context) { s.settle(ctx, c, left, cause) }), cause
	}
	err = redact(err, req)
	if errors.Is(err, errGone) && s.Child == c {
		err = s.died()
	} else if suspect(err) && s.Child == c {
		why := err.Error()
		if c.ended() {
			err = s.died()
		} else if stuck := s.Drop(why); stuck != nil {
			err = stuck
		} else {
			err = s.Failed(err)
		}
	}
	if left == nil || s.Child != c {
		return true, redact(err, req)
	}
	return !s.HandOn(func(ctx context.Context) { s.settle(ctx, c, left, nil) }), redact(err, req)
}
