// Package agent wires the parts of muster together and nothing else: the sampler watches the devices, the feed shows what it
// saw, the server takes commands, the queue keeps them, the scheduler spreads them. Every arrow between them stands in Run.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/agent/backend"
	"muster/agent/feed"
	"muster/agent/images"
	"muster/agent/models"
	"muster/agent/queue"
	"muster/agent/scheduler"
	"muster/agent/server"
	"muster/agent/telemetry"
	"muster/agent/telemetry/history"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// Hardware is what this machine can be asked and what it can generate with. The literal list stands in cmd/muster.
type Hardware struct {
	Readers []telemetry.Reader
	Host    telemetry.HostReader
	// DescribeProcesses names programs on the devices in place; nil leaves them without names.
	DescribeProcesses func([]gpu.Process)
	// Slots gives the devices that can generate, for an inventory. It must not block.
	Slots func(gpu.Inventory) []scheduler.Slot
	// Generators gives the programs behind the slots, and those that can't take work yet; it must not block. nil: none are told of.
	Generators func() []wire.Generator
	// Awaited gives the models of generators that are away or have no device yet; it must not block. nil: there are none.
	Awaited func() []scheduler.Awaited
	// Workflows are those of ComfyUI; the zero value has none.
	Workflows server.Workflows
	// See is shown every new inventory and report, either of which may be nil; it must not block. nil: nobody looks.
	See func(*gpu.Inventory, *gpu.Report)
	// Models is told, before anything is asked for them, where the models of the library stand that generators can use, and which names
	// are not to be used; nil when no generator reads model files.
	Models func(usable func() []models.Model, barred func(name string) bool)
	// Run supervises the generators' processes until ctx ends; nil when there are none.
	Run func(context.Context) error
	// Remember keeps what is known of generators beyond the agent's end, until ctx ends; nil when nothing is.
	Remember func(context.Context) error
	// Collect supervises the processes that readers read through, as long as the sampler runs; nil when there are none.
	Collect func(context.Context) error
}

// memoryLimit makes the collector return memory that a burst needed; the idle agent stays far below it.
const memoryLimit = 256 << 20

// Run serves until ctx ends, then stops in order: no new requests, no new images, no generators, last commit. out gets what a person must see.
func Run(ctx context.Context, config Config, hardware Hardware, site fs.FS, build string, out io.Writer, log *slog.Logger) error {
	debug.SetMemoryLimit(memoryLimit)
	parts, err := assemble(ctx, config, hardware, site, build, log)
	if err != nil {
		return err
	}
	address := filepath.Join(config.Data, addressFile)
	if err := writePrivate(address, parts.listener.Addr().String()+"\n"); err != nil {
		return errors.Join(err, parts.discard())
	}
	defer os.Remove(address)
	fmt.Fprintf(out, "muster %s watches this machine. Open this link once, within 5 minutes:\n\n  %s\n\n(muster link prints a new one.)\n", build, parts.edge.NewLink())
	return parts.run(ctx, hardware, log)
}

// parts are what flows into each other, in the order of the flow.
type parts struct {
	sampler  *telemetry.Sampler
	past     *history.Store
	feed     *feed.Feed
	jobs     *queue.Queue
	store    *images.Store
	previews *images.Previews
	library  *models.Library
	keep     *retention
	spread   *scheduler.Scheduler
	edge     *server.Server
	listener net.Listener
}

func assemble(ctx context.Context, config Config, hardware Hardware, site fs.FS, build string, log *slog.Logger) (*parts, error) {
	if err := os.MkdirAll(config.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w; choose another with --data", err)
	}
	token, err := Token(config, true)
	if err != nil {
		return nil, err
	}
	see := hardware.See
	if see == nil {
		see = func(*gpu.Inventory, *gpu.Report) {}
	}
	p := &parts{feed: feed.New(), previews: &images.Previews{}}
	p.feed.Log(log)
	p.jobs, err = queue.Open(ctx, config.Data, queue.Options{
		Log: log, Pruned: p.feed.Forget, Steered: p.wake,
		Publish: func(changed []job.Job) {
			p.feed.Jobs(changed)
			p.wake()
		},
		MakeRoom: func(ctx context.Context) { p.keep.makeRoom(ctx) },
	})
	if err != nil {
		return nil, err
	}
	if p.store, err = images.Open(filepath.Join(config.Data, "images")); err != nil {
		return nil, errors.Join(err, p.discard()) // after the queue, whose lock guards the folder
	}
	if err := p.openLibrary(config, hardware, log); err != nil {
		return nil, errors.Join(err, p.discard())
	}
	p.keep = newRetention(p.jobs, p.store, config.KeepFor, int64(config.KeepBytes), log)
	if p.past, err = history.Open(filepath.Join(config.Data, "history"), config.Interval, log); err != nil {
		return nil, errors.Join(err, p.discard())
	}
	p.sampler = telemetry.NewSampler(telemetry.Config{
		Readers: hardware.Readers, Host: hardware.Host, Interval: config.Interval, Log: log,
		Viewers: p.feed.Subscribers, DescribeProcesses: hardware.DescribeProcesses,
		PublishReport: func(report *gpu.Report) {
			see(nil, report)
			p.feed.Details(report)
		},
		Publish: func(inventory *gpu.Inventory, snapshot *gpu.Snapshot) {
			see(inventory, nil)
			p.feed.Inventory(inventory)
			p.feed.Snapshot(snapshot)
			p.past.Record(inventory, snapshot)
			p.spread.Wake()
		},
	})
	p.spread = scheduler.New(scheduler.Config{
		Policy: scheduler.Policy(config.Policy), Queue: p.jobs, Images: p.store, Slots: hardware.Slots,
		Inventory: p.sampler.Inventory, Snapshot: p.sampler.Snapshot, Report: p.sampler.Report, Steering: p.jobs.Steering, Log: log, Generators: hardware.Generators, Awaited: hardware.Awaited,
		Preview: func(id string, preview backend.Preview) { p.previews.Put(id, images.Preview(preview)) },
		Publish: func(c wire.Capacity) { p.feed.Capacity(&c) },
	})
	if p.listener, err = net.Listen("tcp", config.Listen); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; choose another address with --listen", err), p.discard())
	}
	p.edge, err = server.New(server.Config{
		Build: build, Instance: instance(), Interval: config.Interval, Addr: p.listener.Addr().String(), AllowHosts: config.AllowHosts,
		Token: token, ModelsDir: config.ModelsDir(), MaxClients: config.MaxClients, Queue: p.jobs, Images: p.store, Previews: p.previews, Workflows: hardware.Workflows, Feed: p.feed,
		Library: p.library, LoadModel: p.load,
		Inventory: p.sampler.Inventory, Snapshot: p.sampler.Snapshot, History: p.history, Temperatures: p.temperatures,
		Report: p.sampler.Report, PCIeThroughput: p.sampler.PCIeThroughput, Query: p.query,
		Capacity: p.spread.Capacity, Offer: p.offer, Steering: p.jobs.Steering, Steer: p.steer, SteerPool: p.jobs.SteerPool, Ready: ready(p.spread), Site: site, Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, p.discard())
	}
	return p, nil
}

