package comfyui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
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
	}, backendtest.Subject{Devices: backendtest.Devices(settings.Settings, gpu.AMD), Model: "model", Resident: func(b backend.Backend, dev gpu.Device) bool {
		return slices.ContainsFunc(backendtest.Serving(t, b.(*fleetGenerator).fleet.cfg.Python), func(start backendtest.Start) bool {
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

func TestArgumentsAndEnvironmentOfAChild(t *testing.T) {
	t.Parallel()
	own := t.TempDir()
	backendtest.WriteModel(t, own, "mine", backendtest.Scenario{})
	b := newFleetBench(t, fleetSetup{change: func(c *Config) { c.Models = own }})
	if err := b.make(t, request("mine"), nil); err != nil {
		t.Fatal(err)
	}
	start := backendtest.Serving(t, b.python)[0]
	got := slices.Clone(start.Args)
	if got[4] == "0" || got[4] == "" {
		t.Errorf("port %q", got[4])
	}
	got[4] = "PORT"
	dir := start.Dir
	want := []string{filepath.Join(b.cfg.Folder, "main.py"), "--listen", "127.0.0.1", "--port", "PORT", "--disable-auto-launch", "--preview-method", "auto",
		"--output-directory", dir + "/output", "--temp-directory", dir, "--input-directory", dir + "/input", "--user-directory", dir + "/user",
		"--database-url", "sqlite:///" + dir + "/comfyui.db", "--extra-model-paths-config", dir + "/models.yaml"}
	if !slices.Equal(got, want) {
		t.Errorf("arguments\n got %q\nwant %q", got, want)
	}
	env := slices.DeleteFunc(slices.Sorted(slices.Values(start.Env)), func(name string) bool { return name == "PYTHONUSERBASE" })
	if got := strings.Join(env, " "); got != "DO_NOT_TRACK HF_HUB_DISABLE_TELEMETRY HOME LANG PATH PYTHONIOENCODING PYTHONUNBUFFERED ROCR_VISIBLE_DEVICES TMPDIR" {
		t.Errorf("environment %s", got)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("working folder: %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(dir + "/models.yaml")
	if want := "# written by muster with every start\nmuster:\n    checkpoints: \"" + own + "\"\n"; err != nil || string(text) != want {
		t.Errorf("models.yaml is %q, %v; want %q", text, err, want)
	}
}

// An older ComfyUI is not given what it does not know, and one that is too old says so.
func TestOlderInstalls(t *testing.T) {
	t.Parallel()
	older := newFleetBench(t, fleetSetup{settings: backendtest.ComfySettings{Settings: backendtest.Settings{Without: []string{"--database-url", "--user-directory"}}}})
	if err := older.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	tooOld := newFleetBench(t, fleetSetup{settings: backendtest.ComfySettings{Settings: backendtest.Settings{Without: []string{"--temp-directory"}}}})
	if err := tooOld.Serves(tooOld.devices[0]); err == nil || !strings.Contains(err.Error(), "--temp-directory: update it") {
		t.Errorf("got %v", err)
	}
	if err := tooOld.make(t, request("model"), nil); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	broken := newFleetBench(t, fleetSetup{settings: backendtest.ComfySettings{Settings: backendtest.Settings{Probe: "fail"}}})
	if err := broken.Serves(broken.devices[0]); err == nil || !strings.Contains(err.Error(), "No module named 'yaml'") {
		t.Errorf("got %v", err)
	}
}

// An interpreter without PyTorch is told of once, in words that help, and not started again and again.
func TestInterpreterWithoutTorch(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{settings: backendtest.ComfySettings{NoTorch: true}})
	for range 3 {
		checkFault(t, b.make(t, request("model"), nil), backend.ErrUnavailable, "No module named 'torch'")
	}
	if n := b.starts(t); n != 1 {
		t.Errorf("%d starts; want one", n)
	}
	if err := b.Serves(b.devices[0]); err == nil || !strings.Contains(err.Error(), "requirements") {
		t.Errorf("it serves: %v", err)
	}
	if g := b.Generators(b.devices)[0]; g.State != wire.GeneratorResting || g.RetryAt == nil || g.Failures != 1 {
		t.Errorf("%+v", g)
	}
}

// A child on a device that its PyTorch can't use must not work elsewhere without a word.
func TestChildWithoutItsDevice(t *testing.T) {
	t.Parallel()
	other := newFleetBench(t, fleetSetup{vendor: gpu.NVIDIA}) // its PyTorch is ROCm's, and overlooks the mask
	checkFault(t, other.make(t, request("model"), nil), backend.ErrUnavailable, "sees 8 devices in spite of its mask")
	b := newFleetBench(t, fleetSetup{})
	b.devices[0].ID = "GPU-ffffffffffffffff"
	checkFault(t, b.make(t, request("model"), nil), backend.ErrUnavailable, "does not see Device 0 behind ROCR_VISIBLE_DEVICES=GPU-ffffffffffffffff")
	if err := b.Serves(b.devices[0]); err == nil {
		t.Error("it serves")
	}
	intel := gpu.Device{ID: "x", Vendor: gpu.Intel}
	if err := b.Serves(intel); err == nil || !strings.Contains(err.Error(), "--comfyui") {
		t.Errorf("an Intel device: %v", err)
	}
	if err := b.Serves(gpu.Device{ID: "sim-0", Vendor: gpu.AMD, Simulated: true}); err == nil || !strings.Contains(err.Error(), "simulated") {
		t.Errorf("a simulated device: %v", err)
	}
}

func TestFleetOnTheProcessor(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{})
	b.devices = []gpu.Device{backend.CPU()}
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	start := backendtest.Serving(t, b.python)[0]
	if start.Device != "cpu" || len(start.Masks) != 0 || !slices.Contains(start.Args, "--cpu") {
		t.Errorf("%+v", start)
	}
}

func TestModelsBeforeAndAfterTheFirstStart(t *testing.T) {
	t.Parallel()
	own := t.TempDir()
	for _, name := range []string{"mine", "shared"} {
		backendtest.WriteModel(t, own, name, backendtest.Scenario{})
	}
	for _, file := range []string{"vae/ae.safetensors", "text_encoders/clip_l.safetensors"} {
		if err := os.MkdirAll(filepath.Join(own, filepath.Dir(file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, file), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := newFleetBench(t, fleetSetup{
		models: map[string]backendtest.Scenario{"model": {}, "shared": {}},
		files:  []string{"checkpoints/sdxl/juggernaut.safetensors", "unet/flux1-dev.safetensors", "diffusion_models/mystery.safetensors", "text_encoders/t5xxl_fp16.safetensors", "checkpoints/put_checkpoints_here"},
		change: func(c *Config) { c.Models = own },
	})
	names := func() string {
		var names []string
		for _, m := range b.Models() {
			names = append(names, m.Name)
		}
		return strings.Join(names, " ")
	}
	const want = "flux1-dev juggernaut mine model shared"
	if got := names(); got != want {
		t.Errorf("before the first start: %s; want %s", got, want)
	}
	if n := b.starts(t); n != 0 {
		t.Errorf("%d starts for a list", n)
	}
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	if got := names(); got != want {
		t.Errorf("after it: %s; want %s", got, want)
	}
	req := request("flux1-dev")
	if err := b.make(t, req, nil); err != nil {
		t.Errorf("FLUX with encoders of both folders: %v", err)
	}
	backendtest.WriteModel(t, own, "late", backendtest.Scenario{})
	b.mu.Lock()
	b.looked = time.Time{} // what is looked at every few seconds
	b.mu.Unlock()
	if err := b.make(t, request("late"), nil); err != nil {
		t.Errorf("a model that came while it ran: %v", err)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := newFleetBench(t, fleetSetup{})
	asked := 0
	b.freePort = func() (int, error) {
		if asked++; asked == 1 {
			return l.Addr().(*net.TCPAddr).Port, nil
		}
		return freePort()
	}
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 2 {
		t.Errorf("%d starts; want 2", n)
	}
}

func TestCrashLoopOpensTheBreaker(t *testing.T) {
	t.Parallel()
	l := quick()
	l.breaker = process.Breaker{Failures: 2, Rest: time.Hour}
	b := newFleetBench(t, fleetSetup{limits: l, models: faulty(backendtest.Fault{Do: backendtest.Crash})})
	for range 3 {
		checkFault(t, b.make(t, request("model"), nil), backend.ErrUnavailable, "segmentation fault")
	}
	if n := b.starts(t); n != 2 {
		t.Errorf("%d starts; want 2", n)
	}
	got := b.Generators(b.devices)[0]
	if got.State != wire.GeneratorResting || got.Failures != 2 || got.RetryAt == nil || !strings.Contains(got.Problem, "the next try is at") {
		t.Errorf("%+v", got)
	}
	if err := b.Serves(b.devices[1]); err != nil {
		t.Errorf("another device: %v", err)
	}
}

func TestCancelKeepsTheChildUnlessTheDeviceIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cause  error
		starts int
	}{
		"a person cancels":    {errors.New("a person cancelled"), 1},
		"the device is taken": {fmt.Errorf("reserved: %w", backend.ErrUnavailable), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFleetBench(t, fleetSetup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 30}}})
			ctx, cancel := context.WithCancelCause(t.Context())
			req := request("model")
			req.Steps = 200
			_, err := b.Backend().Generate(ctx, b.devices[0], req, func(p job.Progress) {
				if p.Step == 2 {
					cancel(tt.cause)
				}
			})
			if !errors.Is(err, tt.cause) {
				t.Fatalf("got %v; want the cause", err)
			}
			begun := time.Now()
			if err := b.make(t, request("model"), nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("the next image took %v: the long one was finished first", took)
			}
			if n := b.starts(t); n != tt.starts {
				t.Errorf("%d starts; want %d", n, tt.starts)
			}
			if err := b.Serves(b.devices[0]); err != nil {
				t.Errorf("a cancelled job counts against the device: %v", err)
			}
		})
	}
}

// A child that does not let go of what was cancelled is ended.
func TestCancelOfAHungChild(t *testing.T) {
	t.Parallel()
	l := quick()
	l.settle = 300 * time.Millisecond
	b := newFleetBench(t, fleetSetup{limits: l, models: faulty(backendtest.Fault{Do: backendtest.Hang, Start: 1, Job: 1, Step: 3})})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := b.Backend().Generate(ctx, b.devices[0], request("model"), func(p job.Progress) {
		if p.Step == 2 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 2 {
		t.Errorf("%d starts; want a second child", n)
	}
}

func TestCancelWhileStartingKeepsTheChild(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{settings: backendtest.ComfySettings{StartMilliseconds: 1000}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.Backend().Generate(ctx, b.devices[0], request("model"), func(job.Progress) {})
		done <- err
	}()
	await(t, "a start", func() bool { return b.starts(t) > 0 })
	if g := b.Generators(b.devices)[0]; g.State != wire.GeneratorStarting {
		t.Errorf("while it starts: %+v", g)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 1 {
		t.Errorf("%d starts; want the first child to be used", n)
	}
	if g := b.Generators(b.devices)[0]; g.State != wire.GeneratorReady || g.Loaded != "model" || !strings.HasPrefix(g.Address, "127.0.0.1:") || g.Problem != "" {
		t.Errorf("when it is ready: %+v", g)
	}
}

// A child's output folder does not grow: the images are in muster's own store.
func TestImagesAreTakenAway(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{})
	for seed := range keptImages + 4 {
		req := request("model")
		req.Seed, req.Steps = int64(seed), 1
		if err := b.make(t, req, nil); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(b.cfg.Dir, folderName(b.devices[0].ID), "output", prefixFolder)
	if files, err := os.ReadDir(dir); err != nil || len(files) > keptImages {
		t.Errorf("%d images, %v; want %d", len(files), err, keptImages)
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

func TestRunEndsWithEveryCallAndChild(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 1000}}})
	f, err := newFleet(b.cfg, quick()) // a second one on the same program, whose end the test commands
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, working := make(chan error, 1), make(chan struct{}, 4)
	go func() { ended <- f.Run(ctx) }()
	failures := make(chan error, 3)
	for _, dev := range b.devices[:3] {
		go func() {
			req := request("model")
			req.Steps = 100
			_, err := f.Backend().Generate(t.Context(), dev, req, func(p job.Progress) {
				if p.Step == 0 {
					working <- struct{}{}
				}
			})
			failures <- err
		}()
	}
	for range 3 {
		<-working
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-failures; !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("a call ended with %v; want it to be tried elsewhere", err)
		}
	}
	for _, start := range backendtest.Serving(t, b.python) {
		if exists(start.PID) {
			t.Errorf("child %d lives on after Run", start.PID)
		}
	}
	if _, err := f.Backend().Generate(t.Context(), b.devices[0], request("model"), nil); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("a call after Run gives %v", err)
	}
	if err := f.Run(t.Context()); err == nil {
		t.Error("a second Run is not refused")
	}
}

func TestConfigurationThatCantBe(t *testing.T) {
	t.Parallel()
	python, dir := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{})
	for name, tt := range map[string]struct {
		config Config
		words  string
	}{
		"no ComfyUI":     {Config{Folder: t.TempDir(), Python: python, Dir: t.TempDir()}, "no main.py"},
		"no interpreter": {Config{Folder: dir, Python: filepath.Join(dir, "nothing"), Dir: t.TempDir()}, "can't be run"},
		"a mask":         {Config{Folder: dir, Python: python, Dir: t.TempDir(), Env: []string{"HIP_VISIBLE_DEVICES=1"}}, "leave it out"},
	} {
		if _, err := newFleet(tt.config, quick()); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: got %v; want %q", name, err, tt.words)
		}
	}
}

func TestInterpreterIsFound(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "ComfyUI")
	for _, place := range []string{"../python_embeded/bin/python3", ".venv/bin/python", "venv/bin/python"} { // each before the one that was found until then
		path := filepath.Join(dir, place)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := findPython(dir, ""); err != nil || got != path {
			t.Errorf("got %s, %v; want %s", got, err, path)
		}
	}
}
