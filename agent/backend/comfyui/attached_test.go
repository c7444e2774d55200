package comfyui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/shared/gpu"
	"muster/shared/model"
)

// Somebody took the image's file away: ComfyUI would not save it again under its name.
func TestImageWhoseFileIsGone(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{})
	_, first := b.steps(t, request("model"))
	if err := os.RemoveAll(filepath.Join(b.fake.Dir, "output")); err != nil {
		t.Fatal(err)
	}
	_, second := b.steps(t, request("model"))
	one, errOne := png.Decode(bytes.NewReader(first))
	two, errTwo := png.Decode(bytes.NewReader(second))
	if errOne != nil || errTwo != nil || fmt.Sprint(one) != fmt.Sprint(two) {
		t.Errorf("the pixels differ: %v, %v", errOne, errTwo)
	}
	lost := newAttached(t, attachedSetup{models: faulty(backendtest.Fault{Do: backendtest.ViewLost})})
	lost.steps(t, request("model"))
}

// A model that was taken away since the list was read: the error names it, and nobody tries it elsewhere.
func TestModelThatIsGone(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{})
	if err := os.Remove(filepath.Join(b.fake.Dir, "models", "checkpoints", "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	_, err := b.make(t, request("model"), nil)
	checkFault(t, err, nil, `model "model" is not installed on ComfyUI 0.3.64 at 127.0.0.1`)
}

// everything is what the templates need.
var everything = []string{
	"checkpoints/sd3.5_large.safetensors", "checkpoints/flux1-dev-fp8.safetensors", "diffusion_models/flux1-schnell.safetensors", "diffusion_models/Chroma1-HD.safetensors",
	"diffusion_models/qwen_image_fp8.safetensors", "diffusion_models/z_image_turbo_bf16.safetensors", "text_encoders/t5xxl_fp16.safetensors",
	"text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders/clip_l.safetensors", "text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
	"text_encoders/qwen_3_4b.safetensors", "vae/ae.safetensors", "vae/qwen_image_vae.safetensors",
}

// Every family's graph passes the validation of a server that checks it as ComfyUI does.
func TestEveryFamilyMakesImages(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{files: everything})
	for _, name := range []string{"model", "sd3.5_large", "flux1-dev-fp8", "flux1-schnell", "Chroma1-HD", "qwen_image_fp8", "z_image_turbo_bf16"} {
		req := request(name)
		req.Width, req.Height, req.Sampler = 100, 72, "DPM++ 2M Karras"
		file, err := b.make(t, req, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		config, err := png.DecodeConfig(bytes.NewReader(file))
		if want := map[bool][2]int{true: {104, 72}, false: {112, 80}}[name == "model"]; err != nil || config.Width != want[0] || config.Height != want[1] {
			t.Errorf("%s: %dx%d, %v; want %v", name, config.Width, config.Height, err, want)
		}
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{files: []string{"diffusion_models/flux1-dev.safetensors", "diffusion_models/z_image.safetensors", "text_encoders/clip_l.safetensors"}})
	for name, words := range map[string]string{
		"flux1-dev": "a T5-XXL text encoder is missing, such as t5xxl_fp16.safetensors: put it into ComfyUI's models/text_encoders folder",
		"z_image":   "the Qwen3 4B text encoder is missing, such as qwen_3_4b.safetensors",
	} {
		_, err := b.make(t, request(name), nil)
		checkFault(t, err, nil, words)
	}
}

func TestWhatComfyUIWouldRefuse(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{})
	for name, tt := range map[string]struct {
		change func(*backend.Request)
		words  string
	}{
		"steps":   {func(r *backend.Request) { r.Steps = 201 }, "1 to 200 steps"},
		"size":    {func(r *backend.Request) { r.Width = 4097 }, "4096"},
		"sampler": {func(r *backend.Request) { r.Sampler = "nope" }, "euler_ancestral"},
		"seed":    {func(r *backend.Request) { r.Seed = -1 }, "seed"},
		"model":   {func(r *backend.Request) { r.Model = "nope" }, `no model "nope"`},
	} {
		req := request("model")
		tt.change(&req)
		_, err := b.make(t, req, nil)
		if err == nil || !final(err) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: got %v; want a final error with %q", name, err, tt.words)
		}
	}
}

