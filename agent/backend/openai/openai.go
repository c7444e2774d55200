// Package openai makes images with a server that somebody else runs and that speaks the images API of OpenAI: LocalAI, vLLM-Omni,
// SGLang-Diffusion, llama-swap, stable-diffusion.cpp's sd-server, and whatever else does. One Generator is one server on one device.
//
// It is the lowest common denominator. There is no progress: steps are estimated from how long earlier images took (see clock.go), and
// never reach the last before the image is there. Cancelling closes the connection, which some programs take no notice of. Seed, steps,
// guidance and a negative prompt travel as each program wants them (see order.go).
//
// Facts are from the programs' sources: LocalAI 82c191a (core/http/endpoints/openai/image.go, list_capabilities.go, core/http/app.go),
// vLLM-Omni (entrypoints/openai/protocol/images.py at 00a3619), SGLang (multimodal_gen/runtime/entrypoints/openai at 0230ddc), and
// captures of sd-server master-827.
package openai

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
)

// limits bound waiting. Tests have others.
type limits struct {
	answer time.Duration // of small exchanges
	look   time.Duration // of one look whether it answers
	tell   time.Duration // between reports
	alive  time.Duration // between reports that nothing is new
	read   time.Duration // of an image, from its first byte to its last
	silent time.Duration // of a whole call
	load   time.Duration // while the server says that it loads or is full
	pause  time.Duration // at most, before it is asked again; it says itself how long
	free   time.Duration // until it answers again after a call that was given up
}

func defaultLimits() limits {
	return limits{
		answer: 20 * time.Second, look: 5 * time.Second, tell: 250 * time.Millisecond, alive: 15 * time.Second, read: 30 * time.Second, silent: 30 * time.Minute,
		load: 15 * time.Minute, pause: time.Minute, free: 5 * time.Minute,
	}
}

// Generator is one server. It is a backend.Backend. Make it with New.
type Generator struct {
	*attach.Server // what is known of it

	client *exchange.Client
	log    *slog.Logger
	limits limits

	clock clock // whoever has the turn

	mu      sync.Mutex
	program program // as far as it is known
	version string  // of it; "" when it does not tell
	doubted bool    // it has not answered since: another one may come back in its place
}

// New gives the server at an address. It is asked what it is when Run begins.
func New(config attach.Config, machine *attach.Machine, log *slog.Logger) *Generator {
	return newGenerator(config, machine, log, defaultLimits())
}

func newGenerator(config attach.Config, machine *attach.Machine, log *slog.Logger, l limits) *Generator {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Generator{log: log, limits: l}
	g.client = exchange.New(exchange.Config{Name: config.Address(), Base: config.Base, Bearer: config.Password, Answer: l.answer, IdleConnections: 2})
	g.Server = attach.New(config, machine, g.probe, log)
	return g
}

// Name gives "openai"; Server.Name is what people call it.
func (g *Generator) Name() string { return "openai" }

// Run asks the server what it is until ctx ends, and then waits for what is left of calls that were given up.
func (g *Generator) Run(ctx context.Context) error {
	err := g.Server.Run(ctx)
	<-g.Life.Idle()
	g.client.Close()
	return err
}

// kind gives the program that answers, as far as it is known. A call asks once, at its start.
func (g *Generator) kind() program {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.program
}
