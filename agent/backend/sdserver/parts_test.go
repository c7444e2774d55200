package sdserver

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/shared/gpu"
	"muster/shared/model"
)

func TestModelArguments(t *testing.T) {
	t.Parallel()
	part := func(kind model.Part) backend.Part { return backend.Part{Kind: kind, Path: "/" + string(kind)} }
	for name, tt := range map[string]struct {
		m    backend.Model
		want string
	}{
		"whole":      {backend.Model{Path: "/m", Family: model.Flux}, "-m /m"},
		"flux":       {backend.Model{Path: "/m", Family: model.Flux, Parts: []backend.Part{part(model.T5), part(model.CLIPL), part(model.FluxVAE)}}, "--diffusion-model /m --t5xxl /t5-xxl --clip_l /clip-l --vae /flux-vae"},
		"qwen":       {backend.Model{Path: "/m", Family: model.QwenImage, Parts: []backend.Part{part(model.Qwen25), part(model.QwenVAE)}}, "--diffusion-model /m --llm /qwen2.5-vl --vae /qwen-vae"},
		"with a VAE": {backend.Model{Path: "/m", Family: model.SD3, Parts: []backend.Part{part(model.CLIPL), part(model.CLIPG), part(model.T5)}}, "-m /m --clip_l /clip-l --clip_g /clip-g --t5xxl /t5-xxl"},
	} {
		if got := strings.Join(modelArguments(tt.m), " "); got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, family := range []model.Family{model.Flux, model.Chroma, model.SD3, model.QwenImage, model.ZImage} {
		for _, p := range family.Parts() {
			if partFlags[p] == "" {
				t.Errorf("%s has no option", p)
			}
		}
	}
}

// Text encoders are as near to the device as there is room for them: beside the steps of an image, beside the weights, or not at all.
func TestResidence(t *testing.T) {
	t.Parallel()
	m := backend.Model{Bytes: 8 * gpu.GiB, VRAMBytes: 12 * gpu.GiB, Parts: []backend.Part{{Kind: model.T5, Bytes: 5 * gpu.GiB}, {Kind: model.CLIPL, Bytes: gpu.GiB / 4}, {Kind: model.FluxVAE, Bytes: gpu.GiB}}}
	card := func(bytes uint64) gpu.Device { return gpu.Device{Index: 0, MemoryBytes: &bytes} }
	knows, knowsNot := build{flags: map[string]bool{"--params-backend": true}}, build{}
	whole := backend.Model{Bytes: 80 * gpu.GiB, VRAMBytes: 90 * gpu.GiB}
	for _, tt := range []struct {
		b     build
		m     backend.Model
		dev   gpu.Device
		least residence
		want  residence
	}{
		{knows, m, card(24 * gpu.GiB), onDevice, onDevice},
		{knows, m, card(24 * gpu.GiB), inMemory, inMemory},
		{knows, m, card(24 * gpu.GiB), offDevice, offDevice},
		{knows, m, card(16 * gpu.GiB), onDevice, inMemory},
		{knows, m, card(15 * gpu.GiB), inMemory, inMemory},
		{knows, m, card(14 * gpu.GiB), onDevice, offDevice},
		{knowsNot, m, card(16 * gpu.GiB), onDevice, offDevice},
		{knowsNot, m, card(24 * gpu.GiB), inMemory, offDevice},
		{knows, m, gpu.Device{Index: 0}, onDevice, onDevice},
		{knows, m, gpu.Device{Index: 0}, inMemory, inMemory},
		{knows, m, backend.CPU(), offDevice, onDevice},
		{knows, whole, card(gpu.GiB), offDevice, onDevice},
	} {
		if got := tt.b.residence(tt.m, tt.dev, tt.least); got != tt.want {
			t.Errorf("%v, %v, %s: %s, want %s", tt.b.flags, tt.dev, tt.least, got, tt.want)
		}
	}
	for residence, want := range map[residence]string{onDevice: "--backend rocm0", inMemory: "--backend rocm0 --params-backend te=cpu", offDevice: "--backend te=cpu,rocm0"} {
		if got := strings.Join(placement("rocm0", residence), " "); got != want {
			t.Errorf("%s: %s", residence, got)
		}
	}
}

// Processors that work for text encoders are shared among the devices; otherwise a child on a GPU has one thread, which would spin.
func TestThreads(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{}) // of 8 devices
	p := pin{backend: "rocm0"}
	for residence, want := range map[residence]int{onDevice: 1, inMemory: 1, offDevice: max(1, runtime.NumCPU()/8)} {
		if got := b.threads(b.devices[0], p, residence); got != want {
			t.Errorf("%s: %d threads, want %d", residence, got, want)
		}
	}
	one := backendtest.MI25x8()
	one.Devices = one.Devices[:1]
	if b := newBench(t, setup{settings: one}); b.threads(b.devices[0], p, offDevice) != runtime.NumCPU() {
		t.Error("the only device does not have all processors")
	}
	b.cfg.Threads = 3
	if got := b.threads(b.devices[0], p, offDevice); got != 3 {
		t.Errorf("%d threads where 3 are configured", got)
	}
}

