package comfyui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/shared/gpu"
	"muster/shared/job"
)

// running says whether a process exists; one that is dead but not reaped counts.
func exists(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// fleetBench is a running fleet with a fake ComfyUI.
type fleetBench struct {
	*Fleet
	python  string
	devices []gpu.Device
}

type fleetSetup struct {
	settings backendtest.ComfySettings
	vendor   gpu.Vendor
	limits   limits
	models   map[string]backendtest.Scenario // checkpoints; "model" when there are none
	files    []string
	change   func(*Config)
}

func newFleetBench(t *testing.T, s fleetSetup) *fleetBench {
	t.Helper()
	if s.settings.Devices == nil {
		s.settings.Devices = backendtest.MI25x8().Devices
	}
	if s.vendor == "" {
		s.vendor = gpu.AMD
	}
	if s.limits.answer == 0 {
		s.limits = quick()
	}
	if s.models == nil {
		s.models = map[string]backendtest.Scenario{"model": {}}
	}
	python, dir := backendtest.BuildFakeComfyUI(t, s.settings)
	writeModels(t, dir, s.models, s.files)
	config := Config{Options: Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, Folder: dir, Python: python, Dir: t.TempDir()}
	if s.change != nil {
		s.change(&config)
	}
	f, err := newFleet(config, s.limits)
	if err != nil {
		t.Fatal(err)
	}
	b := &fleetBench{Fleet: f, python: python, devices: backendtest.Devices(s.settings.Settings, s.vendor)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, start := range backendtest.Serving(t, b.python) {
			if exists(start.PID) {
				t.Errorf("ComfyUI %d outlived its fleet", start.PID)
			}
		}
	})
	return b
}

func (b *fleetBench) make(t *testing.T, req backend.Request, report func(job.Progress)) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	image, err := b.Backend().Generate(ctx, b.devices[0], req, report)
	if err == nil && len(image.PNG) == 0 {
		t.Error("neither an image nor an error")
	}
	return err
}

// starts counts the children that were started.
func (b *fleetBench) starts(t *testing.T) int {
	t.Helper()
	return len(backendtest.Serving(t, b.python))
}

func TestFleetConformance(t *testing.T) {
	t.Parallel()
	settings := backendtest.ComfySettings{Settings: backendtest.MI25x8()}
	settings.Devices = settings.Devices[:3]
	backendtest.Exercise(t, func(t *testing.T) backend.Backend {
		return newFleetBench(t, fleetSetup{settings: settings, models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 10}}}).Backend()
	}, backendtest.Subject{Devices: backendtest.Devices(settings.Settings, gpu.AMD), Model: "model", Models: func(b backend.Backend) []backend.Model { return b.(*fleetGenerator).fleet.Models() }, Resident: func(b backend.Backend, dev gpu.Device) bool {
		return slices.ContainsFunc(backendtest.Serving(t, b.(*fleetGenerator).fleet.install.Load().python), func(start backendtest.Start) bool {
			return start.Device == dev.ID && exists(start.PID)
		})
	}})
}

