package sdapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/job"
)

// body gives the fields of the last order.
func (b *bench) body(t *testing.T) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(b.fake.Body("/sdapi/v1/txt2img"), &body); err != nil {
		t.Fatal(err)
	}
	return body
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, flavour := range all {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour}, quick())
			if _, err := b.make(t, request()); err != nil {
				t.Fatal(err)
			}
			body := b.body(t)
			for key, want := range map[string]any{
				"prompt": secret, "negative_prompt": "rain", "seed": 7.0, "width": 64.0, "height": 64.0, "steps": 5.0, "cfg_scale": 7.0,
				"batch_size": 1.0, "n_iter": 1.0, "send_images": true, "save_images": false, "override_settings_restore_afterwards": true,
			} {
				if body[key] != want {
					t.Errorf("%s is %v; want %v", key, body[key], want)
				}
			}
			if _, ok := body["sampler_name"]; ok {
				t.Error("a sampler was sent that nobody asked for")
			}
			settings, _ := body["override_settings"].(map[string]any)
			if model, _ := settings["sd_model_checkpoint"].(string); (model != "") != b.kind().web || b.kind().web && !strings.HasPrefix(model, "model") {
				t.Errorf("settings %v", settings)
			}
		})
	}
}

// A mark is sent until the program is known to tell of single calls.
func TestMarkOnlyWhereItIsNeeded(t *testing.T) {
	t.Parallel()
	for flavour, wants := range map[fakesdapi.Flavour]bool{fakesdapi.A1111: false, fakesdapi.Forge: false, fakesdapi.A1111Old: true, fakesdapi.SDNext: true} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Step: 20 * time.Millisecond}, quick())
			for range 2 {
				if _, err := b.make(t, request()); err != nil {
					t.Fatal(err)
				}
			}
			settings := b.body(t)["override_settings"].(map[string]any)
			if _, has := settings[markOption]; has != wants {
				t.Errorf("settings of the second image: %v", settings)
			}
		})
	}
}

func TestSizesAreRoundedAsTheProgramDoes(t *testing.T) {
	t.Parallel()
	for flavour, want := range map[fakesdapi.Flavour]string{fakesdapi.A1111: "72x104", fakesdapi.SDNext: "72x104", fakesdapi.KoboldCpp: "128x128", fakesdapi.SDServer: "128x128"} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour}, quick())
			req := request()
			req.Width, req.Height = 65, 100
			file, err := b.make(t, req)
			if err != nil {
				t.Fatal(err)
			}
			config, err := png.DecodeConfig(bytes.NewReader(file))
			if got := fmt.Sprintf("%dx%d", config.Width, config.Height); err != nil || got != want {
				t.Errorf("%s, %v; want %s", got, err, want)
			}
		})
	}
}

func TestWhatWouldBeClampedIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flavour fakesdapi.Flavour
		change  func(*backend.Request)
	}{
		{fakesdapi.SDServer, func(r *backend.Request) { r.Steps = 101 }},
		{fakesdapi.KoboldCpp, func(r *backend.Request) { r.Steps = 81 }},
		{fakesdapi.A1111, func(r *backend.Request) { r.Steps = 0 }},
		{fakesdapi.A1111, func(r *backend.Request) { r.Width = 0 }},
		{fakesdapi.A1111, func(r *backend.Request) { r.Height = -1 }},
		{fakesdapi.SDServer, func(r *backend.Request) { r.Width = 4097 }},
		{fakesdapi.A1111, func(r *backend.Request) { r.Height = 1_000_000_000 }},
		{fakesdapi.A1111, func(r *backend.Request) { r.Seed = -1 }},
		{fakesdapi.A1111, func(r *backend.Request) { r.Model = "nope" }},
	} {
		b := newBench(t, fakesdapi.Config{Flavour: tt.flavour}, quick())
		req := request()
		tt.change(&req)
		_, err := b.make(t, req)
		if meaning(err) != "final" || b.fake.Answered("POST /sdapi/v1/txt2img") != 0 || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", tt.flavour, err)
		}
	}
}

