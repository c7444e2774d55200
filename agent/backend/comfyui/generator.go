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
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/calls"
	"muster/agent/backend/exchange"
	"muster/shared/gpu"
	"muster/shared/job"
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
	// turn holds a token while somebody uses the server: a call, or what is left of one that was given up.
	turn     chan struct{}
	life     atomic.Pointer[context.Context] // of Run; nil before
	mu       sync.Mutex
	closed   bool           // Run ends: no call begins any more
	settling sync.WaitGroup // calls, and what is left of them

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
	g := &Generator{options: options, turn: make(chan struct{}, 1)}
	client := exchange.New(exchange.Config{
		Name: "ComfyUI", Base: config.Base, User: config.User, Password: config.Password, Answer: l.answer, IdleConnections: 2,
	})
	g.server = &server{api: api{client}, log: options.Log, limits: l, life: g.lifetime, name: func() string { return g.attached.Name() }}
	g.attached = attach.New(config, machine, g.probe, options.Log)
	return g
}

// Name gives "comfyui".
func (g *Generator) Name() string { return "comfyui" }

// Run asks the server what it is until ctx ends. Then calls end too, what is left of them on the server is cancelled, and Run returns
// within 3 s.
func (g *Generator) Run(ctx context.Context) error {
	g.life.Store(&ctx)
	err := g.attached.Run(ctx)
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.settling.Wait()
	}()
	select {
	case <-ended:
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

// Problem is why it takes no work now and what would help; nil when it does.
func (g *Generator) Problem() error { return g.attached.Problem() }

// Models gives what it can make images with, imported workflows among them.
func (g *Generator) Models() []backend.Model { return g.attached.Models() }

// Status is the server as people see it.
func (g *Generator) Status() wire.Generator { return g.attached.Status() }

// Owns says whether a process on a device is the server, or was started by it.
func (g *Generator) Owns(pid int) bool { return g.attached.Owns(pid) }

// probe asks the server what it is and has.
func (g *Generator) probe(ctx context.Context) (attach.Facts, error) {
	s, err := g.server.api.stats(ctx)
	if err != nil {
		return attach.Facts{}, explainProbe(err)
	}
	c, err := g.server.api.catalogue(ctx)
	if err != nil {
		return attach.Facts{}, explainProbe(err)
	}
	g.catalogue.Store(&c)
	facts := attach.Facts{Title: s.title(), CPU: s.onCPU(), Loaded: g.attached.Facts().Loaded}
	for _, e := range g.options.entries(c) {
		facts.Models = append(facts.Models, e.model(c))
	}
	if len(s.Devices) == 1 && !facts.CPU { // of several it is not told which one is used
		facts.DeviceName, facts.MemoryBytes = exchange.Clean(s.Devices[0].Name), uint64(max(0, s.Devices[0].VRAMTotal))
	}
	if !s.onCPU() && s.held() < leftOver {
		facts.Loaded = ""
	}
	return facts, nil
}

// explainProbe tells a server that answers, but is none that can be used, from one that does not answer.
func explainProbe(err error) error {
	var answered *exchange.StatusError
	switch {
	case errors.As(err, &answered) && answered.Status == 404, errors.Is(err, exchange.ErrBroken):
		return fmt.Errorf("it is no ComfyUI, or not one that answers as ComfyUI does (%w): %w", err, attach.ErrUnusable)
	case errors.As(err, &answered) && (answered.Status == 401 || answered.Status == 403):
		return fmt.Errorf("it wants a user and a password: write them before its address, as in http://user:password@127.0.0.1:8188 (%w): %w", err, attach.ErrUnusable)
	}
	return err
}

// lifetime ends with Run.
func (g *Generator) lifetime() context.Context {
	if life := g.life.Load(); life != nil {
		return *life
	}
	return context.Background()
}

// usable says why the server can't be used for a device now; nil when it can.
func (g *Generator) usable(dev gpu.Device) error {
	if err := g.attached.Problem(); err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
	if own, ok := g.attached.Device(); !ok || own.ID != dev.ID {
		return fmt.Errorf("%s does not work on %s: %w", g.attached.Name(), dev.Index.Label(), backend.ErrUnavailable)
	}
	return nil
}

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

// enter has Run wait for a call, until leave is called. It is calls.ErrStopping when Run has ended.
func (g *Generator) enter() (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, calls.ErrStopping
	}
	g.settling.Add(1)
	return g.settling.Done, nil
}

