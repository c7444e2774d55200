package sdapi

import (
	"context"
	"errors"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
)

// settle waits until a call that was given up has left the server. What runs is interrupted once it is proven to be ours; a call that
// waits behind others can't be taken back, and is interrupted when its turn comes. The model that those others use is left to them.
func (g *Generator) settle(c *call, why error) {
	ctx, end := g.Life.Context()
	defer end()
	hangs, waited := errors.Is(why, errHangs), c.queued
	if c.program.drops {
		c.sent.Close() // its own end is what such a program waits for
	}
	deadline := g.limits.silent
	if hangs {
		deadline = g.limits.giveUp
	}
	if told := g.drain(ctx, c, deadline); !told && g.Life.Over() {
		g.farewell(ctx, c)
	}
	c.sent.Close()
	<-c.sent.Done
	if c.program.drops {
		g.awaitIdle(ctx, deadline)
	}
	g.learn(c)
	if errors.Is(why, backend.ErrUnavailable) && !hangs && !waited && c.program.web && !g.Life.Over() {
		ctx, cancel := context.WithTimeout(ctx, g.limits.giveUp) // nobody else is kept waiting for the turn for long
		defer cancel()
		if err := g.unload(ctx); err != nil { // the device is wanted for something else
			g.log.Warn("the model could not be unloaded", "generator", g.Server.Config().ID(), "error", err)
		}
	}
}

// farewell interrupts our job when the agent stops: else a web UI would make it to its end for nobody. It returns as soon as that is
// sent, or can't be proven or needed any more.
func (g *Generator) farewell(ctx context.Context, c *call) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.limits.farewell)
	defer cancel()
	tick := time.NewTicker(g.limits.poll)
	defer tick.Stop()
	for c.program.web && c.eye.canProve() && c.eye.interrupt(ctx) != nil {
		if a, err := g.progress(ctx, false); err == nil && a.idle() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// drain waits for the end of the exchange, and interrupts what is proven ours. The limit runs while nothing else is seen to run. told
// says that it was interrupted.
func (g *Generator) drain(ctx context.Context, c *call, limit time.Duration) (told bool) {
	tick := time.NewTicker(g.limits.poll)
	defer tick.Stop()
	alive := time.Now()
	var asked time.Time
	for {
		if time.Since(asked) > 5*time.Second && c.eye.interrupt(ctx) == nil {
			asked, told = time.Now(), true
		}
		select {
		case <-c.sent.Done:
			return told
		case <-ctx.Done():
			return told
		case <-tick.C:
		}
		if seen := c.eye.look(ctx, false); seen.others {
			alive = time.Now()
		}
		if time.Since(alive) > limit {
			g.log.Warn("a call that was given up does not end: its connection is closed", "generator", g.Server.Config().ID())
			return told
		}
	}
}

// awaitIdle waits until koboldcpp works no more: it ends an image that nobody waits for, or makes it to its end, by its version.
func (g *Generator) awaitIdle(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(g.limits.poll)
	defer tick.Stop()
	for {
		var perf struct{ Idle *int }
		if err := g.get(ctx, "/api/extra/perf", &perf); exchange.StatusOf(err) != 0 || err == nil && (perf.Idle == nil || *perf.Idle == 1) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
