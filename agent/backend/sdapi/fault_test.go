package sdapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/job"
	"muster/shared/wire"
)

// webUIs are the flavours that share their ancestor's routes; few stand for all where an exchange fails before the flavour matters.
var (
	few    = []fakesdapi.Flavour{fakesdapi.A1111, fakesdapi.KoboldNew, fakesdapi.SDServer}
	webUIs = []fakesdapi.Flavour{fakesdapi.A1111, fakesdapi.A1111Old, fakesdapi.Forge, fakesdapi.SDNext}
	all    = append([]fakesdapi.Flavour{fakesdapi.KoboldCpp, fakesdapi.KoboldNew, fakesdapi.SDServer}, webUIs...)
)

// hasty are limits that hanging calls reach soon.
func hasty() limits {
	l := quick()
	l.firstStep, l.stall, l.silent, l.giveUp = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond, 100*time.Millisecond
	return l
}

func TestFaultsHaveTheirMeaning(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		do       backendtest.Action
		text     string
		step     int
		flavours []fakesdapi.Flavour // none: all
		want     string
		words    string // in the error
		hasty    bool
	}{
		{do: backendtest.Garbage, flavours: few, want: "elsewhere", words: "nonsense"},
		{do: backendtest.HalfJSON, flavours: few, want: "elsewhere", words: "can't be reached"},
		{do: backendtest.Dropped, flavours: few, want: "elsewhere", words: "can't be reached"},
		{do: backendtest.Huge, flavours: few[:1], want: "elsewhere", words: "more than 64 MiB"},
		{do: backendtest.Drip, flavours: few, want: "elsewhere", words: "did not answer in time"},
		{do: backendtest.HeldAnswer, want: "elsewhere", words: "it hangs", hasty: true},
		{do: backendtest.Hang, step: 3, want: "elsewhere", words: "it hangs", hasty: true},
		{do: backendtest.CutPNG, want: "elsewhere", words: "not a whole PNG"},
		{do: backendtest.DamagedPNG, want: "elsewhere", words: "not a whole PNG"},
		{do: backendtest.Bomb, flavours: webUIs, want: "elsewhere", words: "50000x50000 instead of 64x64"},
		{do: backendtest.WrongSize, flavours: webUIs, want: "final", words: "makes 128x64"},
		{do: backendtest.WrongSize, flavours: []fakesdapi.Flavour{fakesdapi.KoboldCpp}, want: "final", words: "128x64 instead of 64x64"},
		{do: backendtest.WrongSeed, flavours: append([]fakesdapi.Flavour{fakesdapi.SDServer}, webUIs...), want: "elsewhere", words: "another seed"},
		{do: backendtest.NoImage, want: "elsewhere", words: "no image"},
		{do: backendtest.ErrorBody, text: "it went wrong", want: "elsewhere", words: "it went wrong"},
		{do: backendtest.OutOfMemory, flavours: webUIs, want: "out of memory", words: "no room"},
		{do: backendtest.OutOfMemory, flavours: []fakesdapi.Flavour{fakesdapi.KoboldCpp, fakesdapi.SDServer}, want: "elsewhere"},
		{do: backendtest.ServerError, text: "A tensor with all NaNs was produced in Unet.", want: "elsewhere", words: "could not make the image"},
		{do: backendtest.SwitchFails, text: "Error(s) in loading state_dict", flavours: []fakesdapi.Flavour{fakesdapi.A1111, fakesdapi.Forge}, want: "elsewhere", words: "could not make the image"},
		{do: backendtest.OtherModel, flavours: webUIs, want: "final", words: "has no model \"model\" any more"},
		{do: backendtest.Interrupted, step: 3, flavours: webUIs, want: "elsewhere", words: "somebody else interrupted"},
		{do: backendtest.Interrupted, step: 1, flavours: webUIs, want: "elsewhere", words: "somebody else interrupted"},
	} {
		flavours := tt.flavours
		if flavours == nil {
			flavours = all
		}
		for _, flavour := range flavours {
			t.Run(string(tt.do)+" "+string(flavour), func(t *testing.T) {
				t.Parallel()
				l := quick()
				if tt.do == backendtest.Drip {
					l.read = 300 * time.Millisecond
				}
				if tt.hasty {
					l = hasty()
				}
				fault := backendtest.Fault{Job: 1, Step: tt.step, Do: tt.do, Text: tt.text}
				b := newBench(t, fakesdapi.Config{Flavour: flavour, Faults: []backendtest.Fault{fault}, Step: time.Millisecond}, l)
				png, err := b.make(t, request())
				if got := meaning(err); got != tt.want || png != nil {
					t.Fatalf("%d bytes, %v: means %s, want %s", len(png), err, got, tt.want)
				}
				if !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), secret) {
					t.Errorf("%v: want %q, and no prompt", err, tt.words)
				}
				if failures := b.Server.Status().Failures; (failures > 0) != (tt.want == "elsewhere" && tt.do != backendtest.Interrupted) {
					t.Errorf("its breaker has seen %d failures", failures)
				}
			})
		}
	}
}

