// Package comfyui makes images with ComfyUI: with one that somebody else runs (Generator), and with those that it starts itself, one for
// each device (Fleet).
//
// A request is filled into a workflow: the template of the model's family, or a workflow that the administrator imported. It is queued
// under an id of our own, watched on a socket, and done when the history of the server has it; the image is then fetched. The socket
// only makes it quick: events are not told again after it was lost, and a server that was restarted has lost queue and history too.
// A prompt is cancelled by its id, never by interrupting whatever runs: that may be somebody else's.
//
// Sizes: both sides are rounded up to whole multiples of what the family can make (8 pixels, of SD3, FLUX and later 16). The rounded size
// is requested and the image is kept as it was made; an image of any other size is an error. An imported workflow decides itself; one that can be told a size is asked for whole multiples of 16, which every family makes.
//
// Images stay in the output folder of a ComfyUI that somebody else runs, below muster/: it has no way to delete them.
//
// Facts are from ComfyUI's source: server.py, execution.py, protocol.py and main.py of 2025-10 (a125cd84) and of 2026 (002c3fb9).
package comfyui

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// Options are common to attached servers and to those that are started. All are optional.
type Options struct {
	// Family tells what is known of a model by its name; nil, or Unknown, goes by the name alone.
	Family func(name string) model.Family
	// Workflows are those that the administrator imported; nil for none.
	Workflows *Workflows
	Log       *slog.Logger // nil discards
}

func (o Options) entries(c catalogue) []entry { return c.entries(o.Family, o.Workflows.All()) }

// Generator is a ComfyUI that somebody else runs, on one device. It is a backend.Backend, backend.Unloader and backend.Loader.
type Generator struct {
	attached *attach.Server
	server   *server
	options  Options

	catalogue atomic.Pointer[catalogue] // nil before it was asked
}

// New gives the server at an address. It is asked what it is when Run begins.
func New(config attach.Config, machine *attach.Machine, options Options) *Generator {
	return newGenerator(config, machine, options, defaultLimits())
}

func newGenerator(config attach.Config, machine *attach.Machine, options Options, l limits) *Generator {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	g := &Generator{options: options}
	client := exchange.New(exchange.Config{
		Name: "ComfyUI", Base: config.Base, User: config.User, Password: config.Password, Answer: l.answer, IdleConnections: 2,
	})
	g.attached = attach.New(config, machine, g.probe, options.Log)
	g.server = &server{api: api{client}, log: options.Log, limits: l, life: g.attached.Life, name: g.attached.Name}
	return g
}

// Name gives "comfyui".
func (g *Generator) Name() string { return "comfyui" }

// Run asks the server what it is until ctx ends. Then calls end too, what is left of them on the server is cancelled, and Run returns
// within 3 s.
func (g *Generator) Run(ctx context.Context) error {
	err := g.attached.Run(ctx)
	select {
	case <-g.attached.Life.Idle():
	case <-time.After(stopAll): // whoever calls may be stuck in what it is told
		g.options.Log.Warn("calls of ComfyUI did not end with the agent", "generator", g.attached.Config().ID())
	}
	g.server.api.Close()
	return err
}

// Time after the end of Run's context.
const (
	stopSubmit = time.Second             // for the answer to a prompt that is being sent
	stopCancel = 2 * time.Second         // for what is left on the server to be cancelled
	stopAll    = 2500 * time.Millisecond // until Run returns whatever happens
)

// Server is what is known of it.
func (g *Generator) Server() *attach.Server { return g.attached }

// Device is the device that it works on; false while that is not known.
func (g *Generator) Device() (gpu.Device, bool) { return g.attached.Device() }

// Was is the stable ID of the device that it worked on when it was seen last, while it is away and not known to have one.
func (g *Generator) Was() string { return g.attached.Was() }

// Problem is why it takes no work now and what would help; nil when it does.
func (g *Generator) Problem() error { return g.attached.Problem() }

// Models gives what it can make images with, imported workflows among them.
func (g *Generator) Models() []backend.Model { return g.attached.Models() }

// Status is the server as people see it.
func (g *Generator) Status() wire.Generator { return g.attached.Status() }

// Owns says whether a process on a device is the server, or was started by it.
func (g *Generator) Owns(pid int) bool { return g.attached.Owns(pid) }
