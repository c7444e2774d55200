package sdapi

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// quick are limits for a fake that works in milliseconds, wide enough for a loaded machine.
func quick() limits {
	l := defaultLimits()
	l.poll, l.preview = 10*time.Millisecond, 10*time.Millisecond
	return l
}

// waiting is how long a test waits for what must happen; it is reached only by a failure.
const waiting = 30 * time.Second

// bench is a running generator with a fake server.
type bench struct {
	*Generator
	fake *fakesdapi.Server
}

func newBench(t testing.TB, cfg fakesdapi.Config, l limits) *bench {
	t.Helper()
	b := &bench{fake: fakesdapi.Start(t, cfg)}
	b.Generator = start(t, attach.Config{Kind: "sdapi", Base: b.fake.URL, User: cfg.User, Password: cfg.Password, Device: "cpu"}, l)
	eventually(t, "the server is usable", func() bool { return b.Server.Problem() == nil })
	return b
}

// cpuOnly is a machine without a GPU.
func cpuOnly() *attach.Machine {
	machine := &attach.Machine{}
	machine.See(&gpu.Inventory{}, nil)
	return machine
}

// start runs a generator until the test ends.
func start(t testing.TB, config attach.Config, l limits) *Generator {
	t.Helper()
	g := newGenerator(config, cpuOnly(), slog.New(slog.NewTextHandler(t.Output(), nil)), l)
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

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, flavour := range []fakesdapi.Flavour{
		fakesdapi.A1111, fakesdapi.A1111Old, fakesdapi.Forge, fakesdapi.SDNext, fakesdapi.KoboldCpp, fakesdapi.KoboldNew, fakesdapi.SDServer,
	} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			s := backendtest.Subject{Devices: []gpu.Device{backend.CPU()}, Model: "model", Long: 80}
			switch flavour {
			case fakesdapi.KoboldCpp, fakesdapi.SDServer:
				s.Silent, s.Keeps = true, true
			case fakesdapi.KoboldNew:
				s.Keeps = true
			default:
				s.Resident = func(b backend.Backend, _ gpu.Device) bool { return b.(*bench).fake.Resident() != "" }
			}
			backendtest.Exercise(t, func(t *testing.T) backend.Backend {
				return newBench(t, fakesdapi.Config{Flavour: flavour, Models: []string{"model", "other"}, Step: 10 * time.Millisecond}, quick())
			}, s)
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
	backend.Unloader
	backend.Loader
	Run(context.Context) error
	Device() (gpu.Device, bool)
	Problem() error
	Models() []backend.Model
	Status() wire.Generator
	Owns(pid int) bool
} = (*Generator)(nil)
