package comfyui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/mask"
	"muster/agent/process"
	"muster/shared/gpu"
)

// Config says which ComfyUI to start. Folder and Dir are required.
type Config struct {
	Options
	Folder string // with main.py
	// Python is the interpreter that it is run with; "" looks for the one of its own environment, then for python3.
	Python string
	// Dir holds a private folder per device: output, input, user data, caches of drivers. It stays over restarts.
	Dir string
	// Models is muster's own models folder, whose files become checkpoints; "" for none.
	Models string
	// Env is added to the children's environment, which is otherwise made from scratch ("LD_LIBRARY_PATH=…",
	// "HSA_OVERRIDE_GFX_VERSION=…"). Device masks are refused: they are what this package sets.
	Env []string

	scan func() listing // looks at the models folders; nil for the disk's. Tests have others.
}

// Fleet owns every ComfyUI that this agent starts: one for each device, when it is needed.
type Fleet struct {
	// Set by NewFleet, never changed.
	cfg    Config
	limits limits
	gen    *fleetGenerator
	// freePort gives the port of a new child; tests give taken ones.
	freePort func() (int, error)

	running, closing chan struct{} // closed when Run begins, and when it ends

	install   atomic.Pointer[install]
	children  atomic.Pointer[children]  // changed under mu
	catalogue atomic.Pointer[catalogue] // of the instance that answered last; nil before

	mu       sync.Mutex
	started  bool // by Run
	closed   bool // nothing may be started any more
	slots    map[string]*slot
	settling sync.WaitGroup

	stock    atomic.Pointer[stock] // changed under stocking; never nil
	stocking sync.Mutex
	scanning chan listing // the scan under way; nil for none. NewFleet uses it, then Run.
}

// NewFleet checks the configuration, asks ComfyUI for its options, for at most 10 s, and looks at the models folders, for at most 2 s.
// What does not answer is no error here: Serves or Generators say why, and Run asks again.
func NewFleet(cfg Config) (*Fleet, error) {
	l := defaultLimits()
	l.probe = 10 * time.Second
	return newFleet(cfg, l)
}

func newFleet(cfg Config, limits limits) (*Fleet, error) {
	var err error
	for _, path := range []*string{&cfg.Folder, &cfg.Dir, &cfg.Models} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	if info, err := os.Stat(filepath.Join(cfg.Folder, "main.py")); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("there is no main.py in %s: give the folder of ComfyUI that has it", cfg.Folder)
	}
	if cfg.Python, err = findPython(cfg.Folder, cfg.Python); err != nil {
		return nil, err
	}
	for _, variable := range cfg.Env {
		if name, _, _ := strings.Cut(variable, "="); mask.Set(variable) {
			return nil, fmt.Errorf("environment of ComfyUI: %s is set per device by muster; leave it out", name)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{cfg: cfg, limits: limits, freePort: freePort, running: make(chan struct{}), closing: make(chan struct{}), slots: map[string]*slot{}}
	f.children.Store(&children{})
	f.gen = &fleetGenerator{f}
	f.stock.Store(&stock{})
	if f.cfg.scan == nil {
		f.cfg.scan = f.scan
	}
	f.look(context.Background())
	f.ask(context.Background())
	return f, nil
}

// Run owns the children: none is started before it begins, and all are gone when it returns, after ctx ended. Its error then
// wraps process.ErrStuck when a child could not be killed.
func (f *Fleet) Run(ctx context.Context) error {
	f.mu.Lock()
	again := f.started
	f.started = true
	f.mu.Unlock()
	if again {
		return errors.New("ComfyUI fleet: Run was called twice")
	}
	close(f.running)
	var looking sync.WaitGroup
	looking.Go(func() { f.keepLooking(ctx) })
	f.askUntilAnswered(ctx)
	<-ctx.Done()

	f.mu.Lock()
	f.closed = true
	last := slices.Collect(maps.Values(*f.children.Load()))
	f.mu.Unlock()
	close(f.closing)
	stuck := make([]error, len(last))
	var stopping sync.WaitGroup
	for i, child := range last {
		stopping.Go(func() { stuck[i] = child.Stop() })
	}
	stopping.Wait()
	f.settling.Wait()
	looking.Wait()
	return errors.Join(stuck...)
}

// Serves gives nil when the device can be given work now, or says in words why not and what would help. It does not block.
func (f *Fleet) Serves(dev gpu.Device) error {
	if _, err := f.pin(dev); err != nil {
		return err
	}
	if now := f.stock.Load(); !now.listed && now.problem != nil {
		return now.problem
	}
	f.mu.Lock()
	s := f.slots[dev.ID]
	f.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.problem(time.Now())
}

// pin gives the one mask variable by which a child sees a device alone; none for the processor.
func (f *Fleet) pin(dev gpu.Device) ([]string, error) {
	if err := f.install.Load().err; err != nil {
		return nil, err
	}
	switch {
	case dev.Index == gpu.CPU:
		return nil, nil
	case dev.Simulated:
		return nil, fmt.Errorf("%s is simulated: ComfyUI needs a real device", dev.Index.Label())
	case dev.Vendor == gpu.NVIDIA:
		return mask.CUDA(dev)
	case dev.Vendor == gpu.AMD:
		return mask.ROCm(dev)
	}
	return nil, fmt.Errorf("%s: muster starts ComfyUI on NVIDIA and AMD devices alone: start one for this device yourself, and give its address with --comfyui", dev.Index.Label())
}

// Models gives what the children can make images with, imported workflows among them. It does not block.
func (f *Fleet) Models() []backend.Model { return slices.Clone(f.stock.Load().models) }

// Backend gives the generator, always the same one. Its calls wait until Run has begun.
func (f *Fleet) Backend() backend.Backend { return f.gen }

// slot gives the device's, made when it is first asked for.
func (f *Fleet) slot(dev gpu.Device) *slot {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slots[dev.ID]
	if s == nil {
		s = newSlot(f, dev)
		f.slots[dev.ID] = s
	}
	return s
}

// start starts a child that Run will end.
func (f *Fleet) start(c process.Command) (*process.Child, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errStopping
	}
	child, err := process.Start(c)
	if err != nil {
		return nil, err
	}
	f.publish(func(all children) { all[child.PID()] = child })
	return child, nil
}

// forget takes a child that is gone from the list.
func (f *Fleet) forget(child *process.Child) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publish(func(all children) { delete(all, child.PID()) })
}

// settle runs what is left of a call that has returned already; false when the fleet is ending and nothing needs to be settled.
func (f *Fleet) settle(rest func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.settling.Go(rest)
	return true
}

// errStopping is the cause when Run ends during a call.
var errStopping = fmt.Errorf("the agent stops: %w", backend.ErrUnavailable)

// whileRunning gives a context that ends with ctx or with Run.
func (f *Fleet) whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-f.closing:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// main is the program that the interpreter runs.
func (f *Fleet) main() string { return filepath.Join(f.cfg.Folder, "main.py") }

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port on loopback: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
