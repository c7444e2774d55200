package comfyui

import (
	"bytes"
	"context"
	"encoding/json"
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
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
)

// slow is a model whose steps can be watched.
func slow(milliseconds int, faults ...backendtest.Fault) map[string]backendtest.Scenario {
	return map[string]backendtest.Scenario{"model": {StepMilliseconds: milliseconds, Faults: faults}}
}

// steps makes an image and gives the steps that were told, which never go back.
func (b *attachedBench) steps(t *testing.T, req backend.Request) (told []int, file []byte) {
	t.Helper()
	file, err := b.make(t, req, func(p job.Progress) {
		told = append(told, p.Step)
		if p.Steps != req.Steps || p.ETASeconds != nil && *p.ETASeconds < 0 {
			t.Errorf("progress %+v", p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(told) || len(told) < 2 || told[0] != 0 || told[len(told)-1] != req.Steps || len(slices.Compact(slices.Clone(told))) != len(told) {
		t.Errorf("steps %v; want 0 to %d, each once", told, req.Steps)
	}
	return told, file
}

func TestEveryStepIsTold(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(30)})
	if told, _ := b.steps(t, request("model")); len(told) < 4 {
		t.Errorf("steps %v; want 0 to 5, hardly one left out", told)
	}
}

// The socket breaks in the middle: the image is fetched all the same, and progress goes on behind it. The fake forgets the new socket
// when it notices the end of the old one, as ComfyUI does.
func TestLostSocket(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(60, backendtest.Fault{Do: backendtest.DropSocket, Job: 1, Step: 3})})
	req := request("model")
	req.Steps = 30
	told, _ := b.steps(t, req)
	if before := slices.IndexFunc(told, func(step int) bool { return step > 4 }); before < 0 || len(told)-before < 4 {
		t.Errorf("steps %v; want some behind the loss of the socket", told)
	}
}

// A socket that breaks with every step, and never says that the prompt has ended.
func TestSocketThatBreaksAgainAndAgain(t *testing.T) {
	t.Parallel()
	var faults []backendtest.Fault
	for step := 1; step <= 5; step++ {
		faults = append(faults, backendtest.Fault{Do: backendtest.DropSocket, Job: 1, Step: step})
	}
	b := newAttached(t, attachedSetup{models: slow(20, faults...)})
	b.steps(t, request("model"))
}

func TestWithoutSockets(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{settings: backendtest.ComfySettings{NoSocket: true}, models: slow(10)})
	if told, _ := b.steps(t, request("model")); !slices.Equal(told, []int{0, 5}) {
		t.Errorf("steps %v; want the first and the last", told)
	}
}

func TestPreviews(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		settings backendtest.ComfySettings
		kind     string // "" for none
	}{
		"JPEG with its prompt":        {backendtest.ComfySettings{}, "image/jpeg"},
		"PNG with its prompt":         {backendtest.ComfySettings{PreviewPNG: true}, "image/png"},
		"of a server without those":   {backendtest.ComfySettings{Ancient: true}, "image/jpeg"},
		"PNG of one":                  {backendtest.ComfySettings{Ancient: true, PreviewPNG: true}, "image/png"},
		"just small enough":           {backendtest.ComfySettings{PreviewBytes: backend.MaxPreviewBytes}, "image/jpeg"},
		"too large":                   {backendtest.ComfySettings{PreviewBytes: backend.MaxPreviewBytes + 1}, ""},
		"larger than any message":     {backendtest.ComfySettings{PreviewBytes: 5 << 20}, ""},
		"larger, and with no prompts": {backendtest.ComfySettings{PreviewBytes: 5 << 20, Ancient: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{settings: tt.settings, models: slow(150)})
			seen := 0
			req := request("model")
			req.Preview = func(p backend.Preview) {
				seen++
				if p.Type != tt.kind || len(p.Data) > backend.MaxPreviewBytes || len(p.Data) < 50 {
					t.Errorf("a preview of %d bytes, %s; want %q", len(p.Data), p.Type, tt.kind)
				}
			}
			if told, _ := b.steps(t, req); len(told) < 4 {
				t.Errorf("steps %v: previews keep them away", told)
			}
			if seen > 5 || seen == 0 && tt.kind != "" || seen > 0 && tt.kind == "" {
				t.Errorf("%d previews", seen)
			}
		})
	}
}

