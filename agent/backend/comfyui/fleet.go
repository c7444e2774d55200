package comfyui

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/fleet"
	"muster/agent/backend/mask"
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

	scan    func() listing  // looks at the models folders; nil for the disk's. Tests have others.
	examine func() premises // looks at ComfyUI's folder; nil for the disk's. Tests have others.
}

// Fleet owns every ComfyUI that this agent starts: one for each device, when it is needed.
type Fleet struct {
	// Set by NewFleet, never changed.
	cfg    Config
	limits limits
	gen    *fleetGenerator
	// freePort gives the port of a new child; tests give taken ones.
	freePort func() (int, error)

	children *fleet.Fleet // that run
	slots    *fleet.Slots[*slot]

	install   atomic.Pointer[install]
	catalogue atomic.Pointer[catalogue] // of the instance that answered last; nil before

	stock    atomic.Pointer[stock] // changed under stocking; never nil
	stocking sync.Mutex
	scanning chan listing // the scan under way; nil for none. NewFleet uses it, then Run.

	examining chan premises // the look at ComfyUI's folder under way; nil for none. NewFleet uses it, then Run.
}

// NewFleet checks the configuration, asks ComfyUI for its options, for at most 10 s, and looks at its folder and at those of models, for at most 2 s each.
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
	if err := mask.Refuse("ComfyUI", cfg.Env); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{cfg: cfg, limits: limits, freePort: fleet.FreePort}
	f.children = fleet.New(fleet.Config{Name: "ComfyUI", Backoff: limits.backoff, Breaker: limits.breaker, Log: cfg.Log})
	f.slots = fleet.NewSlots(f.newSlot)
	f.gen = &fleetGenerator{f}
	f.stock.Store(&stock{})
	if f.cfg.scan == nil {
		f.cfg.scan = f.scan
	}
	if f.cfg.examine == nil {
		f.cfg.examine = f.examine
	}
	f.ask(context.Background())
	if err := f.install.Load().fault; err != nil {
		return nil, err
	}
	f.look(context.Background())
	return f, nil
}

// Run owns the children: none is started before it begins, and all are gone when it returns, after ctx ended. Its error then
// wraps process.ErrStuck when a child could not be killed.
func (f *Fleet) Run(ctx context.Context) error {
	return f.children.Run(ctx, f.keepLooking, f.askUntilAnswered)
}

// Owns says whether a process is one of the fleet's children, or was started by one. It does not block.
func (f *Fleet) Owns(pid int) bool { return f.children.Owns(pid) }

// Serves gives nil when the device can be given work now, or says in words why not and what would help. It does not block.
func (f *Fleet) Serves(dev gpu.Device) error {
	if _, err := f.pin(dev); err != nil {
		return err
	}
	if now := f.stock.Load(); !now.listed && now.problem != nil {
		return now.problem
	}
	if s, ok := f.slots.Known(dev); ok {
		return s.Problem(time.Now())
	}
	return nil
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

// main is the program that the interpreter runs.
func (f *Fleet) main() string { return filepath.Join(f.cfg.Folder, "main.py") }