// A server that hung is used again when it answers again.
func TestAfterAFault(t *testing.T) {
	t.Parallel()
	for _, do := range []backendtest.Action{backendtest.Garbage, backendtest.HalfJSON, backendtest.DamagedPNG, backendtest.OutOfMemory, backendtest.Interrupted} {
		t.Run(string(do), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111, Faults: []backendtest.Fault{{Job: 1, Do: do}}}, quick())
			if _, err := b.make(t, request()); err == nil {
				t.Fatal("no error")
			}
			eventually(t, "it is usable again", func() bool { return b.Server.Problem() == nil })
			if _, err := b.make(t, request()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Three failures in a row open the breaker.
func TestBreaker(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.Forge, Faults: []backendtest.Fault{{Do: backendtest.Garbage}}}, quick())
	for range 3 {
		eventually(t, "it is usable", func() bool { return b.Server.Problem() == nil })
		if _, err := b.make(t, request()); err == nil {
			t.Fatal("no error")
		}
	}
	if got := b.Server.Status(); got.State != wire.GeneratorResting {
		t.Errorf("%+v", got)
	}
	asked := b.fake.Answered("POST /sdapi/v1/txt2img")
	if _, err := b.make(t, request()); meaning(err) != "elsewhere" || b.fake.Answered("POST /sdapi/v1/txt2img") != asked {
		t.Errorf("a resting server was asked: %v", err)
	}
}

// What a person can mend is said, with what to do.
func TestProblemsThatAPersonMends(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		cfg   fakesdapi.Config
		words string
	}{
		{"password", fakesdapi.Config{Flavour: fakesdapi.A1111, User: "me", Password: "secret"}, "http://USER:PASSWORD@"},
		{"password of SD.Next", fakesdapi.Config{Flavour: fakesdapi.SDNext, User: "me", Password: "secret"}, "http://USER:PASSWORD@"},
		{"no API", fakesdapi.Config{Flavour: fakesdapi.Forge, NoAPI: true}, "--api"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := fakesdapi.Start(t, tt.cfg)
			g := start(t, attach.Config{Kind: "sdapi", Base: fake.URL, Device: "cpu"}, quick())
			eventually(t, "it is unusable", func() bool { return g.Server.Status().State == wire.GeneratorUnusable })
			if problem := g.Server.Status().Problem; !strings.Contains(problem, tt.words) || strings.Contains(problem, "secret") {
				t.Errorf("problem %q; want %q", problem, tt.words)
			}
			_, err := g.Generate(t.Context(), backend.CPU(), request(), func(job.Progress) {})
			if meaning(err) != "elsewhere" {
				t.Errorf("a job means %s: %v", meaning(err), err)
			}
		})
	}
}

func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111, User: "me", Password: "s@crete"}, quick())
	if _, err := b.make(t, request()); err != nil {
		t.Error(err)
	}
}

// A server that refuses while somebody else's image is made is busy, not broken.
func TestBusy(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.KoboldCpp, SingleUser: true, Step: 10 * time.Millisecond}, quick())
	done := b.fake.Occupy(10)
	_, err := b.make(t, request())
	if meaning(err) != "elsewhere" || !strings.Contains(err.Error(), "busy") {
		t.Errorf("got %v", err)
	}
	if failures := b.Server.Status().Failures; failures != 0 {
		t.Errorf("the breaker has seen %d failures", failures)
	}
	<-done
}

// A page of another program in place of every answer.
func TestAnotherProgram(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) }))
	t.Cleanup(server.Close)
	g := start(t, attach.Config{Kind: "sdapi", Base: server.URL, Device: "cpu"}, quick())
	eventually(t, "it was asked", func() bool { return g.Server.Status().State == wire.GeneratorUnreachable })
	if problem := g.Server.Problem(); !errors.Is(problem, problem) || !strings.Contains(problem.Error(), "nonsense") {
		t.Errorf("problem %v", problem)
	}
}

// Run's end ends a call that hangs.
func TestEndOfRun(t *testing.T) {
	t.Parallel()
	fake := fakesdapi.Start(t, fakesdapi.Config{Flavour: fakesdapi.A1111, Faults: []backendtest.Fault{{Do: backendtest.Hang}}})
	machine := cpuOnly()
	g := newGenerator(attach.Config{Kind: "sdapi", Base: fake.URL, Device: "cpu"}, machine, nil, quick())
	life, end := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(life) }()
	eventually(t, "the server is usable", func() bool { return g.Server.Problem() == nil })
	ctx, cancel := context.WithCancelCause(t.Context())
	made := make(chan error, 1)
	go func() {
		_, err := g.Generate(ctx, backend.CPU(), request(), func(job.Progress) {})
		made <- err
	}()
	eventually(t, "the job runs", func() bool { return len(fake.Jobs()) == 1 })
	given := errors.New("given up")
	cancel(given)
	if err := <-made; !errors.Is(err, given) {
		t.Errorf("got %v", err)
	}
	end()
	select {
	case err := <-ran:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(waiting):
		t.Error("Run does not end while a call that was given up hangs")
	}
}
