package sdserver

import (
	"slices"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/process"
	"muster/shared/wire"
)

func TestGeneratorsTellWhatTheirChildrenDo(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {LoadMilliseconds: 300}}})
	first := func() wire.Generator { return b.Generators(b.devices)[0] }
	if got := first(); got.State != wire.GeneratorIdle || got.Kind != "sdserver" || got.Title != "sd-server master-827-97d2990+" || *got.Device != 0 ||
		got.Models != 1 || got.Address != "" || got.Attached {
		t.Errorf("before the first image: %+v", got)
	}
	loaded := make(chan error, 1)
	go func() { loaded <- b.Backend().(backend.Loader).Load(t.Context(), b.devices[0], "model") }()
	await(t, "a child that loads", func() bool { return first().State == wire.GeneratorStarting && first().Loaded == "model" })
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	if got := first(); got.State != wire.GeneratorReady || got.Loaded != "model" || !strings.HasPrefix(got.Address, "127.0.0.1:") {
		t.Errorf("when it is loaded: %+v", got)
	}
	if others := b.Generators(b.devices)[1:]; slices.ContainsFunc(others, func(g wire.Generator) bool { return g.State != wire.GeneratorIdle }) {
		t.Errorf("others: %+v", others)
	}
	if err := b.unload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := first(); got.State != wire.GeneratorIdle || got.Loaded != "" || got.Address != "" {
		t.Errorf("after unloading: %+v", got)
	}
}

func TestGeneratorsTellOfTheBreaker(t *testing.T) {
	t.Parallel()
	limits := quick()
	limits.breaker = process.Breaker{Failures: 2, Rest: time.Hour}
	crash := backendtest.Scenario{Faults: []backendtest.Fault{{Do: backendtest.Crash}}}
	b := newBench(t, setup{limits: limits, models: map[string]backendtest.Scenario{"model": crash}})
	for range 2 {
		if b.make(t, "model") == nil {
			t.Fatal("it survived")
		}
	}
	got := b.Generators(b.devices)[0]
	if got.State != wire.GeneratorResting || got.Failures != 2 || got.RetryAt == nil || !strings.Contains(got.Problem, "the next try is at") {
		t.Errorf("%+v", got)
	}
	if again := b.Generators(b.devices)[0]; again.Problem != got.Problem || !again.RetryAt.Equal(*got.RetryAt) {
		t.Errorf("it flickers: %+v", again)
	}
}
