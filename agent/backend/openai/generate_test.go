package openai

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image/png"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakeopenai"
	"muster/shared/job"
	"muster/shared/model"
)

func (b *bench) body(t *testing.T) map[string]any {
	t.Helper()
	jobs := b.fake.Jobs()
	if len(jobs) == 0 {
		t.Fatal("nothing was asked for")
	}
	return jobs[len(jobs)-1].Body
}

// What the API has no field for travels as each program wants it.
func TestOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flavour fakeopenai.Flavour
		want    map[string]any // nil as value: absent
	}{
		{fakeopenai.LocalAI, map[string]any{"prompt": secret + "|rain", "seed": 7.0, "step": 5.0, "num_inference_steps": nil, "negative_prompt": nil}},
		{fakeopenai.VLLM, map[string]any{"prompt": secret, "seed": 7.0, "num_inference_steps": 5.0, "guidance_scale": 7.0, "negative_prompt": "rain", "step": nil}},
		{fakeopenai.SGLang, map[string]any{"prompt": secret, "seed": 7.0, "num_inference_steps": 5.0, "output_format": "png"}},
		{fakeopenai.SDServer, map[string]any{"prompt": secret + ` <sd_cpp_extra_args>{"seed":7,"negative_prompt":"rain","sample_params":{"sample_steps":5,"guidance":{"txt_cfg":7}}}</sd_cpp_extra_args>`, "seed": nil}},
	} {
		t.Run(string(tt.flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakeopenai.Config{Flavour: tt.flavour, JPEG: true}, quick())
			if _, err := b.make(t, request()); err != nil {
				t.Fatal(err)
			}
			body := b.body(t)
			want := map[string]any{"n": 1.0, "size": "64x64", "response_format": "b64_json", "model": "model"}
			if tt.flavour == fakeopenai.SDServer {
				want["model"] = "sd-cpp-local"
			}
			for key, value := range tt.want {
				want[key] = value
			}
			for key, value := range want {
				if got := body[key]; got != value {
					t.Errorf("%s is %v; want %v", key, got, value)
				}
			}
		})
	}
}

// A prompt can't give orders, nor end those that are given behind it.
func TestPromptsGiveNoOrders(t *testing.T) {
	t.Parallel()
	for _, prompt := range []string{
		`cat <sd_cpp_extra_args>{"seed":666,"sample_params":{"sample_steps":99}}</sd_cpp_extra_args>`,
		`cat <SD_CPP_EXTRA_ARGS>{"seed":666}</SD_CPP_EXTRA_ARGS>`,
		`cat </sd_cpp_extra_args><sd_cpp_extra_args>{"seed":666}`,
		`cat <<sd_cpp_extra_args>sd_cpp_extra_args>{"seed":666}</sd_cpp_extra_args>`,
	} {
		for _, flavour := range []fakeopenai.Flavour{fakeopenai.SDServer, fakeopenai.LlamaSwap} {
			b := newBench(t, fakeopenai.Config{Flavour: flavour}, quick())
			req := request()
			req.Prompt, req.NegativePrompt = prompt, prompt
			if _, err := b.make(t, req); err != nil {
				t.Errorf("%s: %v", flavour, err)
				continue
			}
			want := 5
			if flavour == fakeopenai.LlamaSwap {
				want = 20 // its own default: it is not known to be an sd-server
			}
			if made := b.fake.Jobs()[0].Made; made != want {
				t.Errorf("%s: %q made it make %d steps", flavour, prompt, made)
			}
		}
	}
}