// Nonsense on the socket, another prompt's events, texts of many megabytes: none of it is taken for this prompt's.
func TestEventsThatAreNotOurs(t *testing.T) {
	t.Parallel()
	for _, fault := range []backendtest.Action{backendtest.GarbageEvents, backendtest.ForeignEvents, backendtest.HugeEvent} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{models: slow(150, backendtest.Fault{Do: fault, Step: 2})})
			req, previews := request("model"), 0
			req.Preview = func(backend.Preview) { previews++ }
			if told, _ := b.steps(t, req); len(told) < 4 || slices.Index(told, 5) != len(told)-1 {
				t.Errorf("steps %v", told)
			}
			if previews > 5 {
				t.Errorf("%d previews of 5 steps", previews)
			}
		})
	}
}

// What ComfyUI has in its cache it does not make again: no step is told, and the image is the same.
func TestCachedGraph(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(20)})
	_, first := b.steps(t, request("model"))
	told, second := b.steps(t, request("model"))
	if !slices.Equal(told, []int{0, 5}) || !bytes.Equal(first, second) {
		t.Errorf("steps %v, equal images %v; want the first and the last step, and the same image", told, bytes.Equal(first, second))
	}
}

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

// somebody is another client of the same server.
type somebody struct {
	t    *testing.T
	base string
	id   string
}

// submits queues a prompt of many slow steps of somebody else's.
func (b *attachedBench) somebodySubmits(t *testing.T, steps int) somebody {
	t.Helper()
	e, c, err := b.find("model")
	if err != nil {
		t.Fatal(err)
	}
	req := request("model")
	req.Prompt, req.Seed, req.Steps = "somebody's", 99, steps
	o, err := newOrder(e, c, req, 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := b.server.api.submit(t.Context(), submission{o.graph, "somebody", newUUID()})
	if err != nil {
		t.Fatal(err)
	}
	return somebody{t, b.fake.Base(), id}
}

// status is that of the prompt in history, "" before it has ended.
func (s somebody) status() string {
	s.t.Helper()
	response, err := http.Get(s.base + "/history/" + s.id)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var all map[string]record
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil {
		s.t.Fatal(err)
	}
	if r, ok := all[s.id]; ok {
		return r.Status.Status
	}
	return ""
}

// A prompt that waits behind somebody else's is no failure, however long that takes.
func TestWaitingBehindSomebody(t *testing.T) {
	t.Parallel()
	l := quick()
	l.stall, l.firstStep = 300*time.Millisecond, 300*time.Millisecond
	b := newAttached(t, attachedSetup{limits: l, models: slow(50)})
	other := b.somebodySubmits(t, 30)
	var first time.Time
	begun := time.Now()
	if _, err := b.make(t, request("model"), func(p job.Progress) {
		if p.Step > 0 && first.IsZero() {
			first = time.Now()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if other.status() != "success" || first.Sub(begun) < time.Second {
		t.Errorf("ours began after %v, somebody's is %q; want it to wait for that", first.Sub(begun), other.status())
	}
}

// Whatever of ours is cancelled, somebody else's prompt is finished.
func TestCancelSparesSomebodyElses(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]backendtest.ComfySettings{"2026": {}, "2025": {Older: true}, "early 2025": {Ancient: true}} {
		t.Run(name+": ours waits", func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{settings: settings, models: slow(30)})
			other := b.somebodySubmits(t, 30)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := b.Generate(ctx, card(), request("model"), func(job.Progress) {})
				done <- err
			}()
			await(t, "two prompts in the queue", func() bool { return b.queued(t) == 2 })
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			await(t, "ours to leave the queue", func() bool { return b.queued(t) < 2 })
			await(t, "somebody's end", func() bool { return other.status() != "" })
			if got := other.status(); got != "success" {
				t.Errorf("somebody's prompt ended with %s", got)
			}
		})
		t.Run(name+": ours runs", func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{settings: settings, models: slow(30)})
			ctx, cancel := context.WithCancel(t.Context())
			req := request("model")
			req.Steps = 150
			var other somebody
			if _, err := b.Generate(ctx, card(), req, func(p job.Progress) {
				if p.Step == 2 {
					other = b.somebodySubmits(t, 5)
					cancel()
				}
			}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			begun := time.Now()
			await(t, "somebody's end", func() bool { return other.status() != "" })
			if got, took := other.status(), time.Since(begun); got != "success" || took > 3*time.Second {
				t.Errorf("somebody's prompt ended with %s after %v: ours was not stopped", got, took)
			}
		})
	}
}

