package comfyui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/job"
)

// quick are limits for a fake that works in milliseconds, wide enough for a loaded machine.
func quick() limits {
	l := defaultLimits()
	l.answer, l.view, l.probe, l.start, l.grace = 20*time.Second, 20*time.Second, 30*time.Second, 30*time.Second, 20*time.Second
	l.poll, l.quiet, l.gone = 50*time.Millisecond, 300*time.Millisecond, 5*time.Second
	l.scan, l.scanned = 100*time.Millisecond, 20*time.Second
	l.backoff = process.Backoff{First: time.Millisecond, Longest: time.Millisecond}
	l.breaker.Failures = 100
	return l
}

// impatient are limits for a server that hangs. They are as short as a loaded machine allows, for work that takes milliseconds.
func impatient() limits {
	l := quick()
	l.answer, l.view, l.stall, l.firstStep, l.gone, l.settle = time.Second, time.Second, 2*time.Second, 2*time.Second, time.Second, 2*time.Second
	return l
}

// card is the device that an attached server of a test works on.
func card() gpu.Device {
	return gpu.Device{ID: "GPU-00000000-0000-0000-0000-000000000001", Vendor: gpu.NVIDIA, Name: "NVIDIA GeForce RTX 4090", MemoryBytes: new(uint64(24 << 30))}
}

// attachedBench is a fake ComfyUI that somebody else runs, and what is attached to it.
type attachedBench struct {
	*Generator
	fake *backendtest.Running
	stop func() error // ends Run, and gives its error
}

type attachedSetup struct {
	settings  backendtest.ComfySettings
	limits    limits
	workflows *Workflows
	models    map[string]backendtest.Scenario // checkpoints; "model" when there are none
	files     []string                        // others, relative to the models folder
	log       *slog.Logger
	front     func(http.ResponseWriter, *http.Request, http.Handler) // stands before the fake, whose handler it is given; nil for nothing
}

func newAttached(t *testing.T, s attachedSetup) *attachedBench {
	t.Helper()
	if s.limits.answer == 0 {
		s.limits = quick()
	}
	if s.models == nil {
		s.models = map[string]backendtest.Scenario{"model": {}}
	}
	if s.log == nil {
		s.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	python, dir := backendtest.BuildFakeComfyUI(t, s.settings)
	writeModels(t, dir, s.models, s.files)
	b := &attachedBench{fake: backendtest.RunComfyUI(t, python, dir)}
	machine := &attach.Machine{}
	machine.See(&gpu.Inventory{Revision: 1, Devices: []gpu.Device{card()}}, nil)
	base := b.fake.Base()
	if s.front != nil {
		to, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(to)
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.front(w, r, proxy) }))
		t.Cleanup(func() {
			b.fake.Stop() // or its sockets keep the front
			front.Close()
		})
		base = front.URL
	}
	b.Generator = newGenerator(attach.Config{Kind: "comfyui", Base: base}, machine, Options{Workflows: s.workflows, Log: s.log}, s.limits)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	await(t, "an attached server", func() bool { return b.Problem() == nil })
	return b
}

func writeModels(t *testing.T, dir string, models map[string]backendtest.Scenario, files []string) {
	t.Helper()
	for name, scenario := range models {
		backendtest.WriteModel(t, filepath.Join(dir, "models", "checkpoints"), name, scenario)
	}
	for _, file := range files {
		path := filepath.Join(dir, "models", filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("weights"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits until something holds; what it waits for is told when it never does.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// secret is a prompt that must not be found anywhere.
const secret = "an unmistakable walrus"

func request(model string) backend.Request {
	return backend.Request{JobID: "01JTEST", Attempt: 1, Prompt: secret, Model: model, Seed: 1, Width: 64, Height: 64, Steps: 5, Guidance: 7}
}

func (b *attachedBench) make(t *testing.T, req backend.Request, report func(job.Progress)) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if report == nil {
		report = func(job.Progress) {}
	}
	image, err := b.Generate(ctx, card(), req, report)
	if err == nil && len(image.PNG) == 0 {
		t.Error("neither an image nor an error")
	}
	return image.PNG, err
}

func TestAttachedConformance(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]backendtest.ComfySettings{"of 2026": {}, "of 2025": {Older: true}, "of early 2025": {Ancient: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backendtest.Exercise(t, func(t *testing.T) backend.Backend {
				return newAttached(t, attachedSetup{settings: settings, models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 10}}}).Generator
			}, backendtest.Subject{Devices: []gpu.Device{card()}, Model: "model", Resident: holds})
		})
	}
}

// holds says whether the server's device memory is used.
func holds(b backend.Backend, _ gpu.Device) bool {
	s, err := b.(*Generator).server.api.stats(context.Background())
	return err == nil && s.held() > 0
}

// final says whether an error is neither of those after which a job is tried elsewhere.
func final(err error) bool {
	return err != nil && !errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, backend.ErrOutOfMemory)
}

// checkFault compares an error with what a fault must give: a sentinel, or nil for a final error.
func checkFault(t *testing.T, err, sentinel error, words string) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatal("no error")
	case sentinel != nil && !errors.Is(err, sentinel):
		t.Errorf("got %v; want it to wrap %v", err, sentinel)
	case sentinel == nil && !final(err):
		t.Errorf("got %v; want a final error", err)
	case !strings.Contains(err.Error(), words):
		t.Errorf("got %q; want it to tell of %q", err, words)
	case strings.Contains(err.Error(), "walrus"):
		t.Errorf("the error holds the prompt: %v", err)
	}
}

func faulty(faults ...backendtest.Fault) map[string]backendtest.Scenario {
	return map[string]backendtest.Scenario{"model": {Faults: faults}}
}

func TestAttachedFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault    backendtest.Fault
		sentinel error // nil: final
		words    string
		limits   limits
		dead     bool // the next image fails too
	}{
		{fault: backendtest.Fault{Do: backendtest.Fail, Step: 3, Text: "the tokenizer choked on " + secret}, words: "the tokenizer choked"},
		{fault: backendtest.Fault{Do: backendtest.Fail, Step: 1, Text: "CUDA error: an illegal memory access was encountered"}, sentinel: backend.ErrUnavailable, words: "started again"},
		{fault: backendtest.Fault{Do: backendtest.OutOfMemory, Step: 2}, sentinel: backend.ErrOutOfMemory, words: "smaller size"},
		{fault: backendtest.Fault{Do: backendtest.Interrupted, Step: 2}, sentinel: backend.ErrUnavailable, words: "somebody else interrupted"},
		{fault: backendtest.Fault{Do: backendtest.Forget, Step: 2}, sentinel: backend.ErrUnavailable, words: "the prompt is gone"},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 1}, sentinel: backend.ErrUnavailable, words: "", limits: impatient(), dead: true},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 6}, sentinel: backend.ErrUnavailable, words: "", limits: impatient(), dead: true},
		{fault: backendtest.Fault{Do: backendtest.Hang, Step: 1}, sentinel: backend.ErrUnavailable, words: "hangs", limits: impatient(), dead: true},
		{fault: backendtest.Fault{Do: backendtest.Hang, Step: 3}, sentinel: backend.ErrUnavailable, words: "at 40 %", limits: impatient(), dead: true},
		{fault: backendtest.Fault{Do: backendtest.ServerError}, sentinel: backend.ErrUnavailable, words: "500"},
		{fault: backendtest.Fault{Do: backendtest.ErrorBody}, sentinel: backend.ErrUnavailable, words: "nonsense"},
		{fault: backendtest.Fault{Do: backendtest.NoID}, sentinel: backend.ErrUnavailable, words: "without a usable id"},
		{fault: backendtest.Fault{Do: backendtest.Refuse}, words: "node KSampler does not exist"},
		{fault: backendtest.Fault{Do: backendtest.Garbage}, sentinel: backend.ErrUnavailable, words: "nonsense"},
		{fault: backendtest.Fault{Do: backendtest.HalfJSON}, sentinel: backend.ErrUnavailable, words: "can't be reached", limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.WrongID}, sentinel: backend.ErrUnavailable, words: "another prompt's history"},
		{fault: backendtest.Fault{Do: backendtest.Lost}, sentinel: backend.ErrUnavailable, words: "the prompt is gone"},
		{fault: backendtest.Fault{Do: backendtest.Huge}, sentinel: backend.ErrUnavailable, words: "more than 16 MiB"},
		{fault: backendtest.Fault{Do: backendtest.Drip}, sentinel: backend.ErrUnavailable, words: "in time", limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.HeldAnswer}, sentinel: backend.ErrUnavailable, words: "in time", limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.NoImage}, sentinel: backend.ErrUnavailable, words: "without an image"},
		{fault: backendtest.Fault{Do: backendtest.OddStatus}, sentinel: backend.ErrUnavailable, words: "levitating"},
		{fault: backendtest.Fault{Do: backendtest.AnswerFails}, sentinel: backend.ErrUnavailable, words: "500"},
		{fault: backendtest.Fault{Do: backendtest.OtherImage}, sentinel: backend.ErrUnavailable, words: "another prompt's image"},
		{fault: backendtest.Fault{Do: backendtest.PathName}, sentinel: backend.ErrUnavailable, words: "no usable name"},
		{fault: backendtest.Fault{Do: backendtest.CutPNG}, sentinel: backend.ErrUnavailable, words: "cut off"},
		{fault: backendtest.Fault{Do: backendtest.DamagedPNG}, sentinel: backend.ErrUnavailable, words: "damaged"},
		{fault: backendtest.Fault{Do: backendtest.WrongSize}, words: "128x64 instead of 64x64"},
		{fault: backendtest.Fault{Do: backendtest.Bomb}, words: "50000x50000 instead of 64x64"},
		{fault: backendtest.Fault{Do: backendtest.ViewGarbage}, sentinel: backend.ErrUnavailable, words: "not a whole PNG"},
		{fault: backendtest.Fault{Do: backendtest.ViewHuge}, sentinel: backend.ErrUnavailable, words: "more than 64 MiB"},
		{fault: backendtest.Fault{Do: backendtest.ViewDrip}, sentinel: backend.ErrUnavailable, words: "in time", limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.ViewOther}, sentinel: backend.ErrUnavailable, words: "another prompt's image"},
		{fault: backendtest.Fault{Do: backendtest.ViewHalf}, sentinel: backend.ErrUnavailable, words: "can't be reached"},
	} {
		t.Run(fmt.Sprintf("%s before step %d", tt.fault.Do, tt.fault.Step), func(t *testing.T) {
			t.Parallel()
			tt.fault.Job = 1
			b := newAttached(t, attachedSetup{limits: tt.limits, models: faulty(tt.fault)})
			_, err := b.make(t, request("model"), nil)
			checkFault(t, err, tt.sentinel, tt.words)
			if tt.dead {
				return
			}
			req := request("model")
			req.Seed = 2
			if _, err := b.make(t, req, nil); err != nil {
				t.Errorf("the next image failed too: %v", err)
			}
		})
	}
}

var (
	_ backend.Backend  = (*Generator)(nil)
	_ backend.Unloader = (*Generator)(nil)
	_ backend.Loader   = (*Generator)(nil)
	_ backend.Unloader = (*fleetGenerator)(nil)
	_ backend.Loader   = (*fleetGenerator)(nil)
)
