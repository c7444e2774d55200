package sdserver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

func TestPlacement(t *testing.T) {
	t.Parallel()
	m := backend.Model{VRAMBytes: 12 * gpu.GiB, Parts: []backend.Part{{Kind: model.T5, Bytes: 9 * gpu.GiB}, {Kind: model.FluxVAE, Bytes: gpu.GiB}}}
	card := func(bytes uint64) gpu.Device { return gpu.Device{Index: 0, MemoryBytes: &bytes} }
	for _, tt := range []struct {
		m    backend.Model
		dev  gpu.Device
		lean bool
		want string
	}{
		{m, card(24 * gpu.GiB), false, "rocm0"}, {m, card(16 * gpu.GiB), false, "te=cpu,rocm0"}, {m, card(22 * gpu.GiB), false, "te=cpu,rocm0"}, {m, card(24 * gpu.GiB), true, "te=cpu,rocm0"},
		{m, gpu.Device{Index: 0}, false, "rocm0"}, {m, backend.CPU(), true, "rocm0"}, {backend.Model{VRAMBytes: 90 * gpu.GiB}, card(gpu.GiB), true, "rocm0"},
	} {
		if got := placement(tt.m, tt.dev, "rocm0", tt.lean); got != tt.want {
			t.Errorf("%v: %s, want %s", tt, got, tt.want)
		}
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

// Text encoders that found no room on the device are kept off it from then on.
func TestEncodersLeaveACrowdedDevice(t *testing.T) {
	t.Parallel()
	b := flux(t, backendtest.Scenario{Faults: []backendtest.Fault{{Start: 1, Do: backendtest.OutOfMemory, Step: 1}}})
	if err := b.make(t, "model"); err == nil {
		t.Fatal("it was made without memory")
	}
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	starts := backendtest.Serving(t, b.program)
	var placed []string
	for _, start := range starts {
		placed = append(placed, start.Args[slices.Index(start.Args, "--backend")+1])
	}
	if want := []string{"rocm0", "te=cpu,rocm0"}; !slices.Equal(placed, want) {
		t.Errorf("placed %q, want %q", placed, want)
	}
}
