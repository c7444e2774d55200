package openai

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakeopenai"
	"muster/shared/job"
	"muster/shared/wire"
)

func TestFaultsHaveTheirMeaning(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		do    backendtest.Action
		text  string
		step  int
		want  string
		words string // in the error
		read  time.Duration
		limit time.Duration // of a whole call
	}{
		{do: backendtest.Garbage, want: "elsewhere", words: "nonsense"},
		{do: backendtest.HalfJSON, want: "elsewhere", words: "can't be reached"},
		{do: backendtest.Dropped, want: "elsewhere", words: "can't be reached"},
		{do: backendtest.Huge, want: "elsewhere", words: "more than 64 MiB"},
		{do: backendtest.Drip, want: "elsewhere", words: "did not answer in time", read: 300 * time.Millisecond},
		{do: backendtest.HeldAnswer, want: "elsewhere", words: "it hangs", limit: 300 * time.Millisecond},
		{do: backendtest.Hang, step: 3, want: "elsewhere", words: "it hangs", limit: 300 * time.Millisecond},
		{do: backendtest.CutPNG, want: "elsewhere", words: "not a whole PNG"},
		{do: backendtest.DamagedPNG, want: "elsewhere", words: "not a whole PNG"},
		{do: backendtest.Bomb, want: "final", words: "50000x50000 instead of 64x64"},
		{do: backendtest.WrongSize, want: "final", words: "128x64 instead of 64x64"},
		{do: backendtest.NoImage, want: "elsewhere", words: "no image"},
		{do: backendtest.ErrorBody, text: "it went wrong", want: "elsewhere", words: "it went wrong"},
		{do: backendtest.OutOfMemory, want: "out of memory", words: "no room"},
		{do: backendtest.ServerError, text: "the worker died over " + secret, want: "elsewhere", words: "the worker died"},
		{do: backendtest.Refuse, text: "size is not supported", want: "final", words: "size is not supported"},
		{do: backendtest.BusyQueue, want: "elsewhere", words: "busy"},
	} {
		for _, flavour := range all {
			if tt.do == backendtest.Huge && flavour != fakeopenai.VLLM {
				continue // it fails before the flavour matters
			}
			t.Run(string(tt.do)+" "+string(flavour), func(t *testing.T) {
				t.Parallel()
				l := quick()
				if tt.read > 0 {
					l.read = tt.read
				}
				if tt.limit > 0 {
					l.silent = tt.limit
				}
				fault := backendtest.Fault{Job: 1, Step: tt.step, Do: tt.do, Text: tt.text}
				b := newBench(t, fakeopenai.Config{Flavour: flavour, Faults: []backendtest.Fault{fault}}, l)
				png, err := b.make(t, request())
				if got := meaning(err); got != tt.want || png != nil {
					t.Fatalf("%d bytes, %v: means %s, want %s", len(png), err, got, tt.want)
				}
				if !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "walrus") {
					t.Errorf("%v: want %q, and no prompt", err, tt.words)
				}
				if failures := b.Status().Failures; (failures > 0) != (tt.want == "elsewhere" && tt.do != backendtest.BusyQueue) {
					t.Errorf("its breaker has seen %d failures", failures)
				}
			})
		}
	}
}

// A probe that fails while an image is made changes nothing about it, and nothing about the next.
func TestProbeFailsDuringACall(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.LocalAI}, quick())
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	probes := 0
	for range 2 {
		_, err := b.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) {
			if _, err := b.probe(gone); err == nil {
				t.Error("the probe did not fail")
			}
			probes++
		})
		if err != nil {
			t.Error(err)
		}
	}
	if probes < 4 || b.Status().Failures != 0 {
		t.Errorf("%d probes failed, the breaker has seen %d failures", probes, b.Status().Failures)
	}
	before := b.fake.Asked("GET /version")
	b.Look()
	eventually(t, "it is asked anew which program it is", func() bool { return b.fake.Asked("GET /version") > before })
}

// A panic of who takes the reports ends the call alone: the turn is free, and the server is looked at again.
func TestPanic(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.VLLM}, quick())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_, _ = b.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) { panic("the test's") })
	}()
	before := b.fake.Asked("GET /v1/models")
	b.Look()
	eventually(t, "it is looked at", func() bool { return b.fake.Asked("GET /v1/models") > before })
	if _, err := b.make(t, request()); err != nil {
		t.Error(err)
	}
	if failures := b.Status().Failures; failures != 0 {
		t.Errorf("the breaker has seen %d failures", failures)
	}
}

// Whoever waits for a long image hears that it goes on, though no step can be told.
func TestSignsOfLife(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]fakeopenai.Config{
		"works": {Flavour: fakeopenai.VLLM, Step: 60 * time.Millisecond},
		"loads": {Flavour: fakeopenai.LocalAI, Loading: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := quick()
			l.alive, l.pause = 5*time.Millisecond, 100*time.Millisecond
			b := newBench(t, cfg, l)
			told := 0
			_, err := b.Generate(t.Context(), backend.CPU(), request(), func(p job.Progress) {
				if p.Step == 0 && p.Steps == 5 {
					told++
				}
			})
			if err != nil || told < 3 {
				t.Errorf("told %d times; %v", told, err)
			}
		})
	}
}