// wake makes the scheduler plan again.
func (p *parts) wake() {
	if p.spread != nil { // discard runs the queue alone
		p.spread.Wake()
	}
}

// discard closes what assemble opened, when it came to nothing.
func (p *parts) discard() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	err := p.jobs.Run(ended) // it is what closes the queue
	if p.listener != nil {
		err = errors.Join(err, p.listener.Close())
	}
	return err
}

// run starts everything that is long-running. The queue outlives the others, so that their last changes are committed; the
// generators outlive the scheduler, for one that ends under an image counts as one that died.
func (p *parts) run(ctx context.Context, hardware Hardware, log *slog.Logger) error {
	queueCtx, stopQueue := context.WithCancel(context.WithoutCancel(ctx))
	defer stopQueue()
	queueDone := make(chan error, 1)
	group, ctx := errgroup.WithContext(ctx)
	go func() { queueDone <- p.jobs.Run(queueCtx) }()
	group.Go(func() error { return p.sampler.Run(ctx) })
	group.Go(func() error { return p.past.Run(ctx) })
	group.Go(func() error { return p.library.Run(ctx) })
	if hardware.Collect != nil {
		group.Go(func() error { return hardware.Collect(ctx) })
	}
	generatorsCtx, stopGenerators := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer stopGenerators()
		return p.spread.Run(ctx)
	})
	group.Go(func() error { return p.keep.run(ctx) })
	group.Go(func() error { return p.edge.Serve(ctx, p.listener) })
	if hardware.Run != nil {
		group.Go(func() error { return hardware.Run(generatorsCtx) })
	}
	if hardware.Remember != nil {
		group.Go(func() error { return hardware.Remember(generatorsCtx) })
	}
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	stopQueue()
	return errors.Join(err, <-queueDone)
}

func ready(s *scheduler.Scheduler) func() error {
	return func() error {
		return readyWith(s.Capacity())
	}
}

// readyWith says why no device takes work; nil when one does.
func readyWith(capacity wire.Capacity) error {
	paused := false
	for _, slot := range capacity.Slots {
		if slot.Problem == "" && !slot.Paused {
			return nil
		}
		paused = paused || slot.Problem == ""
	}
	if paused {
		return errors.New("every device that can generate is paused: resume one with POST /api/v1/devices/ID/resume")
	}
	return errors.New("no device can generate: see muster doctor")
}

// history is the past of all devices, in the order of the inventory.
func (p *parts) history(window time.Duration, points int) wire.History {
	var ids []string
	if inventory := p.sampler.Inventory(); inventory != nil {
		for _, d := range inventory.Devices {
			ids = append(ids, d.ID)
		}
	}
	return p.past.Window(ids, window, points)
}

func (p *parts) query(q server.HistoryQuery) (server.HistorySeries, error) {
	series, err := p.past.Query(history.Query(q))
	return server.HistorySeries(series), err
}

func (p *parts) temperatures(ref gpu.Ref) []server.TemperaturePoint {
	inventory := p.sampler.Inventory()
	if inventory == nil {
		return nil
	}
	device, ok := inventory.Device(ref)
	if !ok {
		return nil
	}
	points := p.past.Temperatures(device.ID)
	out := make([]server.TemperaturePoint, len(points))
	for i, point := range points {
		out[i] = server.TemperaturePoint(point)
	}
	return out
}

func (p *parts) offer(model string, device *gpu.Ref) server.Offer {
	return server.Offer(p.spread.Offer(model, device))
}

// steer keeps what a person decided about a device, by its stable ID.
func (p *parts) steer(ctx context.Context, ref gpu.Ref, c pool.Control) (pool.Control, error) {
	if ref == gpu.CPU {
		return p.jobs.Steer(ctx, gpu.CPU.String(), c)
	}
	if inventory := p.sampler.Inventory(); inventory != nil {
		if device, ok := inventory.Device(ref); ok {
			return p.jobs.Steer(ctx, device.ID, c)
		}
	}
	return pool.Control{}, fmt.Errorf("device %s: %w", ref, server.ErrNoDevice)
}

func instance() string { return fmt.Sprintf("%x", random(8)) }