// koboldcpp takes seeds that do not fit into 31 bits, and 0, for any.
func TestSeedsThatMeanAny(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.KoboldCpp}, quick())
	for seed, want := range map[int64]float64{0: 1<<31 - 1, 1: 1, 1<<31 - 1: 1<<31 - 1, 1 << 31: 1<<31 - 1, 1<<31 + 1: 1, 1<<32 - 5: 1<<31 - 5} {
		req := request()
		req.Seed = seed
		if _, err := b.make(t, req); err != nil || b.body(t)["seed"] != want {
			t.Errorf("seed %d was sent as %v, %v; want %v", seed, b.body(t)["seed"], err, want)
		}
	}
}

func TestSamplers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flavour             fakesdapi.Flavour
		asked, name, extend string // "" as name: refused
	}{
		{fakesdapi.A1111, "Euler a", "Euler a", ""},
		{fakesdapi.A1111, "euler_a", "Euler a", ""},
		{fakesdapi.A1111, "euler_ancestral", "Euler a", ""},
		{fakesdapi.A1111, "dpmpp_2m", "DPM++ 2M", ""},
		{fakesdapi.A1111, "dpm++2m", "DPM++ 2M", ""},
		{fakesdapi.A1111, "DPM++ 2M Karras", "DPM++ 2M", "Karras"},
		{fakesdapi.A1111, "nope", "", ""},
		{fakesdapi.A1111Old, "DPM++ 2M Karras", "DPM++ 2M Karras", ""},
		{fakesdapi.A1111Old, "DPM++ 2M", "", ""},
		{fakesdapi.SDNext, "unipc", "UniPC", ""},
		{fakesdapi.KoboldCpp, "k_euler", "Euler", ""},
		{fakesdapi.SDServer, "DPM++ 2M", "dpm++2m", ""},
		{fakesdapi.SDServer, "UniPC", "", ""},
	} {
		t.Run(string(tt.flavour)+" "+tt.asked, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: tt.flavour}, quick())
			req := request()
			req.Sampler = tt.asked
			_, err := b.make(t, req)
			if tt.name == "" {
				if meaning(err) != "final" || !strings.Contains(strings.ToLower(err.Error()), "euler") || b.fake.Answered("POST /sdapi/v1/txt2img") != 0 {
					t.Errorf("got %v; want an error with the list, before anything is sent", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body := b.body(t)
			if schedule, _ := body["scheduler"].(string); body["sampler_name"] != tt.name || schedule != tt.extend {
				t.Errorf("sent as %v, %v", body["sampler_name"], body["scheduler"])
			}
		})
	}
}

// SD.Next gives JPEG unless it is told otherwise; a form that can't be read is said.
func TestForms(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.SDNext, SamplesFormat: "jpg"}, quick())
	file, err := b.make(t, request())
	if err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(bytes.NewReader(file)); err != nil || img.Bounds().Dx() != 64 {
		t.Errorf("a JPEG became %v", err)
	}
	b = newBench(t, fakesdapi.Config{Flavour: fakesdapi.SDNext, SamplesFormat: "webp"}, quick())
	if _, err := b.make(t, request()); meaning(err) != "final" || !strings.Contains(err.Error(), "samples_format") {
		t.Errorf("got %v", err)
	}
}

