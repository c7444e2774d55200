package comfyui

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"muster/agent/backend"
	"muster/agent/backend/calls"
	"muster/shared/gpu"
	"muster/shared/job"
)

// find gives the model of a name, with what the server has.
func (g *Generator) find(name string) (entry, catalogue, error) {
	c := g.catalogue.Load()
	if c == nil {
		return entry{}, catalogue{}, fmt.Errorf("%s has not told yet what it has: %w", g.attached.Name(), backend.ErrUnavailable)
	}
	named := func(m backend.Model) bool { return m.Name == name }
	if slices.ContainsFunc(g.attached.Models(), named) { // fewer than it has, where the configuration names some
		for _, e := range g.options.entries(*c) {
			if e.name == name {
				return e, *c, nil
			}
		}
	}
	return entry{}, *c, fmt.Errorf("%s has no model %q: choose one of those listed", g.attached.Name(), name)
}

// Generate makes one image. When ctx ends it returns at once, what is left on the server is cancelled by its id, and the next call
// waits for that.
func (g *Generator) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return backend.Image{}, err
	}
	if err := g.attached.Usable(dev); err != nil {
		return backend.Image{}, err
	}
	e, c, err := g.find(req.Model)
	if err != nil {
		return backend.Image{}, err
	}
	var png []byte
	err = g.work(ctx, e, req, func(ctx context.Context) (p *queued, err error) {
		png, p, err = generate(ctx, g.server, e, c, req, report, g.attached.Life.Go)
		return p, err
	})
	if err != nil {
		return backend.Image{}, err
	}
	return backend.Image{PNG: png}, nil
}

// Load has a model in the device's memory when it returns: ComfyUI loads with its first step, so one is made.
func (g *Generator) Load(ctx context.Context, dev gpu.Device, name string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := g.attached.Usable(dev); err != nil {
		return err
	}
	e, c, err := g.find(name)
	if err != nil {
		return err
	}
	req := warmUp(e)
	return g.work(ctx, e, req, func(ctx context.Context) (*queued, error) { return load(ctx, g.server, e, c, req, g.attached.Life.Go) })
}

// work does a call's work with the turn, and explains its error.
func (g *Generator) work(ctx context.Context, e entry, req backend.Request, do func(context.Context) (*queued, error)) error {
	leave, ok := g.attached.Life.Enter() // Run waits for it
	if !ok {
		return calls.ErrStopping
	}
	defer leave()
	ctx, cancel := g.attached.Life.Within(ctx)
	defer cancel()
	if err := g.attached.Turn.Take(ctx); err != nil {
		return err
	}
	return g.attached.Use(func() (rest func(), err error) {
		left, err := do(ctx)
		switch {
		case err == nil:
			g.attached.Loaded(e.name)
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		default:
			err = redact(err, req)
		}
		// A cause that gives up the device wants its memory back, whatever of ours is still there.
		free := ctx.Err() != nil && errors.Is(err, backend.ErrUnavailable)
		if left == nil && !free {
			return nil, err
		}
		return func() { g.clear(left, free) }, err
	})
}

// clear takes what is left of a call off the server, nil for nothing, and has everything unloaded if the device was given up.
func (g *Generator) clear(left *queued, free bool) {
	ctx, end := g.attached.Life.Context()
	defer end()
	free = free && (left == nil || g.server.begun(ctx, left))
	if left != nil {
		if err := g.server.leave(left); err != nil {
			g.options.Log.Warn("ComfyUI", "generator", g.attached.Config().ID(), "error", err)
		}
	}
	if free && !g.attached.Life.Over() && g.server.spare(ctx, left) && g.server.unload(ctx) == nil {
		g.attached.Loaded("")
	}
}

// Unload has everything unloaded that the server holds on its device, whoever asked for it. A server that is not there holds nothing.
func (g *Generator) Unload(ctx context.Context, dev gpu.Device) error {
	if own, ok := g.attached.Device(); !ok || own.ID != dev.ID {
		return nil
	}
	if err := g.attached.Turn.Take(ctx); err != nil {
		return err
	}
	defer g.attached.Turn.Release()
	err := g.server.unload(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !unreachable(err) {
		return fmt.Errorf("%s could not be told to unload: %w", g.attached.Name(), err)
	}
	g.attached.Loaded("")
	return nil
}