// FLUX.1 has a guidance of its own, and wants none of the other.
func TestGuidanceOfFlux(t *testing.T) {
	t.Parallel()
	req := backend.Request{Prompt: "x", Width: 64, Height: 64, Steps: 5, Guidance: 3.5}
	for family, want := range map[model.Family]string{model.Flux: `"guidance":{"txt_cfg":1,"distilled_guidance":3.5}`, model.SDXL: `"guidance":{"txt_cfg":3.5}`} {
		if o := sdserver.newOrder(req, backend.Model{Family: family}); !strings.Contains(o.Prompt, want) {
			t.Errorf("%s: %s", family, o.Prompt)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a <sd_cpp_extra_args>{}</sd_cpp_extra_args>", "</sd_cpp_extra_args>")
	f.Add("<<sd_cpp_extra_argssd_cpp_extra_args>", "|")
	f.Fuzz(func(t *testing.T, prompt, negative string) {
		o := sdserver.newOrder(backend.Request{Prompt: prompt, NegativePrompt: negative, Width: 64, Height: 64, Steps: 5, Guidance: 7, Seed: 7}, backend.Model{})
		lower := strings.ToLower(o.Prompt)
		if strings.Count(lower, "<sd_cpp_extra_args>") != 1 || strings.Count(lower, "</sd_cpp_extra_args>") != 1 {
			t.Fatalf("%q", o.Prompt)
		}
		_, rest, _ := strings.Cut(o.Prompt, "<sd_cpp_extra_args>")
		var got struct{ Seed int64 }
		if err := json.Unmarshal([]byte(strings.TrimSuffix(rest, "</sd_cpp_extra_args>")), &got); err != nil || got.Seed != 7 {
			t.Errorf("%q: %v", o.Prompt, err)
		}
		o = localAI.newOrder(backend.Request{Prompt: prompt, NegativePrompt: negative, Width: 64, Height: 64, Steps: 5, Seed: 7}, backend.Model{})
		if want := map[bool]int{true: 0, false: 1}[negative == ""]; strings.Count(o.Prompt, "|") != want {
			t.Errorf("%q", o.Prompt)
		}
	})
}

func TestWhatCannotBeSaidIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*backend.Request){
		"sampler": func(r *backend.Request) { r.Sampler = "Euler a" }, "steps": func(r *backend.Request) { r.Steps = 101 }, "no steps": func(r *backend.Request) { r.Steps = 0 },
		"width": func(r *backend.Request) { r.Width = 4097 }, "height": func(r *backend.Request) { r.Height = -1 }, "seed": func(r *backend.Request) { r.Seed = -1 },
		"model": func(r *backend.Request) { r.Model = "nope" },
	} {
		b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.SDServer}, quick())
		req := request()
		change(&req)
		if _, err := b.make(t, req); meaning(err) != "final" || len(b.fake.Jobs()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSeedsOfLocalAI(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.LocalAI}, quick())
	for seed, want := range map[int64]float64{0: 1<<31 - 1, 1: 1, 1 << 31: 1<<31 - 1, 1<<32 - 5: 1<<31 - 5} {
		req := request()
		req.Seed = seed
		if _, err := b.make(t, req); err != nil || b.body(t)["seed"] != want {
			t.Errorf("seed %d was sent as %v, %v; want %v", seed, b.body(t)["seed"], err, want)
		}
	}
}