// What the library knows of a model counts more than its file's name; a configuration may name the only models that are used.
func TestFamilyAndModelsAsConfigured(t *testing.T) {
	t.Parallel()
	python, dir := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{})
	writeModels(t, dir, map[string]backendtest.Scenario{"one": {}, "two": {}}, append([]string{"diffusion_models/mystery.safetensors"}, everything...))
	fake := backendtest.RunComfyUI(t, python, dir)
	machine := &attach.Machine{}
	machine.See(&gpu.Inventory{Revision: 1, Devices: []gpu.Device{card()}}, nil)
	g := newGenerator(attach.Config{Kind: "comfyui", Base: fake.Base(), Models: []string{"one", "mystery"}}, machine, Options{
		Family: func(name string) model.Family { return map[string]model.Family{"mystery": model.Chroma}[name] },
	}, quick())
	b := &attachedBench{Generator: g, fake: fake}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	await(t, "an attached server", func() bool { return g.Problem() == nil })
	for name, works := range map[string]bool{"one": true, "mystery": true, "two": false, "flux1-schnell": false} {
		if _, err := b.make(t, request(name), nil); (err == nil) != works {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImportedWorkflowMakesImages(t *testing.T) {
	t.Parallel()
	workflows := OpenWorkflows(filepath.Join(t.TempDir(), "workflows"), nil)
	if _, err := workflows.Import("portrait", []byte(twoTexts), true); err != nil {
		t.Fatal(err)
	}
	b := newAttached(t, attachedSetup{workflows: workflows})
	if models := b.Models(); !slices.ContainsFunc(models, func(m backend.Model) bool { return m.Name == "portrait" }) {
		t.Fatalf("models %v", models)
	}
	told, file := b.steps(t, request("portrait"))
	if len(told) < 2 {
		t.Errorf("steps %v", told)
	}
	config, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil || config.Width != 64 || config.Height != 64 {
		t.Errorf("%dx%d, %v; want the size that was asked for", config.Width, config.Height, err)
	}
	if err := b.Load(t.Context(), card(), "portrait"); err == nil || !final(err) {
		t.Errorf("loading a workflow: %v", err)
	}
	if _, err := workflows.Import("of other nodes", []byte(strings.Replace(twoTexts, `"VAEDecode"`, `"VAEDecodeNobodyHas"`, 1)), true); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{`"VAEDecode"`, `"VAEDecodeNobodyHas"`, `the node "VAEDecodeNobodyHas"`},
		{`"VAEDecode"`, `"VAE Decode (nobody's)"`, `the node "VAE Decode (nobody's)"`},
		{`"VAEDecode"`, `"a/b"`, ""}, // which can't be asked for
		{`"euler"`, `"nobodys"`, `sampler_name "nobodys"`},
		{"model.safetensors", "gone.safetensors", `ckpt_name "gone.safetensors"`},
	} {
		w, err := ParseWorkflow([]byte(strings.Replace(twoTexts, tt.old, tt.new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if lacks, err := b.Lacks(t.Context(), w); err != nil || strings.Join(lacks, ", ") != tt.want {
			t.Errorf("%s for %s: lacks %q, %v; want %q", tt.new, tt.old, lacks, err, tt.want)
		}
	}
	b.Server().Look()
	await(t, "the new workflow", func() bool { return len(b.Models()) == 3 })
	_, err = b.make(t, request("of other nodes"), nil)
	checkFault(t, err, nil, "VAEDecodeNobodyHas does not exist: install the nodes that workflow of other nodes is made of")
}

func TestAttachedPromptIsNotLogged(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	b := newAttached(t, attachedSetup{models: faulty(backendtest.Fault{Job: 1, Do: backendtest.Fail, Text: "choked on " + secret}),
		log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	_, err := b.make(t, request("model"), nil)
	checkFault(t, err, nil, "choked on…")
	if status := b.Status(); strings.Contains(fmt.Sprint(status), "walrus") {
		t.Errorf("its status holds the prompt: %+v", status)
	}
	mu.Lock()
	defer mu.Unlock()
	if log.Len() == 0 || strings.Contains(log.String(), "walrus") {
		t.Errorf("the log is empty or holds the prompt: %s", &log)
	}
}

func TestProbeTellsWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]backendtest.ComfySettings{"of 2026": {}, "of early 2025, without lists": {Ancient: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{settings: settings, files: everything})
			facts, err := b.probe(t.Context())
			if err != nil || facts.Title != "ComfyUI 0.3.64" || facts.CPU || facts.MemoryBytes != 24<<30 || !strings.Contains(facts.DeviceName, "RTX 4090") || len(facts.Models) != 7 {
				t.Errorf("%+v, %v", facts, err)
			}
			if dev, ok := b.Device(); !ok || dev.ID != card().ID {
				t.Errorf("its device is %v, %v", dev, ok)
			}
			if b.Status().Kind != "comfyui" || b.Name() != "comfyui" {
				t.Errorf("%+v", b.Status())
			}
			b.steps(t, request("model"))
			if status := b.Status(); status.Loaded != "model" {
				t.Errorf("it holds %q", status.Loaded)
			}
		})
	}
}

// What answers, but is no ComfyUI, is told from what does not answer.
func TestProbeOfSomethingElse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer   http.HandlerFunc
		unusable bool
	}{
		"a page":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, true},
		"not found":  {http.NotFound, true},
		"a password": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, true},
		"other JSON": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"a":1}`) }, true},
		"trouble":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := serveProbe(t, tt.answer)
			if _, err := g.probe(t.Context()); err == nil || errors.Is(err, attach.ErrUnusable) != tt.unusable {
				t.Errorf("got %v; want it to be unusable: %v", err, tt.unusable)
			}
		})
	}
}

// One image of 1024x1024 is held once: beside the answer itself hardly anything is allocated.
func TestAllocationOfOneImage(t *testing.T) { // not parallel: it counts what the whole process allocates
	b := newAttached(t, attachedSetup{settings: backendtest.ComfySettings{Noise: true}})
	req := request("model")
	req.Width, req.Height, req.Steps = 1024, 1024, 20
	if _, err := b.make(t, req, nil); err != nil { // connections, templates
		t.Fatal(err)
	}
	req.Seed++
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	file, err := b.make(t, req, nil)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes allocated for a PNG of %d: %.2f times", allocated, len(file), float64(allocated)/float64(len(file)))
	if limit := uint64(len(file)) * 3 / 2; allocated > limit {
		t.Errorf("%d bytes allocated in all, the answer included, for a PNG of %d; want at most %d", allocated, len(file), limit)
	}
}