// background runs what must outlive a call, and is bounded by itself; Run waits for it. It is only called within a call or by what it
// runs itself: Run waits already.
func (g *Generator) background(rest func()) { g.settling.Go(rest) }

// whileRunning gives a context that ends with ctx or with Run's.
func (g *Generator) whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.lifetime(), func() { cancel(calls.ErrStopping) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}

// linger gives a context that ends so long after life.
func linger(life context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(life))
	stop := context.AfterFunc(life, func() {
		select {
		case <-ctx.Done():
		case <-time.After(after):
			cancel(calls.ErrStopping)
		}
	})
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}

func (g *Generator) take(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Generator) release() { <-g.turn }

// Generate makes one image. When ctx ends it returns at once, what is left on the server is cancelled by its id, and the next call
// waits for that.
func (g *Generator) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return backend.Image{}, err
	}
	if err := g.usable(dev); err != nil {
		return backend.Image{}, err
	}
	e, c, err := g.find(req.Model)
	if err != nil {
		return backend.Image{}, err
	}
	var png []byte
	err = g.work(ctx, e, req, func(ctx context.Context) (p *queued, err error) {
		png, p, err = generate(ctx, g.server, e, c, req, report, g.background)
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
	if err := g.usable(dev); err != nil {
		return err
	}
	e, c, err := g.find(name)
	if err != nil {
		return err
	}
	req := warmUp(e)
	return g.work(ctx, e, req, func(ctx context.Context) (*queued, error) { return load(ctx, g.server, e, c, req, g.background) })
}

// errPanicked is how a call ended that did not return: no fault of the server's.
var errPanicked = errors.New("the call panicked")

// work does a call's work with the turn, and explains its error. A call that panics gives the turn back too.
func (g *Generator) work(ctx context.Context, e entry, req backend.Request, do func(context.Context) (*queued, error)) (err error) {
	leave, err := g.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := g.whileRunning(ctx)
	defer cancel()
	if err := g.take(ctx); err != nil {
		return err
	}
	kept := true
	defer func() {
		if kept {
			g.release()
		}
	}()
	g.attached.Begin()
	err = errPanicked
	defer func() { g.attached.End(err) }()
	left, failed := do(ctx)
	switch err = failed; {
	case err == nil:
		g.attached.Loaded(e.name)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = redact(err, req)
	}
	// A cause that gives up the device wants its memory back, whatever of ours is still there.
	free := ctx.Err() != nil && errors.Is(err, backend.ErrUnavailable)
	if left != nil || free {
		kept = false
		g.handOn(left, free)
	}
	return err
}

// handOn has what is left of a call taken off the server by a goroutine, to which the turn passes, and everything unloaded if the
// device was given up. Meanwhile the server is not probed. left is nil when nothing is.
func (g *Generator) handOn(left *queued, free bool) {
	ctx := g.lifetime()
	g.attached.Begin()
	g.background(func() {
		defer g.release()
		defer g.attached.End(errGone) // neither a success nor a failure
		free = free && (left == nil || g.server.begun(ctx, left))
		if left != nil {
			if err := g.server.leave(ctx, left); err != nil {
				g.options.Log.Warn("ComfyUI", "generator", g.attached.Config().ID(), "error", err)
			}
		}
		if free && ctx.Err() == nil && g.server.spare(ctx, left) && g.server.unload(ctx) == nil {
			g.attached.Loaded("")
		}
	})
}

// Unload has everything unloaded that the server holds on its device, whoever asked for it. A server that is not there holds nothing.
func (g *Generator) Unload(ctx context.Context, dev gpu.Device) error {
	if own, ok := g.attached.Device(); !ok || own.ID != dev.ID {
		return nil
	}
	if err := g.take(ctx); err != nil {
		return err
	}
	defer g.release()
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
