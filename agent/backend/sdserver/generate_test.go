package sdserver

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/shared/gpu"
	"muster/shared/job"
)

// capturedCards reads the devices of a captured tree, in order of their PCI addresses.
func capturedCards(t *testing.T) []gpu.Device {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(fixture.Root(t, "amd-mi25x8"), "sys/class/drm/card*/device/unique_id"))
	if err != nil || len(paths) != 8 {
		t.Fatalf("%d cards with a unique id: %v", len(paths), err)
	}
	var devices []gpu.Device
	for _, path := range paths {
		id, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		address, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, gpu.Device{ID: "GPU-" + strings.TrimSpace(string(id)), Vendor: gpu.AMD, Name: "AMD Radeon Instinct MI25", PCIAddress: filepath.Base(address)})
	}
	slices.SortFunc(devices, func(a, b gpu.Device) int { return strings.Compare(a.PCIAddress, b.PCIAddress) })
	for i := range devices {
		devices[i].Index = gpu.Ref(i)
	}
	return devices
}

func TestOneChildPerCapturedCardEachWithItsOwnMask(t *testing.T) {
	t.Parallel()
	devices := capturedCards(t)
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 5}}})
	var making sync.WaitGroup
	for _, dev := range devices {
		if err := b.Serves(dev); err != nil {
			t.Error(err)
		}
		making.Go(func() {
			for seed := range 2 {
				req := b.request("model")
				req.Seed = int64(seed)
				if _, err := b.Backend().Generate(t.Context(), dev, req, func(job.Progress) {}); err != nil {
					t.Errorf("%s: %v", dev.ID, err)
				}
			}
		})
	}
	making.Wait()
	seen := map[string]bool{}
	for _, start := range backendtest.Serving(t, b.program) {
		mask := start.Masks["ROCR_VISIBLE_DEVICES"]
		if len(start.Masks) != 1 || mask == "" || start.Device != mask {
			t.Errorf("a child has the masks %v and works on %q", start.Masks, start.Device)
		}
		seen[mask] = true
	}
	if n := b.starts(t); n != 8 || len(seen) != 8 {
		t.Errorf("%d children with %d different masks; want 8 and 8", n, len(seen))
	}
	for _, dev := range devices {
		if !seen[dev.ID] {
			t.Errorf("no child is tied to %s", dev.ID)
		}
	}
}

// The fake's devices are as slow as its settings say: tests of estimates lean on that.
func TestASlowerDeviceOfTheFakeTakesItsTime(t *testing.T) {
	t.Parallel()
	settings := backendtest.MI25x8()
	settings.Devices = settings.Devices[:2]
	settings.Devices[1].Slower = 4
	b := newBench(t, setup{settings: settings, models: map[string]backendtest.Scenario{"model": {LoadMilliseconds: 100, StepMilliseconds: 40, DecodeMilliseconds: 40}}})
	begun := time.Now()
	if _, err := b.Backend().Generate(t.Context(), b.devices[1], b.request("model"), func(job.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if took, least := time.Since(begun), 4*(100+5*40+40)*time.Millisecond; took < least {
		t.Errorf("took %v: want at least %v", took, least)
	}
}

func TestArgumentsAndEnvironmentOfAChild(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	start := backendtest.Serving(t, b.program)[0]
	got := slices.Clone(start.Args)
	if got[3] == "0" || got[3] == "" {
		t.Errorf("port %q", got[3])
	}
	got[3] = "PORT"
	none := filepath.Join(start.Dir, "none")
	want := []string{"--listen-ip", "127.0.0.1", "--listen-port", "PORT", "-m", filepath.Join(b.dir, "model.safetensors"), "--eager-load",
		"--seed", "-1", "-t", "1", "--backend", "rocm0", "--lora-model-dir", none, "--hires-upscalers-dir", none}
	if !slices.Equal(got, want) {
		t.Errorf("arguments\n got %q\nwant %q", got, want)
	}
	slices.Sort(start.Env)
	if env := strings.Join(start.Env, " "); env != "GGML_NO_BACKTRACE HOME LANG PATH ROCR_VISIBLE_DEVICES TMPDIR" {
		t.Errorf("environment %s", env)
	}
	if info, err := os.Stat(start.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("working folder: %v, %v", info.Mode(), err)
	}
}

func TestModelSwitchReplacesTheChild(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"one": {}, "two": {}}})
	for _, model := range []string{"one", "one", "two", "two", "one"} {
		if err := b.make(t, model); err != nil {
			t.Fatal(err)
		}
	}
	var models []string
	starts := backendtest.Serving(t, b.program)
	for i, start := range starts {
		models = append(models, strings.TrimSuffix(filepath.Base(start.Model), ".safetensors"))
		if alive := running(start.PID); alive != (i == len(starts)-1) {
			t.Errorf("child %d of %d lives: %v", i+1, len(starts), alive)
		}
	}
	if got := strings.Join(models, " "); got != "one two one" {
		t.Errorf("children were started for %s; want one two one", got)
	}
}

