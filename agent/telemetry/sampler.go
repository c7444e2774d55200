package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"muster/shared/gpu"
)

const (
	// callDeadline is when a device whose driver call has not returned is stuck; slower intervals raise it to maxCallDeadline
	// at most, so that it shows within 3 s.
	callDeadline    = 1500 * time.Millisecond
	maxCallDeadline = 2500 * time.Millisecond
	// collectWindow is how long a tick waits for its readings; slower ones appear with their age in the next.
	collectWindow = 50 * time.Millisecond
	// firstWindow is how long at most a tick waits for devices that were never read.
	firstWindow = 500 * time.Millisecond
	// defaultStartWindow lets the agent show something soon; what slow drivers list arrives later.
	defaultStartWindow = 1400 * time.Millisecond
	// stopGrace is how long Run waits at its end for calls that may never return.
	stopGrace = 2 * time.Second

	// catchUpWindow gathers readings that come between two ticks because a slow call kept them from theirs.
	catchUpWindow = 20 * time.Millisecond

	minInterval     = 100 * time.Millisecond
	defaultInterval = time.Second
)

// Config says what to sample. Only Readers are needed, and they may be none.
type Config struct {
	Readers  []Reader      // the earlier one's word counts more where two describe one device
	Host     HostReader    // nil = nothing is known of the machine
	Interval time.Duration // between ticks; 0 = 1 s, at least 100 ms
	// StartWindow is how long the first tick waits at most for the readers' inventories; 0 = 1.4 s. Who looks only once sets it
	// longer than a driver may take to load (seconds a card), for a device that is listed later is one that is not seen.
	StartWindow time.Duration
	// Publish gets each tick's result, from one goroutine, and must not block; nil = nobody listens. What it gets is never
	// changed afterwards.
	Publish func(*gpu.Inventory, *gpu.Snapshot)
	// PublishReport gets each Report, as Publish gets snapshots and always after the Inventory that it belongs to.
	PublishReport func(*gpu.Report)
	// Viewers says how many watch; nil = somebody does. While nobody does, Details are asked for less often.
	Viewers func() int
	// DescribeProcesses fills Name, User and Command of processes in place, as far as they are empty and it knows them. It is
	// called by a goroutine of its own, never twice at once; nil = nothing is filled.
	DescribeProcesses func([]gpu.Process)
	Log               *slog.Logger // nil = discard
}

// Sampler asks every reader at a fixed rate and publishes what they say.
//
// Run's goroutine (the loop) owns everything but the published values. Calls into readers are made by goroutines of their own
// (see call), which hand their results to the loop as functions to run there.
type Sampler struct {
	config   Config
	deadline time.Duration // of Read
	log      *slog.Logger

	// Published, read from any goroutine.
	inventory atomic.Pointer[gpu.Inventory]
	snapshot  atomic.Pointer[gpu.Snapshot]
	newest    atomic.Pointer[gpu.Report]
	ended     chan struct{} // closed when Run ends

	// The loop's.
	rosters     []*roster
	host        *hostWorker
	workers     map[origin]*worker
	devices     [][]*worker // by Device.Index: who reads it, best first
	relist      bool        // a roster or the host changed since the inventory was merged
	seq         uint64
	tickAt      time.Time
	collecting  bool // a tick waits for its readings
	caughtUp    bool // a reading came that belongs to the tick before
	rounds      rounds
	complained  map[string]string // last failure logged, by what failed
	arrived     chan func()
	exited      chan struct{}
	abandoned   chan struct{} // closed when Run no longer waits for goroutines
	goroutines  int
	windowTimer *time.Timer
	begun       []*call // of this tick; kept for its capacity
}

// NewSampler makes a sampler; nothing is read before Run.
func NewSampler(c Config) *Sampler {
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	c.Interval = max(c.Interval, minInterval)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Sampler{
		config: c, log: c.Log,
		deadline:   min(max(callDeadline, c.Interval+c.Interval/10), maxCallDeadline),
		workers:    map[origin]*worker{},
		complained: map[string]string{},
		arrived:    make(chan func()), exited: make(chan struct{}), abandoned: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Inventory is the newest one published; nil before the first tick.
func (s *Sampler) Inventory() *gpu.Inventory { return s.inventory.Load() }

// Snapshot is the newest one published; nil before the first tick.
func (s *Sampler) Snapshot() *gpu.Snapshot { return s.snapshot.Load() }

// Run samples until ctx ends, which is no error. Calls that have not returned 2 s later are left behind: they can't be
// stopped. Run is called once.
func (s *Sampler) Run(ctx context.Context) error {
	defer s.wait()
	defer close(s.ended)
	s.windowTimer = time.NewTimer(time.Hour)
	defer s.windowTimer.Stop()
	s.launch(ctx)
	s.settle(ctx, cmp.Or(s.config.StartWindow, defaultStartWindow), func() bool { return s.listing() == 0 })
	ticker := time.NewTicker(s.config.Interval)
	defer ticker.Stop()
	flag, report := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer flag.Stop()
	defer report.Stop()
	for ctx.Err() == nil {
		s.tick(ctx)
		s.publish()
		s.askForDetails()
		s.flagLater(flag)
		s.between(ctx, ticker.C, flag, report)
	}
	return nil
}

// between waits for the next tick, takes what arrives, and shows at once that a call has passed its deadline. Reports are
// published here, so that none delays a tick.
func (s *Sampler) between(ctx context.Context, next <-chan time.Time, flag, report *time.Timer) {
	for {
		report.Reset(s.reportWhenDue(time.Now()))
		select {
		case <-ctx.Done():
			return
		case <-next:
			return
		case take := <-s.arrived:
			take()
			if s.caughtUp {
				s.caughtUp = false
				flag.Reset(catchUpWindow)
			}
		case <-flag.C:
			s.publish()
			s.flagLater(flag)
		case <-report.C:
		}
	}
}

// flagLater sets the timer to the next deadline that a call in flight will pass.
func (s *Sampler) flagLater(flag *time.Timer) {
	wait := time.Hour
	now := time.Now()
	for _, readers := range s.devices {
		for _, w := range readers {
			if w.busy && !w.late(now) {
				wait = min(wait, w.since.Add(w.deadline).Sub(now))
			}
		}
	}
	flag.Reset(wait)
}

// settle takes what arrives until done or until the window has passed.
func (s *Sampler) settle(ctx context.Context, window time.Duration, done func() bool) {
	s.windowTimer.Reset(window)
	for !done() {
		select {
		case take := <-s.arrived:
			take()
		case <-s.windowTimer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// wait lets the goroutines end that can.
func (s *Sampler) wait() {
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	for s.goroutines > 0 {
		select {
		case <-s.exited:
			s.goroutines--
		case <-grace.C:
			close(s.abandoned)
			s.log.Warn("driver calls have not returned; they are left behind", "calls", s.goroutines)
			return
		}
	}
}
