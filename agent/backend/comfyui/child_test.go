package comfyui

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/fleet"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/wire"
)

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
	await(t, "a look at the folders", func() bool { return strings.Contains(names(), "late") })
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
		return fleet.FreePort()
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
