// Package scheduler spreads queued images over the devices that can make them.
//
// It is three parts. Core decides, without goroutine, clock or disk: what is known becomes an Input, and Place, a pure function,
// makes of it what should start, and why and until when the rest waits; estimate.go learns what images cost. scheduler.go, loop.go
// and carry.go do: one goroutine plans again on every event and gives images to devices; each attempt has a goroutine of its own,
// because no call into a backend is trusted to return. The queue records. Nothing is bound to a device until it starts.
package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"muster/agent/backend"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// Slot is a device with a generator: it takes one image at a time.
type Slot struct {
	Device  gpu.Device // or backend.CPU()
	Backend backend.Backend
	Models  []backend.Model
	// Generator tells one of several generators of a device from another, should it change; "" is the backend's name.
	Generator string
	// Speed is about how many steps of a 512x512 image it makes a second, used until that was measured; 0 is not known.
	Speed   float64
	Problem string // why it can't take work now, in words for people; "" when it can
	// Owns says whether a process on the device is the backend's; nil when it can't tell. It must not block.
	Owns func(pid int) bool
	// Fallback says that it only goes on with what was accepted while nothing else here could generate: it is offered to nobody.
	Fallback bool
}

// Awaited is a generator without a slot, which has these models when it is back. Images of them are taken, and wait.
type Awaited struct {
	Generator string // ID of one of the Generators, which says why it is away
	Models    []backend.Model
}

// Jobs is what the scheduler needs of *queue.Queue.
type Jobs interface {
	Active() []job.Job
	Start(ctx context.Context, id string, attempt int, at queue.Placement) (job.Job, error)
	Progress(id string, attempt int, p job.Progress)
	Explain(outlooks map[string]job.Outlook)
	Succeed(ctx context.Context, id string, attempt int, imageID string) (job.Job, error)
	Fail(ctx context.Context, id string, attempt int, why string) (job.Job, error)
	Requeue(ctx context.Context, id string, attempt int, why string, countsAsFailure bool) (job.Job, error)
}

// Images is what the scheduler needs of *images.Store.
type Images interface {
	Put(ctx context.Context, png []byte) (id string, err error)
}

// Config of a Scheduler.
type Config struct {
	Policy    Policy // "" is Predicted
	Queue     Jobs
	Images    Images
	Slots     func(gpu.Inventory) []Slot // must not block
	Inventory func() *gpu.Inventory      // gives nil until the devices are known
	Snapshot  func() *gpu.Snapshot       // gives nil until something was measured
	Report    func() *gpu.Report         // gives nil until the programs on the devices are known; may be nil
	Steering  func() *pool.Steering      // what people decided about the devices; may be nil
	// Generators are the programs behind the slots, and those that can't take work yet; it must not block, and may be nil.
	Generators func() []wire.Generator
	// Awaited are those of the Generators that are away, as far as it is known what they have; it must not block, and may be nil.
	Awaited func() []Awaited
	// Preview takes a picture of a job's unfinished image; nil data tells that there will be no further one. It must not block, and
	// may be nil.
	Preview func(jobID string, p backend.Preview)
	Publish func(wire.Capacity) // gets every change of Capacity; must not block; may be nil
	Log     *slog.Logger        // nil discards
}

// Scheduler gives queued images to devices.
type Scheduler struct {
	config Config
	log    *slog.Logger
	wake   chan struct{} // of size 1: something changed
	events chan event    // from attempts to the loop
	asks   chan *wish    // from Load to the loop
	gone   chan struct{} // closed when Run has returned

	mu       sync.Mutex
	capacity wire.Capacity
	slots    []Slot // that it stands for
	awaited  []Awaited
}

// New gives a Scheduler; nothing happens before Run.
func New(config Config) *Scheduler {
	if config.Policy == "" {
		config.Policy = Predicted
	}
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Scheduler{
		config: config, log: log,
		wake: make(chan struct{}, 1), events: make(chan event), asks: make(chan *wish), gone: make(chan struct{}),
		capacity: wire.Capacity{Policy: string(config.Policy), Models: []wire.Model{}, Slots: []wire.Slot{}},
	}
}

// Wake says that something changed: jobs, snapshot or inventory. It never blocks; any goroutine may call it.
func (s *Scheduler) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Capacity is what can generate now. Any goroutine may call it; nobody may change the result.
func (s *Scheduler) Capacity() wire.Capacity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.capacity
}

// Timing of the loop.
const (
	shutdownGrace = 4 * time.Second        // for attempts to end when the agent stops
	planShare     = 20                     // planning takes at most one part in this many of a core
	maxPlanGap    = 500 * time.Millisecond // between two plans
)

// Run plans and starts images until ctx ends. Then attempts are told to stop and get a few seconds; jobs that were running stay
// so in the database and are queued again at the next start. It may be called once.
func (s *Scheduler) Run(ctx context.Context) error {
	defer close(s.gone)
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errShutdown)
	l := newLoop(s)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			stop(errShutdown)
			l.drain()
			return nil
		case <-s.wake:
		case e := <-s.events:
			l.handle(e)
		case w := <-s.asks:
			l.core.Want(w)
		case <-timer.C:
		}
		l.handleWaiting()
		begun := time.Now()
		next := l.step(work)
		// With a very long queue, planning on every event would fill a core.
		if gap := min(planShare*time.Since(begun), maxPlanGap); gap > 10*time.Millisecond {
			l.rest(ctx, gap)
		}
		timer.Reset(next)
	}
}

// rest handles events for a while without planning; what they change is planned after it.
func (l *loop) rest(ctx context.Context, gap time.Duration) {
	over := time.NewTimer(gap)
	defer over.Stop()
	for {
		select {
		case e := <-l.s.events:
			l.handle(e)
			l.s.Wake()
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// handleWaiting takes the events that are there already, so that one plan serves all of them.
func (l *loop) handleWaiting() {
	for {
		select {
		case e := <-l.s.events:
			l.handle(e)
		default:
			return
		}
	}
}

// drain waits until every attempt has ended, but not for ever.
func (l *loop) drain() {
	grace := time.NewTimer(shutdownGrace)
	defer grace.Stop()
	for l.busy() > 0 {
		select {
		case e := <-l.s.events:
			l.handle(e)
		case <-grace.C:
			l.s.log.Warn("generators did not stop in time", "count", l.busy())
			return
		}
	}
}