// A call that waits for what is left of another one is no hang either.
func TestSignsOfLifeBehindWhatIsLeft(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	l := quick()
	l.alive = 5 * time.Millisecond
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.SDServer, Before: func(number, step int) {
		if number == 1 {
			<-hold
		}
	}}, l)
	r := b.begin(t, 5, nil)
	eventually(t, "the job runs", func() bool { return len(b.fake.Jobs()) == 1 })
	r.gaveUp(t, errors.New("given up"))
	told := 0
	_, err := b.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) {
		if told++; told == 3 {
			close(hold)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// While a model loads the server says so and for how long: the call is made again, within its limit.
func TestLoading(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.LocalAI, Loading: 3}, quick())
	if _, err := b.make(t, request()); err != nil {
		t.Error(err)
	}
	if n := b.fake.Asked("POST /v1/images/generations"); n != 4 {
		t.Errorf("asked %d times", n)
	}
	l := quick()
	l.load = 0
	b = newBench(t, fakeopenai.Config{Flavour: fakeopenai.LocalAI, Loading: 1}, l)
	if _, err := b.make(t, request()); meaning(err) != "elsewhere" || !strings.Contains(err.Error(), "41%") {
		t.Errorf("beyond the limit: %v", err)
	}
}

// A call that is cancelled while a model loads returns at once.
func TestCancelWhileLoading(t *testing.T) {
	t.Parallel()
	l := quick()
	l.pause = time.Hour
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.LocalAI, Loading: 1000}, l)
	r := b.begin(t, 5, nil)
	eventually(t, "it was asked", func() bool { return b.fake.Asked("POST /v1/images/generations") == 1 })
	r.gaveUp(t, errors.New("given up"))
}

func TestProblemsThatAPersonMends(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		cfg   fakeopenai.Config
		words string
	}{
		{"key", fakeopenai.Config{Flavour: fakeopenai.VLLM, Key: "sk-secret"}, "http://:KEY@"},
		{"which models", fakeopenai.Config{Flavour: fakeopenai.LocalOld, Others: []string{"llama", "whisper"}}, "?model=NAME"},
		{"which models of a proxy", fakeopenai.Config{Flavour: fakeopenai.LlamaSwap, Others: []string{"llama"}}, "?model=NAME"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := fakeopenai.Start(t, tt.cfg)
			g := start(t, attach.Config{Kind: "openai", Base: fake.URL, Device: "cpu"}, quick())
			eventually(t, "it is unusable", func() bool { return g.Status().State == wire.GeneratorUnusable })
			if problem := g.Status().Problem; !strings.Contains(problem, tt.words) {
				t.Errorf("problem %q; want %q", problem, tt.words)
			}
			if _, err := g.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) {}); meaning(err) != "elsewhere" {
				t.Errorf("a job means %s: %v", meaning(err), err)
			}
		})
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.LocalAI, Key: "sk-secret"}, quick())
	if _, err := b.make(t, request()); err != nil {
		t.Error(err)
	}
}

// Addresses of images are followed on the server itself alone.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"self", "none"}, {"/", "none"}, {"data:", "none"},
		{"http://192.0.2.7/image.png", "final"},
		{"http://127.0.0.1:1/image.png", "final"},
		{"file:///etc/passwd", "final"},
		{"//example.org/image.png", "final"},
		{"http://user@127.0.0.1/", "final"},
		{"/nothing/there.png", "elsewhere"},
		{"::", "final"},
	} {
		b := newBench(t, fakeopenai.Config{Flavour: fakeopenai.SGLang, URL: tt.url}, quick())
		file, err := b.make(t, request())
		if meaning(err) != tt.want || (len(file) > 0) != (tt.want == "none") {
			t.Errorf("%s: %d bytes, %v", tt.url, len(file), err)
		}
	}
}

func TestOwnPath(t *testing.T) {
	t.Parallel()
	const base = "http://127.0.0.1:8080"
	for address, want := range map[string]string{
		"http://127.0.0.1:8080/a/b.png?x=1": "/a/b.png?x=1", "/a.png": "/a.png", "a.png": "/a.png", "https://127.0.0.1:8080/a": "",
		"http://127.0.0.1:8081/a": "", "http://localhost:8080/a": "", "http://127.0.0.1:8080@example.org/a": "", "javascript:1": "", "%": "",
	} {
		got, err := ownPath(base, address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s gives %q, %v; want %q", address, got, err, want)
		}
	}
}

func FuzzOwnPath(f *testing.F) {
	f.Add("http://127.0.0.1:8080/a/b.png")
	f.Add("//example.org/a")
	f.Add("http:example.org")
	f.Fuzz(func(t *testing.T, address string) {
		if at, err := ownPath("http://127.0.0.1:8080", address); err == nil && !strings.HasPrefix(at, "/") {
			t.Errorf("%q gives %q", address, at)
		}
	})
}