// Only the bars of sampling are steps: not those of loading, not the decoder's tiles before or after.
func TestProgressIsOfStepsOnly(t *testing.T) {
	t.Parallel()
	for name, scenario := range map[string]backendtest.Scenario{
		"tiles and loading bars": {Tiles: 9, Faults: []backendtest.Fault{{Do: backendtest.EarlyTiles}, {Do: backendtest.LoadingBars}, {Do: backendtest.LongLine}}},
		"byte by byte":           {SlowOutput: 20, Tiles: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario.StepMilliseconds = 30
			b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": scenario}})
			req := b.request("model")
			var steps []int
			if err := b.makeAs(t, req, func(p job.Progress) {
				steps = append(steps, p.Step)
				if p.Steps != req.Steps || p.Step > 0 && p.ETASeconds == nil {
					t.Errorf("progress %+v", p)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.IsSorted(steps) || steps[len(steps)-1] != 5 || len(steps) < 4 || len(slices.Compact(slices.Clone(steps))) != len(steps) {
				t.Errorf("steps %v; want 0 to 5, hardly one left out", steps)
			}
		})
	}
}

func TestCancelKillsOrWaitsWhicheverIsSooner(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		scenario backendtest.Scenario
		starts   int
	}{
		{"much is left, loading is short", backendtest.Scenario{StepMilliseconds: 200}, 2},
		{"little is left, loading is long", backendtest.Scenario{StepMilliseconds: 10, LoadMilliseconds: 6000}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": tt.scenario}})
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("a person cancelled")
			req := b.request("model")
			req.Steps = 100
			_, err := b.Backend().Generate(ctx, b.devices[0], req, func(p job.Progress) {
				if p.Step == 2 {
					cancel(cause)
				}
			})
			if !errors.Is(err, cause) {
				t.Fatalf("got %v; want the cause", err)
			}
			if err := b.make(t, "model"); err != nil {
				t.Fatal(err)
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

func TestCancelWhileLoadingKeepsTheChild(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {LoadMilliseconds: 1500}}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.Backend().Generate(ctx, b.devices[0], b.request("model"), func(job.Progress) {})
		done <- err
	}()
	for b.starts(t) == 0 { // the start is the event; the journal tells of it
		select {
		case err := <-done:
			t.Fatalf("ended early: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 1 {
		t.Errorf("%d starts; want the first child to be used", n)
	}
}

func TestSizesAreRoundedAsTheServerDoes(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	req := b.request("model")
	req.Width, req.Height = 65, 130
	image, err := b.Backend().Generate(t.Context(), b.devices[0], req, func(job.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	config, err := png.DecodeConfig(bytes.NewReader(image.PNG))
	if err != nil || config.Width != 128 || config.Height != 192 {
		t.Errorf("%dx%d, %v; want 128x192", config.Width, config.Height, err)
	}
}

func TestWhatTheServerWouldClampOrIgnoreIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	for name, tt := range map[string]struct {
		change func(*backend.Request)
		text   string
	}{
		"steps":   {func(r *backend.Request) { r.Steps = 101 }, "1 to 100 steps"},
		"size":    {func(r *backend.Request) { r.Width = 4097 }, "4096"},
		"sampler": {func(r *backend.Request) { r.Sampler = "nope" }, "euler_a"},
		"seed":    {func(r *backend.Request) { r.Seed = -1 }, "seed"},
	} {
		req := b.request("model")
		tt.change(&req)
		if err := b.makeAs(t, req, nil); err == nil || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v; want a final error with %q", name, err, tt.text)
		}
	}
	for _, usual := range []string{"Euler a", "DPM++ 2M", "DPM++ 2S a", " dpm2", "euler_a"} {
		req := b.request("model")
		req.Sampler = usual
		if err := b.makeAs(t, req, nil); err != nil {
			t.Errorf("sampler %q, by its usual name: %v", usual, err)
		}
	}
}

func TestPromptIsNeitherLoggedNorAnArgument(t *testing.T) {
	t.Parallel()
	program := backendtest.BuildFakeSDServer(t)
	dir := t.TempDir()
	path := backendtest.WriteModel(t, dir, "model", backendtest.Scenario{Faults: []backendtest.Fault{{Job: 1, Do: backendtest.Crash, Step: 2}}})
	var log bytes.Buffer
	f, err := newFleet(Config{Program: program, Dir: t.TempDir(), Models: only(backend.Model{Name: "model", Path: path}),
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, quick())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Fleet: f, program: program, devices: backendtest.Devices(backendtest.MI25x8(), gpu.AMD)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	_ = b.make(t, "model")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if log.Len() == 0 || strings.Contains(log.String(), "walrus") {
		t.Errorf("the log is empty or holds the prompt: %s", &log)
	}
	journal, err := os.ReadFile(backendtest.JournalPath(program))
	if err != nil || strings.Contains(string(journal), "walrus") {
		t.Errorf("the arguments hold the prompt, or there is no journal: %v", err)
	}
}

func TestRunEndsWithEveryCallAndChild(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 1000}}})
	// A second fleet on the same program, whose end the test commands.
	f, err := newFleet(b.cfg, quick())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, working := make(chan error, 1), make(chan struct{}, 4)
	go func() { ended <- f.Run(ctx) }()
	failures := make(chan error, 3)
	for _, dev := range b.devices[:3] {
		go func() {
			req := b.request("model")
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
	for _, start := range backendtest.Serving(t, b.program) {
		if running(start.PID) {
			t.Errorf("child %d lives on after Run", start.PID)
		}
	}
	if _, err := f.Backend().Generate(t.Context(), b.devices[0], b.request("model"), nil); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("a call after Run gives %v", err)
	}
	if err := f.Run(t.Context()); err == nil {
		t.Error("a second Run is not refused")
	}
}
