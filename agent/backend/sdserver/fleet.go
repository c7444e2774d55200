// Package sdserver generates with stable-diffusion.cpp's sd-server: one supervised child per device, pinned to it by exactly one
// mask variable, with one model at a time. The facts it leans on are captured in shared/fixtures/sd-server (master-827).
//
// The program must be sd-server itself, or a script that execs it: a kill -9 of the agent takes only the direct child along.
//
// Sizes: sd-server rounds both sides up to multiples of 64. The rounded size is requested and the image is kept as it was made;
// an image of any other size is an error.
package sdserver

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/fleet"
	"muster/agent/backend/mask"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/model"
)

// Config says which program to run, where, and with which models.
type Config struct {
	Program string // path of sd-server, or its name on PATH
	// Dir holds a private working folder per device, made when needed. Driver caches stay there over restarts.
	Dir string
	// Threads is each child's -t; 0 is 1 on a GPU, its share of the processors where they do the work of text encoders, and half the
	// processors on the CPU. sd-server's own default spins on shared cores.
	Threads int
	// Models lists what the children can be started with now; a VRAMBytes of 0 becomes model.EstimateVRAM of the file's size. It
	// must not block; nil for none.
	Models func() []backend.Model
	// BackendName is the --backend of every child ("cuda0", "rocm0", "vulkan0", "cpu"); "" asks the program which it has.
	BackendName string
	// Env is added to the children's environment, which is otherwise made from scratch ("LD_LIBRARY_PATH=…",
	// "HSA_OVERRIDE_GFX_VERSION=…"). Device masks are refused: they are what this package sets.
	Env []string
	Log *slog.Logger // nil discards
}

// Fleet owns every sd-server of this agent.
type Fleet struct {
	// Set by New, never changed.
	cfg    Config
	limits limits
	gen    *generator
	// freePort gives the port of a new child; tests give taken ones.
	freePort func() (int, error)

	children *fleet.Fleet // that run
	slots    *fleet.Slots[*slot]

	program atomic.Pointer[probed]

	mu     sync.Mutex
	faults map[string]*modelFault // by model name
}

// limits are the deadlines towards a child.
type limits struct {
	probe     time.Duration // for --version, -h and --list-devices together
	answer    time.Duration // for one HTTP exchange
	load      time.Duration // until a child is ready, plus a second per loadBytes of model
	stall     time.Duration // without a sign of life during a job, or 20 steps if that is longer
	firstStep time.Duration // the same before a child's first step ever, when drivers compile kernels, and before that of each job whose text encoders are off the device
	poll      time.Duration // between looks at a job's status
	grace     time.Duration // between SIGTERM and SIGKILL
	backoff   process.Backoff
	breaker   process.Breaker
}

// loadBytes is the slowest disk that is waited for, in bytes per second.
const loadBytes = 25 << 20

func defaultLimits() limits {
	return limits{
		probe: 10 * time.Second, answer: 30 * time.Second, load: 2 * time.Minute, stall: 2 * time.Minute, firstStep: 10 * time.Minute,
		poll: 500 * time.Millisecond, grace: 5 * time.Second,
		breaker: process.Breaker{Failures: 3, Window: 30 * time.Minute, Rest: time.Minute},
	}
}

// New checks the configuration and asks the program what it is, for at most 10 s. A program that does not answer is no error
// here: Serves says why, and Run asks again.
func New(cfg Config) (*Fleet, error) { return newFleet(cfg, defaultLimits()) }

func newFleet(cfg Config, limits limits) (*Fleet, error) {
	program, err := exec.LookPath(cfg.Program)
	if err != nil {
		return nil, fmt.Errorf("sd-server %s can't be run: %w: give the path of stable-diffusion.cpp's sd-server", cfg.Program, process.Cause(err))
	}
	if cfg.Program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := mask.Refuse("sd-server", cfg.Env); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Models == nil {
		cfg.Models = func() []backend.Model { return nil }
	}
	f := &Fleet{cfg: cfg, limits: limits, freePort: fleet.FreePort, faults: map[string]*modelFault{}}
	f.children = fleet.New(fleet.Config{Name: "sd-server", Backoff: limits.backoff, Breaker: limits.breaker, Log: cfg.Log})
	f.slots = fleet.NewSlots(f.newSlot)
	f.gen = &generator{f}
	f.ask(context.Background())
	return f, nil
}

// Run owns the children: none is started before it begins, and all are gone when it returns, after ctx ended. Its error then
// wraps process.ErrStuck when a child could not be killed.
func (f *Fleet) Run(ctx context.Context) error { return f.children.Run(ctx, f.askUntilAnswered) }

// Owns says whether a process is one of the fleet's children, or was started by one. It does not block.
func (f *Fleet) Owns(pid int) bool { return f.children.Owns(pid) }

// Serves gives nil when the device can be given work now, or says in words why not and what would help. It does not block.
func (f *Fleet) Serves(dev gpu.Device) error {
	if _, err := f.pin(dev); err != nil {
		return err
	}
	if s, ok := f.slots.Known(dev); ok {
		return s.Problem(time.Now())
	}
	return nil
}

// pin says how a child is tied to the device.
func (f *Fleet) pin(dev gpu.Device) (pin, error) {
	program := f.program.Load()
	if program.err != nil {
		return pin{}, program.err
	}
	return program.build.pin(dev, f.cfg.BackendName)
}

// Models gives what the children can be started with now.
func (f *Fleet) Models() []backend.Model {
	now := slices.Clone(f.cfg.Models())
	samplers := f.program.Load().build.samplers
	for i := range now {
		now[i] = absolute(now[i])
		now[i].Grid, now[i].Samplers, now[i].Refused = grid, samplers, f.faulty(now[i].Name)
		if now[i].VRAMBytes == 0 {
			now[i].VRAMBytes = model.EstimateVRAM(model.Unknown, uint64(max(0, now[i].Bytes)))
		}
	}
	return now
}

// Backend gives the generator, always the same one. Its calls wait until Run has begun.
func (f *Fleet) Backend() backend.Backend { return f.gen }

// model finds the model that a request names; "" is the only one there is.
func (f *Fleet) model(name string) (backend.Model, error) {
	now := f.Models()
	for _, m := range now {
		if m.Name == name || name == "" && len(now) == 1 {
			return m, nil
		}
	}
	return backend.Model{}, fmt.Errorf("model %q is not in the models folder now: choose one of those listed, or put it there", name)
}

// threads is the -t of a child: of processors that work for text encoders each device's child has its share.
func (f *Fleet) threads(dev gpu.Device, p pin, encoders residence) int {
	switch {
	case f.cfg.Threads > 0:
		return f.cfg.Threads
	case dev.Index == gpu.CPU:
		return max(1, runtime.NumCPU()/2)
	case encoders == offDevice:
		return max(1, runtime.NumCPU()/max(f.slots.Count(), f.program.Load().build.count(p)))
	default:
		return 1
	}
}