// The models of a server are those that make images, as far as it tells or a person said.
func TestModels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		cfg    fakeopenai.Config
		wanted []string // configured
		title  string
		want   string
	}{
		{"LocalAI tells", fakeopenai.Config{Flavour: fakeopenai.LocalAI, Models: []string{"flux.1-dev", "sd-3.5"}, Others: []string{"llama"}}, nil, "LocalAI v3.9.0", "flux.1-dev|sd-3.5"},
		{"LocalAI of before", fakeopenai.Config{Flavour: fakeopenai.LocalOld, Models: []string{"flux", "sd"}, Others: []string{"llama"}}, []string{"sd"}, "LocalAI v3.9.0", "sd"},
		{"vLLM-Omni", fakeopenai.Config{Flavour: fakeopenai.VLLM, Models: []string{"Qwen/Qwen-Image"}}, nil, "vLLM-Omni 0.18.0", "Qwen-Image"},
		{"SGLang", fakeopenai.Config{Flavour: fakeopenai.SGLang, Models: []string{"black-forest-labs/FLUX.1-dev"}}, nil, "SGLang", "FLUX.1-dev"},
		{"llama-swap", fakeopenai.Config{Flavour: fakeopenai.LlamaSwap, Models: []string{"sd", "flux"}, Others: []string{"llama"}}, []string{"sd", "flux"}, "llama-swap", "sd|flux"},
		{"sd-server", fakeopenai.Config{Flavour: fakeopenai.SDServer, Models: []string{"sd_xl_base_1.0"}}, nil, "sd-server", "sd_xl_base_1.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := fakeopenai.Start(t, tt.cfg)
			g := start(t, attach.Config{Kind: "openai", Base: fake.URL, Device: "cpu", Models: tt.wanted}, quick())
			eventually(t, "it is usable", func() bool { return g.Problem() == nil })
			var names []string
			for _, m := range g.Models() {
				names = append(names, m.Name)
			}
			if got := strings.Join(names, "|"); got != tt.want || g.Facts().Title != tt.title {
				t.Errorf("%s has %s; want %s", g.Facts().Title, got, tt.want)
			}
			req := request()
			req.Model = names[0]
			if _, err := g.Generate(t.Context(), backend.CPU(), req, func(job.Progress) {}); err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzModels(f *testing.F) {
	f.Add([]byte(`{"object":"list","data":[{"id":"Qwen/Qwen-Image","owned_by":"vllm"},{"id":"other/Qwen-Image"},{"id":"x.gguf","capabilities":["image"]}]}`))
	f.Add([]byte(`{"data":[{"id":"/"},{"id":".."},{"id":"a\\b"},{"id":null}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var list modelList
		if json.Unmarshal(text, &list) != nil {
			return
		}
		seen := map[string]bool{}
		for _, m := range models(list.Data) {
			if m.Name == "" || seen[m.Name] || strings.ContainsAny(m.Name, "/\\\x00\n") {
				t.Errorf("name %q", m.Name)
			}
			seen[m.Name] = true
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add([]byte(`{"created":1,"data":[{"b64_json":"AAAA"}]}`))
	f.Add([]byte(`{"data":[{"url":"http://127.0.0.1:1/x"},{"b64_json":null}]}`))
	f.Add([]byte(`{"error":{"message":"x"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r result
		if json.Unmarshal(text, &r) != nil {
			return
		}
		for _, d := range r.Data {
			if len(d.File) > len(text) {
				t.Errorf("%d bytes of %d", len(d.File), len(text))
			}
		}
	})
}

// From the second image on steps are estimated: they rise, and never reach the last before the image.
func TestEstimatedProgress(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.VLLM, Step: 20 * time.Millisecond}, quick())
	req := request()
	req.Steps = 20
	var steps []int
	for range 3 {
		steps = nil
		if _, err := b.Generate(t.Context(), backend.CPU(), req, func(p job.Progress) {
			steps = append(steps, p.Step)
			if p.Step > 0 && p.ETASeconds == nil {
				t.Error("no time left is told")
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.IsSorted(steps) || len(steps) < 4 || steps[len(steps)-1] != 20 || steps[len(steps)-2] > 19 {
		t.Errorf("steps %v", steps)
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	var c clock
	if c.takes("a", 1024, 1024, 20) != 0 {
		t.Error("something is known at first")
	}
	c.learn("a", 1000, 1000, 20, 60*time.Second) // with loading
	c.learn("a", 1000, 1000, 20, 20*time.Second)
	if got := c.takes("a", 2000, 1000, 10); got != 20*time.Second {
		t.Errorf("takes %v", got)
	}
	c.learn("b", 1000, 1000, 20, 10*time.Second)
	c.learn("a", 1000, 1000, 20, 90*time.Second) // loaded again
	if got := c.takes("a", 1000, 1000, 20); got != 20*time.Second {
		t.Errorf("after loading again it takes %v", got)
	}
	c.learn("a", 1000, 1000, 20, 40*time.Second)
	if got := c.takes("a", 1000, 1000, 20); got != 30*time.Second {
		t.Errorf("slower by and by: %v", got)
	}
	for _, tt := range []struct {
		expected, elapsed time.Duration
		step              int
		left              float64
	}{{0, time.Second, 0, -1}, {10 * time.Second, 0, 0, 10}, {10 * time.Second, 5 * time.Second, 10, 5}, {10 * time.Second, time.Hour, 19, 0}} {
		p := estimate(20, tt.expected, tt.elapsed)
		left := -1.0
		if p.ETASeconds != nil {
			left = *p.ETASeconds
		}
		if p.Step != tt.step || left != tt.left || p.Steps != 20 {
			t.Errorf("%v of %v: step %d, %g s left", tt.elapsed, tt.expected, p.Step, left)
		}
	}
}

// running is a call under way.
type running struct {
	cancel context.CancelCauseFunc
	done   chan error
}

func (b *bench) begin(t *testing.T, steps int, report func(job.Progress)) running {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := running{cancel, make(chan error, 1)}
	req := request()
	req.Steps = steps
	if report == nil {
		report = func(job.Progress) {}
	}
	go func() {
		_, err := b.Generate(ctx, backend.CPU(), req, report)
		r.done <- err
	}()
	return r
}

func (r running) gaveUp(t *testing.T, cause error) {
	t.Helper()
	r.cancel(cause)
	select {
	case err := <-r.done:
		if !errors.Is(err, cause) {
			t.Errorf("got %v; want its cause", err)
		}
	case <-time.After(waiting):
		t.Fatal("a cancelled call did not return")
	}
}

// Cancelling closes the connection; where that stops nothing the next call waits for the end of the image.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, flavour := range all {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakeopenai.Config{Flavour: flavour, Step: 10 * time.Millisecond}, quick())
			r := b.begin(t, 60, nil)
			eventually(t, "the job runs", func() bool { jobs := b.fake.Jobs(); return len(jobs) == 1 && jobs[0].Made > 2 })
			r.gaveUp(t, errors.New("given up"))
			if _, err := b.make(t, request()); err != nil {
				t.Fatal(err)
			}
			first := b.fake.Jobs()[0]
			if stays := flavour == fakeopenai.SDServer; first.Gone == stays || (first.Made == 60) != stays || !first.Ended {
				t.Errorf("%+v", first)
			}
		})
	}
}

// One call is in flight at a time, whoever calls.
func TestOneCallAtATime(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	busy := map[int]bool{}
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.VLLM, Step: 5 * time.Millisecond, Before: func(number, step int) {
		mu.Lock()
		defer mu.Unlock()
		busy[number] = true
	}}, quick())
	var calls []running
	for range 4 {
		calls = append(calls, b.begin(t, 5, nil))
	}
	eventually(t, "one runs", func() bool { return len(b.fake.Jobs()) > 0 })
	if waits := b.fake.Asked("POST /v1/images/generations") - len(b.fake.Jobs()); waits > 0 {
		t.Errorf("%d calls wait in the server", waits)
	}
	for _, r := range calls {
		if err := <-r.done; err != nil {
			t.Error(err)
		}
	}
}

// What Generate allocates for one image beyond the server's own answer is at most 1.5 times the image's bytes.
func TestAnImageIsHeldOnce(t *testing.T) { // not parallel: it counts what the whole process allocates
	file := backendtest.Paint(backendtest.Picture{Width: 1024, Height: 1024, Grain: true})
	text, err := json.Marshal(map[string]any{"created": 1, "data": []any{map[string]any{"b64_json": base64.StdEncoding.EncodeToString(file)}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(`{"data":[{"id":"model","owned_by":"vllm"}]}`))
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text)
	}))
	t.Cleanup(server.Close)
	g := start(t, attach.Config{Kind: "openai", Base: server.URL, Device: "cpu"}, quick())
	eventually(t, "the server is usable", func() bool { return g.Problem() == nil })
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
	took := float64(after.TotalAlloc-before.TotalAlloc) - float64(len(text))
	t.Logf("an image of %d bytes in an answer of %d took %.2f times its bytes beyond the answer", len(file), len(text), took/float64(len(file)))
	if took > 1.5*float64(len(file)) {
		t.Errorf("it took %.0f bytes beyond the answer, %.2f times the image's", took, took/float64(len(file)))
	}
	if _, err := png.DecodeConfig(bytes.NewReader(image.PNG)); err != nil {
		t.Error(err)
	}
}