// Text encoders off the device take their time before the first step of every job, not of the first alone.
func TestPatienceWithTextEncoders(t *testing.T) {
	t.Parallel()
	l := defaultLimits()
	for encoders, want := range map[residence]time.Duration{onDevice: l.stall, inMemory: l.firstStep, offDevice: l.firstStep} {
		server := &server{stepped: true, encoders: encoders}
		if got := l.patience(server, said{}); got != want {
			t.Errorf("%s: %s before the first step, want %s", encoders, got, want)
		}
		if got := l.patience(server, said{step: 1, slowest: 1}); got != l.stall {
			t.Errorf("%s: %s after a step", encoders, got)
		}
		if got := l.patience(server, said{step: 1, slowest: 60}); got != 20*time.Minute {
			t.Errorf("%s: %s between steps of a minute", encoders, got)
		}
	}
	if got := l.patience(&server{}, said{}); got != l.firstStep {
		t.Errorf("%s before the first step ever", got)
	}
}

// flux is a bench with a diffusion model and its parts.
func flux(t *testing.T, scenario backendtest.Scenario) *bench {
	t.Helper()
	settings := backendtest.MI25x8()
	settings.Devices = settings.Devices[:1]
	b := newBench(t, setup{settings: settings, models: map[string]backendtest.Scenario{"model": scenario}})
	m := b.cfg.Models()[0]
	m.Family = model.Flux
	for _, kind := range model.Flux.Parts() {
		path := filepath.Join(t.TempDir(), kind.Sample())
		if err := os.WriteFile(path, []byte("a part"), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Parts = append(m.Parts, backend.Part{Kind: kind, Path: path, Bytes: 6})
	}
	b.cfg.Models = only(m)
	return b
}

// A model of several files is loaded with all of them, and again when one of them is another.
func TestModelOfParts(t *testing.T) {
	t.Parallel()
	b := flux(t, backendtest.Scenario{})
	for range 2 {
		if err := b.make(t, "model"); err != nil {
			t.Fatal(err)
		}
	}
	starts := backendtest.Serving(t, b.program)
	if len(starts) != 1 || !slices.Contains(starts[0].Args, "--diffusion-model") || !slices.Contains(starts[0].Args, "--t5xxl") || slices.Contains(starts[0].Args, "-m") {
		t.Fatalf("%d starts, %q", len(starts), starts[0].Args)
	}
	m := b.cfg.Models()[0]
	m.Parts = slices.Clone(m.Parts)
	m.Parts[0].Path = filepath.Join(t.TempDir(), "another")
	if err := os.WriteFile(m.Parts[0].Path, []byte("a part"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.cfg.Models = only(m)
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	if starts := backendtest.Serving(t, b.program); len(starts) != 2 || !slices.Contains(starts[1].Args, m.Parts[0].Path) {
		t.Errorf("%d starts", len(starts))
	}
}

// Text encoders that found no room on the device are kept off it from then on, a step further each time.
func TestEncodersLeaveACrowdedDevice(t *testing.T) {
	t.Parallel()
	full := func(start int) backendtest.Fault {
		return backendtest.Fault{Start: start, Do: backendtest.OutOfMemory, Step: 1}
	}
	b := flux(t, backendtest.Scenario{Faults: []backendtest.Fault{full(1), full(2)}})
	for range 2 {
		if err := b.make(t, "model"); err == nil {
			t.Fatal("it was made without memory")
		}
	}
	for range 2 {
		if err := b.make(t, "model"); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.placed(t), []string{"rocm0", "rocm0 te=cpu", "te=cpu,rocm0"}; !slices.Equal(got, want) {
		t.Errorf("placed %q, want %q", got, want)
	}
}

// placed are the --backend and the --params-backend of each child.
func (b *bench) placed(t *testing.T) (all []string) {
	t.Helper()
	for _, start := range backendtest.Serving(t, b.program) {
		placed := start.Args[slices.Index(start.Args, "--backend")+1]
		if at := slices.Index(start.Args, "--params-backend"); at >= 0 {
			placed += " " + start.Args[at+1]
		}
		all = append(all, placed)
	}
	return all
}

// A large image that finds no room does not make all others slower.
func TestLargeImageLeavesEncodersWhereTheyAre(t *testing.T) {
	t.Parallel()
	b := flux(t, backendtest.Scenario{Faults: []backendtest.Fault{{Start: 1, Job: 1, Do: backendtest.OutOfMemory, Step: 1}}})
	large := b.request("model")
	large.Width, large.Height = 4096, 4096
	if err := b.makeAs(t, large, nil); !errors.Is(err, backend.ErrOutOfMemory) {
		t.Fatal(err)
	}
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	if got := b.placed(t); !slices.Equal(got, []string{"rocm0"}) {
		t.Errorf("placed %q", got)
	}
}

// One that has no room for the weights alone leaves no doubt.
func TestEncodersLeaveADeviceThatCannotLoad(t *testing.T) {
	t.Parallel()
	b := flux(t, backendtest.Scenario{Faults: []backendtest.Fault{{Start: 1, Do: backendtest.LoadOutOfMemory}}})
	if err := b.make(t, "model"); !errors.Is(err, backend.ErrOutOfMemory) {
		t.Fatal(err)
	}
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	if got := b.placed(t); !slices.Equal(got, []string{"rocm0", "rocm0 te=cpu"}) {
		t.Errorf("placed %q", got)
	}
}
