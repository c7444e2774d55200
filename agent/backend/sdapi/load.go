package sdapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/shared/gpu"
	"muster/shared/job"
)

func (g *Generator) post(ctx context.Context, path string, body any) error {
	return g.client.JSON(ctx, exchange.Call{Method: http.MethodPost, Path: path, Body: body, Wait: g.limits.load, Limit: maxList}, nil)
}

// ready prepares a web UI for an image: SD.Next switches to the model, and what was unloaded is taken back. As a setting for one image
// alone SD.Next would load the model for it, and the former one again behind it.
func (g *Generator) ready(ctx context.Context, p program, model backend.Model) error {
	held, away := g.held()
	switch {
	case !p.web:
		return nil
	case p.switches && held != model.Path:
		return g.choose(ctx, model)
	case !away && !g.doubtful():
		return nil
	}
	err := g.post(ctx, "/sdapi/v1/reload-checkpoint", struct{}{})
	if err != nil && (away || exchange.StatusOf(err) == 0) { // if it holds its model, the image itself will tell what is wrong
		return g.explain(err)
	}
	g.takenBack()
	return nil
}

// choose sets the model in the server's settings, which loads it. Its own page shows that model from then on, too.
func (g *Generator) choose(ctx context.Context, model backend.Model) error {
	if err := g.post(ctx, "/sdapi/v1/options", map[string]string{"sd_model_checkpoint": model.Path}); err != nil {
		return g.explain(err)
	}
	g.holds(model)
	return nil
}

// Load has a model in the server's memory: through its settings where these load at once, else with the smallest image there is.
func (g *Generator) Load(ctx context.Context, dev gpu.Device, name string) error {
	if err := g.Usable(dev); err != nil {
		return err
	}
	model, err := g.Model(name)
	if err != nil {
		return err
	}
	p := g.kind()
	if p.known() && !p.web && !p.lazy {
		return nil // it has loaded what it holds before it answered
	}
	if p.known() && p.web && !p.lazy {
		return g.loadBySettings(ctx, p, model)
	}
	smallest := backend.Request{Prompt: "warm-up", Model: name, Width: 64, Height: 64, Steps: 1, Guidance: 1, Seed: 1}
	_, err = g.Generate(ctx, dev, smallest, func(job.Progress) {})
	return err
}

func (g *Generator) loadBySettings(ctx context.Context, p program, model backend.Model) error {
	if err := g.Turn.Take(ctx); err != nil {
		return err
	}
	return g.Use(func() (func(), error) {
		err := g.ready(ctx, p, model)
		if held, _ := g.held(); err == nil && held != model.Path {
			err = g.choose(ctx, model)
		}
		if ctx.Err() != nil && err != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	})
}

// Unload frees the server's device memory once nobody's image is made, and is an error when ctx ends before that. koboldcpp and sd-server hold their model as long as they run, and say so.
func (g *Generator) Unload(ctx context.Context, dev gpu.Device) error {
	if own, ok := g.Server.Device(); !ok || own.ID != dev.ID {
		return nil
	}
	p := g.kind()
	if p.known() && !p.web {
		return fmt.Errorf("%s holds its model as long as it runs: end it to free %s", g.Server.Name(), dev.Index.Label())
	}
	if !p.known() {
		return fmt.Errorf("%s can't be told to free %s: it does not answer", g.Server.Name(), dev.Index.Label())
	}
	if err := g.Turn.Take(ctx); err != nil {
		return err
	}
	return g.Use(func() (func(), error) {
		err := g.unload(ctx)
		if ctx.Err() != nil && err != nil && !errors.Is(err, attach.ErrNotItsFault) {
			err = context.Cause(ctx)
		}
		return nil, err
	})
}

// awaitNobody waits until nothing runs: a web UI puts weights away under whatever image is made. Its error says that the time was not
// enough.
func (g *Generator) awaitNobody(ctx context.Context) error {
	tick := time.NewTicker(g.limits.poll)
	defer tick.Stop()
	busy := false
	for {
		a, err := g.progress(ctx, false)
		switch {
		case err == nil && a.idle():
			return nil
		case err == nil:
			busy = true
		case ctx.Err() == nil:
			return g.explain(err)
		}
		select {
		case <-ctx.Done():
			if !busy {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%s works for somebody else, so its model stays where it is: %w: %w", g.Server.Name(), attach.ErrNotItsFault, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// unload does it, with the turn, as soon as nobody else uses the server.
func (g *Generator) unload(ctx context.Context) error {
	if _, away := g.held(); away && !g.doubtful() {
		return nil
	}
	if err := g.awaitNobody(ctx); err != nil {
		return err
	}
	if err := g.post(ctx, "/sdapi/v1/unload-checkpoint", struct{}{}); err != nil {
		return g.explain(err)
	}
	g.mu.Lock()
	g.unloaded, g.unsure = true, false
	g.mu.Unlock()
	g.Server.Loaded("")
	return nil
}
