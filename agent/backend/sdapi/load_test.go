package sdapi

import (
	"context"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest/fakesdapi"
)

// Weights that were put away are taken back before the next image, also when the server was not seen for a while in between, and by an
// agent that was started since.
func TestTakesBackAfterRecognition(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour}, quick())
			if err := b.Unload(t.Context(), backend.CPU()); err != nil {
				t.Fatal(err)
			}
			b.missProbe(t)
			before := b.fake.Answered("GET /sdcpp/v1/capabilities")
			b.Look()
			eventually(t, "it was asked anew which program it is", func() bool {
				return b.fake.Answered("GET /sdcpp/v1/capabilities") > before && b.recognitions() == 2
			})
			if _, err := b.make(t, request()); err != nil {
				t.Errorf("after a failed probe: %v", err)
			}
			if err := b.Unload(t.Context(), backend.CPU()); err != nil || b.fake.Resident() != "" {
				t.Errorf("unloading: %v", err)
			}
			again := &bench{Generator: start(t, attach.Config{Kind: "sdapi", Base: b.fake.URL, Device: "cpu"}, quick()), fake: b.fake}
			eventually(t, "the server is usable", func() bool { return again.Server.Problem() == nil })
			if _, err := again.make(t, request()); err != nil {
				t.Errorf("after a start of the agent: %v", err)
			}
		})
	}
}

func (g *Generator) recognitions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.recognised
}

// What somebody else put away is taken back once the server has complained.
func TestTakesBackAfterAComplaint(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111}, quick())
	if _, err := b.make(t, request()); err != nil {
		t.Fatal(err)
	}
	if n := b.fake.Answered("POST /sdapi/v1/reload-checkpoint"); n != 1 {
		t.Errorf("taken back %d times before the first image", n)
	}
	other := start(t, attach.Config{Kind: "sdapi", Base: b.fake.URL, Device: "cpu"}, quick())
	eventually(t, "the server is usable", func() bool { return other.Server.Problem() == nil })
	if err := other.Unload(t.Context(), backend.CPU()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.make(t, request()); meaning(err) != "elsewhere" {
		t.Errorf("got %v", err)
	}
	if _, err := b.make(t, request()); err != nil {
		t.Error(err)
	}
	if n := b.fake.Answered("POST /sdapi/v1/reload-checkpoint"); n != 2 {
		t.Errorf("taken back %d times", n)
	}
}

// Somebody else's image keeps its model: unloading waits for its end, or says that it can't be done.
func TestUnloadBehindSomebodyElse(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Before: func(_, step int) {
				if step == 3 {
					<-hold
				}
			}}, quick())
			theirs := b.fake.Occupy(6)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			err := b.Unload(ctx, backend.CPU())
			if err == nil || !strings.Contains(err.Error(), "works for somebody else") || b.fake.Resident() == "" {
				t.Errorf("%v; %q is loaded", err, b.fake.Resident())
			}
			done := make(chan error, 1)
			go func() { done <- b.Unload(t.Context(), backend.CPU()) }()
			looks := b.fake.Answered("GET /sdapi/v1/progress")
			eventually(t, "it waits", func() bool { return b.fake.Answered("GET /sdapi/v1/progress") > looks+2 })
			if n := b.fake.Answered("POST /sdapi/v1/unload-checkpoint"); n != 0 {
				t.Errorf("unloaded %d times under somebody else's image", n)
			}
			close(hold)
			<-theirs
			if err := <-done; err != nil || b.fake.Resident() != "" {
				t.Errorf("%v; %q is loaded", err, b.fake.Resident())
			}
			if failures := b.Server.Status().Failures; failures != 0 {
				t.Errorf("the breaker has seen %d failures", failures)
			}
		})
	}
}