// queued counts the prompts that wait or run.
func (b *attachedBench) queued(t *testing.T) int {
	t.Helper()
	var info struct {
		Exec struct {
			Remaining int `json:"queue_remaining"`
		} `json:"exec_info"`
	}
	if err := b.server.api.get(t.Context(), "/prompt", 1<<20, &info); err != nil {
		t.Fatal(err)
	}
	return info.Exec.Remaining
}

func TestCancelOfAHungServerReturnsAtOnce(t *testing.T) {
	t.Parallel()
	l := quick()
	l.settle = 500 * time.Millisecond
	b := newAttached(t, attachedSetup{limits: l, models: faulty(backendtest.Fault{Do: backendtest.Hang, Step: 3})})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("given up")
	var at time.Time
	_, err := b.Generate(ctx, card(), request("model"), func(p job.Progress) {
		if p.Step == 2 {
			at = time.Now()
			cancel(cause)
		}
	})
	if took := time.Since(at); !errors.Is(err, cause) || took > 2*time.Second {
		t.Errorf("got %v after %v", err, took)
	}
}

// A server that is started again has lost its queue and history; it is used again as soon as it answers.
func TestRestartOfTheServer(t *testing.T) {
	t.Parallel()
	l := quick()
	l.gone = time.Second
	b := newAttached(t, attachedSetup{limits: l, models: slow(50)})
	req := request("model")
	req.Steps = 200
	working, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var once sync.Once
		_, err := b.make(t, req, func(p job.Progress) {
			if p.Step > 0 {
				once.Do(func() { close(working) })
			}
		})
		done <- err
	}()
	<-working
	b.fake.Stop()
	b.fake.Start(t)
	checkFault(t, <-done, backend.ErrUnavailable, "the prompt is gone")
	await(t, "the server's return", func() bool { return b.Problem() == nil })
	b.steps(t, request("model"))
}

func TestServerThatEndsAndStaysAway(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{limits: impatient(), models: slow(50)})
	var once sync.Once
	req := request("model")
	req.Steps = 200
	_, err := b.make(t, req, func(p job.Progress) {
		if p.Step > 0 {
			once.Do(b.fake.Stop)
		}
	})
	checkFault(t, err, backend.ErrUnavailable, "can't be reached")
	await(t, "its absence to be noticed", func() bool { return b.Problem() != nil })
	if _, err := b.make(t, request("model"), nil); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := b.Unload(t.Context(), card()); err != nil {
		t.Errorf("unloading one that is away: %v", err)
	}
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
		"flux1-dev": "a T5 text encoder is missing, such as t5xxl_fp8_e4m3fn_scaled.safetensors: put it into ComfyUI's models/text_encoders folder",
		"z_image":   "the Qwen3-4B text encoder is missing, such as qwen_3_4b.safetensors",
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
	if _, err := workflows.Import("portrait", []byte(twoTexts)); err != nil {
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
	if _, err := workflows.Import("of other nodes", []byte(strings.Replace(twoTexts, `"VAEDecode"`, `"VAEDecodeNobodyHas"`, 1))); err != nil {
		t.Fatal(err)
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
	checkFault(t, err, nil, "choked on …")
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