// What a server says of its device is told.
func TestFacts(t *testing.T) {
	t.Parallel()
	for flavour, title := range map[fakesdapi.Flavour]string{
		fakesdapi.A1111: "AUTOMATIC1111's web UI", fakesdapi.Forge: "Forge", fakesdapi.SDNext: "SD.Next 2026-07-23", fakesdapi.KoboldCpp: "koboldcpp 1.102", fakesdapi.SDServer: "sd-server",
	} {
		b := newBench(t, fakesdapi.Config{Flavour: flavour, Models: []string{"model", "other"}}, quick())
		facts := b.Server.Facts()
		wantMemory, wantModels := uint64(0), 1
		if b.kind().web {
			wantMemory, wantModels = fakesdapi.MemoryTotal, 2
		}
		if facts.Title != title || facts.MemoryBytes != wantMemory || len(facts.Models) != wantModels || facts.Loaded != "model" {
			t.Errorf("%s: %+v", flavour, facts)
		}
	}
}

// A web UI tells its version with its first image.
func TestVersion(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111}, quick())
	if _, err := b.make(t, request()); err != nil {
		t.Fatal(err)
	}
	b.Look()
	eventually(t, "the version is shown", func() bool { return b.Status().Title == "AUTOMATIC1111's web UI v1.10.1" })
}

// sd-server takes orders from within prompts in this family, too.
func TestPromptsGiveNoOrders(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.SDServer}, quick())
	req := request()
	req.Prompt = `cat <sd_cpp_extra_args>{"seed":666}</sd_cpp_extra_args>`
	if _, err := b.make(t, req); err != nil {
		t.Errorf("a prompt gave orders: %v", err)
	}
}

func TestAnotherDevicesServer(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111}, quick())
	dev := backend.CPU()
	dev.ID = "GPU-1"
	if _, err := b.Generate(t.Context(), dev, request(), func(job.Progress) {}); meaning(err) != "elsewhere" {
		t.Errorf("got %v", err)
	}
	if err := b.Unload(t.Context(), dev); err != nil || b.fake.Resident() == "" {
		t.Errorf("unloading another device: %v", err)
	}
}

// Neither prompts nor passwords reach the log.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	var text lockedBuffer
	fake := fakesdapi.Start(t, fakesdapi.Config{Flavour: fakesdapi.A1111, User: "me", Password: "hunter2", Faults: []backendtest.Fault{{Do: backendtest.ServerError, Text: "it went wrong"}}})
	g := newGenerator(attach.Config{Kind: "sdapi", Base: fake.URL, User: "me", Password: "hunter2", Device: "cpu"}, cpuOnly(), slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})), quick())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	eventually(t, "the server is usable", func() bool { return g.Server.Problem() == nil })
	_, err := g.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) {})
	cancel()
	<-done
	if said := text.String() + err.Error(); strings.Contains(said, "walrus") || strings.Contains(said, "hunter2") {
		t.Error(said)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// What Generate allocates for one image beyond the server's own answer is at most 1.5 times the image's bytes. The fake paints and
// packs in this process too: what that takes is measured without Generate and taken off.
func TestAnImageIsHeldOnce(t *testing.T) { // not parallel: it counts what the whole process allocates
	answer, file := canned(t)
	server := serveCanned(t, answer)
	g := start(t, attach.Config{Kind: "sdapi", Base: server, Device: "cpu"}, quick())
	eventually(t, "the server is usable", func() bool { return g.Server.Problem() == nil })
	req := request()
	req.Width, req.Height = 1024, 1024
	var before, after runtime.MemStats
	if _, err := g.Generate(t.Context(), backend.CPU(), req, func(job.Progress) {}); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	image, err := g.Generate(t.Context(), backend.CPU(), req, func(job.Progress) {})
	runtime.ReadMemStats(&after)
	if err != nil || !bytes.Equal(image.PNG, file) {
		t.Fatalf("%d bytes, %v", len(image.PNG), err)
	}
	took := float64(after.TotalAlloc-before.TotalAlloc) - float64(len(answer))
	t.Logf("an image of %d bytes in an answer of %d took %.2f times its bytes beyond the answer", len(file), len(answer), took/float64(len(file)))
	if took > 1.5*float64(len(file)) {
		t.Errorf("it took %.0f bytes beyond the answer, %.2f times the image's", took, took/float64(len(file)))
	}
}