// What goes wrong once: the error that it gives, and whether the next image comes from the same child.
func TestFleetFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault    backendtest.Fault
		sentinel error // nil: final
		words    string
		starts   int // with the next image
		limits   limits
	}{
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 1}, sentinel: backend.ErrUnavailable, words: "segmentation fault", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 4}, sentinel: backend.ErrUnavailable, words: "segmentation fault", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 6}, sentinel: backend.ErrUnavailable, words: "segmentation fault", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Abort, Step: 2, Text: "torch.OutOfMemoryError: HIP out of memory"}, sentinel: backend.ErrOutOfMemory, words: "HIP out of memory", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Abort, Step: 2, Text: "RuntimeError: the driver ate " + secret}, sentinel: backend.ErrUnavailable, starts: 2},
		{fault: backendtest.Fault{Do: backendtest.OutOfMemory, Step: 1}, sentinel: backend.ErrOutOfMemory, words: "smaller size", starts: 1},
		{fault: backendtest.Fault{Do: backendtest.Fail, Step: 3, Text: "the tokenizer choked on " + secret}, words: "the tokenizer choked", starts: 1},
		{fault: backendtest.Fault{Do: backendtest.Fail, Step: 3, Text: "HIP error: unspecified launch failure"}, sentinel: backend.ErrUnavailable, words: "started again", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Interrupted, Step: 3}, sentinel: backend.ErrUnavailable, words: "somebody else", starts: 1},
		{fault: backendtest.Fault{Do: backendtest.Hang, Step: 1}, sentinel: backend.ErrUnavailable, words: "hangs", starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.Hang, Step: 3}, sentinel: backend.ErrUnavailable, words: "at 40 %", starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.Garbage}, sentinel: backend.ErrUnavailable, words: "nonsense", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.HalfJSON}, sentinel: backend.ErrUnavailable, starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.AnswerFails}, sentinel: backend.ErrUnavailable, words: "500", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.HeldAnswer}, sentinel: backend.ErrUnavailable, starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.CutPNG}, sentinel: backend.ErrUnavailable, words: "cut off", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.WrongSize}, words: "128x64 instead of 64x64", starts: 1},
		{fault: backendtest.Fault{Do: backendtest.ServerError}, sentinel: backend.ErrUnavailable, words: "500", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.LoadCrashes}, sentinel: backend.ErrUnavailable, words: "segmentation fault", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.LoadOutOfMemory}, sentinel: backend.ErrOutOfMemory, words: "CUDA out of memory", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.LoadFails, Text: "custom node trouble"}, sentinel: backend.ErrUnavailable, words: "custom node trouble", starts: 2},
	} {
		t.Run(fmt.Sprintf("%s before step %d", tt.fault.Do, tt.fault.Step), func(t *testing.T) {
			t.Parallel()
			tt.fault.Start = 1
			s := fleetSetup{limits: tt.limits}
			if strings.HasPrefix(string(tt.fault.Do), "load-") {
				s.settings.Scenario.Faults = []backendtest.Fault{tt.fault}
			} else {
				tt.fault.Job = 1
				s.models = faulty(tt.fault)
			}
			b := newFleetBench(t, s)
			checkFault(t, b.make(t, request("model"), nil), tt.sentinel, tt.words)
			if err := b.make(t, request("model"), nil); err != nil {
				t.Errorf("the next image failed too: %v", err)
			}
			if n := b.starts(t); n != tt.starts {
				t.Errorf("%d children were started; want %d", n, tt.starts)
			}
		})
	}
}

func TestOneChildPerCardEachWithItsOwnMask(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		vendor gpu.Vendor
		mask   string
		kind   string
	}{"AMD": {gpu.AMD, "ROCR_VISIBLE_DEVICES", "ROCm"}, "NVIDIA": {gpu.NVIDIA, "CUDA_VISIBLE_DEVICES", "CUDA"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := backendtest.ComfySettings{Settings: backendtest.MI25x8()}
			settings.Devices = slices.Clone(settings.Devices[:4])
			for i := range settings.Devices {
				settings.Devices[i].Name = fmt.Sprintf("%s%d", tt.kind, i)
			}
			b := newFleetBench(t, fleetSetup{settings: settings, vendor: tt.vendor})
			var making sync.WaitGroup
			for _, dev := range b.devices {
				if err := b.Serves(dev); err != nil {
					t.Error(err)
				}
				making.Go(func() {
					for seed := range 2 {
						req := request("model")
						req.Seed = int64(seed)
						if _, err := b.Backend().Generate(t.Context(), dev, req, func(job.Progress) {}); err != nil {
							t.Errorf("%s: %v", dev.ID, err)
						}
					}
				})
			}
			making.Wait()
			seen := map[string]bool{}
			for _, start := range backendtest.Serving(t, b.python) {
				mask := start.Masks[tt.mask]
				if len(start.Masks) != 1 || mask == "" || start.Device != mask || slices.Contains(start.Args, "--cuda-device") {
					t.Errorf("a child has the masks %v, the arguments %q, and works on %q", start.Masks, start.Args, start.Device)
				}
				if !b.Owns(start.PID) || b.Owns(os.Getpid()) {
					t.Error("the fleet does not know its own processes")
				}
				seen[mask] = true
			}
			if n := b.starts(t); n != 4 || len(seen) != 4 {
				t.Errorf("%d children with %d different masks; want 4 and 4", n, len(seen))
			}
		})
	}
}

func TestFleetPromptIsNeitherLoggedNorAnArgument(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	b := newFleetBench(t, fleetSetup{models: faulty(backendtest.Fault{Start: 1, Job: 1, Do: backendtest.Abort, Step: 2, Text: "RuntimeError: " + secret}), change: func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}})
	err := b.make(t, request("model"), nil)
	checkFault(t, err, backend.ErrUnavailable, "")
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if log.Len() == 0 || strings.Contains(log.String(), "walrus") {
		t.Errorf("the log is empty or holds the prompt: %s", &log)
	}
	journal, err := os.ReadFile(backendtest.JournalPath(b.python))
	if err != nil || strings.Contains(string(journal), "walrus") {
		t.Errorf("the arguments hold the prompt, or there is no journal: %v", err)
	}
}

// lockedWriter is a log that several goroutines write.
type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}
