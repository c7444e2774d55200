package sdserver

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/job"
)

// quick are limits for a fake that works in milliseconds, wide enough for a loaded machine.
func quick() limits {
	l := defaultLimits()
	l.probe, l.answer, l.poll, l.grace = 30*time.Second, 20*time.Second, 20*time.Millisecond, 20*time.Second
	l.backoff = process.Backoff{First: time.Millisecond, Longest: time.Millisecond}
	l.breaker.Failures = 100
	return l
}

// bench is a running fleet with a fake program.
type bench struct {
	*Fleet
	program string
	devices []gpu.Device
	dir     string // of the models
}

type setup struct {
	settings backendtest.Settings
	vendor   gpu.Vendor
	limits   limits
	backend  string                          // --sd-backend
	models   map[string]backendtest.Scenario // "model" when there are none
}

func newBench(t *testing.T, s setup) *bench {
	t.Helper()
	if s.settings.Devices == nil {
		s.settings.Devices = backendtest.MI25x8().Devices
	}
	if s.vendor == "" {
		s.vendor = gpu.AMD
	}
	if s.limits.probe == 0 {
		s.limits = quick()
	}
	if s.models == nil {
		s.models = map[string]backendtest.Scenario{"model": {}}
	}
	b := &bench{program: backendtest.BuildFakeSDServer(t, s.settings), devices: backendtest.Devices(s.settings, s.vendor), dir: t.TempDir()}
	var models []backend.Model
	for name, scenario := range s.models {
		models = append(models, backend.Model{Name: name, Path: backendtest.WriteModel(t, b.dir, name, scenario)})
	}
	var err error
	b.Fleet, err = newFleet(Config{Program: b.program, Dir: t.TempDir(), Models: only(models...), BackendName: s.backend, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, s.limits)
	if err != nil {
		t.Fatal(err)
	}
	b.run(t)
	return b
}

// run runs the fleet until the test ends, and checks that no child is left then.
func (b *bench) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, start := range backendtest.Serving(t, b.program) {
			if running(start.PID) {
				t.Errorf("sd-server %d outlived its fleet", start.PID)
			}
		}
	})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	settings := backendtest.MI25x8()
	settings.Devices = settings.Devices[:3]
	backendtest.Exercise(t, func(t *testing.T) backend.Backend {
		return newBench(t, setup{settings: settings, models: map[string]backendtest.Scenario{"model": {StepMilliseconds: 10}}}).Backend()
	}, backendtest.Subject{Devices: backendtest.Devices(settings, gpu.AMD), Model: "model", Resident: resident(t),
		Models: func(b backend.Backend) []backend.Model { return b.(*generator).fleet.Models() }})
}

// resident says whether a child lives on the device, by the journal of its program.
func resident(t *testing.T) func(backend.Backend, gpu.Device) bool {
	return func(b backend.Backend, dev gpu.Device) bool {
		return slices.ContainsFunc(backendtest.Serving(t, b.(*generator).fleet.cfg.Program), func(start backendtest.Start) bool {
			return start.Device == dev.ID && running(start.PID)
		})
	}
}

func (b *bench) request(model string) backend.Request {
	return backend.Request{JobID: "01JTEST", Attempt: 1, Prompt: secret, Model: model, Seed: 1, Width: 64, Height: 64, Steps: 5, Guidance: 7}
}

// secret is a prompt that must not be found anywhere.
const secret = "an unmistakable walrus"

// make makes an image with the model on the first device.
func (b *bench) make(t *testing.T, model string) error {
	t.Helper()
	return b.makeAs(t, b.request(model), nil)
}

func (b *bench) makeAs(t *testing.T, req backend.Request, report func(job.Progress)) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	image, err := b.Backend().Generate(ctx, b.devices[0], req, report)
	if err == nil && len(image.PNG) == 0 {
		t.Error("neither an image nor an error")
	}
	return err
}

// starts counts the children that were started.
func (b *bench) starts(t *testing.T) int {
	t.Helper()
	return len(backendtest.Serving(t, b.program))
}

// only lists models that do not change.
func only(models ...backend.Model) func() []backend.Model {
	return func() []backend.Model { return models }
}
