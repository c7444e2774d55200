package openai

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakeopenai"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// quick are limits for a fake that works in milliseconds, wide enough for a loaded machine.
func quick() limits {
	l := defaultLimits()
	l.tell, l.pause = 10*time.Millisecond, 10*time.Millisecond
	return l
}

// waiting is how long a test waits for what must happen; it is reached only by a failure.
const waiting = 30 * time.Second

// bench is a running generator with a fake server.
type bench struct {
	*Generator
	fake *fakeopenai.Server
}

func newBench(t testing.TB, cfg fakeopenai.Config, l limits) *bench {
	t.Helper()
	b := &bench{fake: fakeopenai.Start(t, cfg)}
	b.Generator = start(t, attach.Config{Kind: "openai", Base: b.fake.URL, Password: cfg.Key, Device: "cpu"}, l)
	eventually(t, "the server is usable", func() bool { return b.Problem() == nil })
	return b
}

// start runs a generator on a machine without a GPU until the test ends.
func start(t testing.TB, config attach.Config, l limits) *Generator {
	t.Helper()
	machine := &attach.Machine{}
	machine.See(&gpu.Inventory{}, nil)
	g := newGenerator(config, machine, slog.New(slog.NewTextHandler(t.Output(), nil)), l)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return g
}

// eventually waits for what another goroutine brings about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.After(waiting)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

// secret is a prompt that must not be found anywhere.
const secret = "an unmistakable walrus"

func request() backend.Request {
	return backend.Request{JobID: "01JTEST", Attempt: 1, Prompt: secret, NegativePrompt: "rain", Model: "model", Seed: 7, Width: 64, Height: 64, Steps: 5, Guidance: 7}
}

func (b *bench) make(t testing.TB, req backend.Request) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	image, err := b.Generate(ctx, backend.CPU(), req, func(job.Progress) {})
	return image.PNG, err
}

var all = []fakeopenai.Flavour{fakeopenai.LocalAI, fakeopenai.LocalOld, fakeopenai.VLLM, fakeopenai.SGLang, fakeopenai.SDServer}

// The steps of these programs are estimated, from the second image on: the suite cancels after the first report.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, flavour := range all {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			backendtest.Exercise(t, func(t *testing.T) backend.Backend {
				return newBench(t, fakeopenai.Config{Flavour: flavour, Step: 10 * time.Millisecond}, quick())
			}, backendtest.Subject{Devices: []gpu.Device{backend.CPU()}, Model: "model", Silent: true})
		})
	}
}

// meaning is what the scheduler makes of an error.
func meaning(err error) string {
	switch {
	case err == nil:
		return "none"
	case errors.Is(err, backend.ErrOutOfMemory):
		return "out of memory"
	case errors.Is(err, backend.ErrUnavailable):
		return "elsewhere"
	}
	return "final"
}

// What the rest of muster asks of an attached generator.
var _ interface {
	backend.Backend
	Run(context.Context) error
	Device() (gpu.Device, bool)
	Problem() error
	Models() []backend.Model
	Status() wire.Generator
	Owns(pid int) bool
} = (*Generator)(nil)
