package openai

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

// Generate makes one image. When ctx ends it returns at once and closes the connection, or leaves it to the end of an image that can't
// be stopped; the next call waits until the server is free or answers again. The steps that it reports are estimated.
func (g *Generator) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (image backend.Image, err error) {
	if err := context.Cause(ctx); err != nil {
		return backend.Image{}, err
	}
	if err := g.Usable(dev); err != nil {
		return backend.Image{}, err
	}
	model, err := g.Model(req.Model)
	if err != nil {
		return backend.Image{}, err
	}
	p := g.kind()
	if !p.known() { // it has just come back, or gone
		return backend.Image{}, fmt.Errorf("%s is asked what it is: %w", g.Server.Name(), backend.ErrUnavailable)
	}
	if err := p.check(req); err != nil {
		return backend.Image{}, err
	}
	if err := g.Turn.TakeTelling(ctx, g.limits.alive, func() { report(job.Progress{Steps: req.Steps}) }); err != nil {
		return backend.Image{}, err
	}
	err = g.Use(func() (rest func(), err error) {
		image.PNG, rest, err = g.generate(ctx, p, model, req, report)
		return rest, err
	})
	return image, err
}

// generate does a call's work with the turn. rest settles a call that was given up, with the turn; nil when nothing is left of it.
func (g *Generator) generate(ctx context.Context, p program, model backend.Model, req backend.Request, report func(job.Progress)) (png []byte, rest func(), err error) {
	o := p.newOrder(req, model)
	report(job.Progress{Steps: req.Steps})
	patience := time.Now().Add(g.limits.load)
	for {
		s := g.Send(g.client, "/v1/images/generations", o, g.limits.read)
		if err := g.follow(ctx, p, s, req, model, report); err != nil {
			return nil, func() { g.settle(p.stays && !errors.Is(err, errHangs), s) }, err
		}
		pause, again := g.later(s.Err, patience)
		if !again {
			png, err = g.finish(ctx, s, o, req)
			if err == nil {
				g.clock.learn(model.Name, o.width, o.height, req.Steps, time.Since(s.Begun))
				g.Loaded(model.Name)
				left := 0.0
				report(job.Progress{Step: req.Steps, Steps: req.Steps, ETASeconds: &left})
			}
			return png, nil, err
		}
		if err := g.pause(ctx, pause, func() { report(job.Progress{Steps: req.Steps}) }); err != nil {
			return nil, nil, err
		}
	}
}

// pause waits before a call is made again, and tells meanwhile that it waits.
func (g *Generator) pause(ctx context.Context, pause time.Duration, tell func()) error {
	end := time.After(pause)
	tick := time.NewTicker(g.limits.alive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end:
			return nil
		case <-tick.C:
			tell()
		}
	}
}

// errHangs is wrapped when a server gives no answer.
var errHangs = errors.New("it hangs")

// follow waits for the end of an exchange and reports what can be estimated meanwhile, and now and then that the server is still there.
// Its error says that the exchange goes on.
func (g *Generator) follow(ctx context.Context, p program, s *attach.Sent, req backend.Request, model backend.Model, report func(job.Progress)) error {
	expected := g.clock.takes(model.Name, p.side(req.Width), p.side(req.Height), req.Steps)
	tick := time.NewTicker(g.limits.tell)
	defer tick.Stop()
	late := time.NewTimer(max(g.limits.silent, 10*expected))
	defer late.Stop()
	alive := time.NewTicker(g.limits.alive)
	defer alive.Stop()
	told := job.Progress{Steps: req.Steps}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.Done:
			return nil
		case <-late.C:
			return fmt.Errorf("%s gave no answer for %s: %w: %w", g.Server.Name(), time.Since(s.Begun).Round(time.Second), errHangs, backend.ErrUnavailable)
		case <-tick.C:
			if now := estimate(req.Steps, expected, time.Since(s.Begun)); now.Step > told.Step {
				told = now
				report(now)
			}
		case <-alive.C: // an image that takes longer than any did before is none while the server says nothing at all
			if time.Since(s.Begun) < g.limits.silent || g.alive(ctx) == nil && ctx.Err() == nil {
				report(told)
			}
		}
	}
}

// later says how long to wait before a call that was turned away is made again: while a model loads, or others fill the server. false
// when there is nothing to wait for, or no more time.
func (g *Generator) later(err error, patience time.Time) (time.Duration, bool) {
	var answered *exchange.StatusError
	if !errors.As(err, &answered) || answered.Status != http.StatusServiceUnavailable && answered.Status != http.StatusTooManyRequests || answered.Retry == 0 {
		return 0, false
	}
	pause := min(answered.Retry, g.limits.pause)
	return pause, time.Now().Add(pause).Before(patience)
}

// settle waits until a server that a call has left is free, or answers again. wait lets the image be made to its end.
func (g *Generator) settle(wait bool, s *attach.Sent) {
	ctx, end := g.Life.Context()
	defer end()
	ctx, cancel := context.WithTimeout(ctx, g.limits.silent)
	defer cancel()
	if wait {
		select {
		case <-s.Done:
		case <-ctx.Done():
		}
	}
	s.Close()
	<-s.Done
	free, stop := context.WithTimeout(ctx, g.limits.free)
	defer stop()
	pause := 10 * time.Millisecond
	for g.alive(free) != nil {
		select {
		case <-free.Done():
			return
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}
