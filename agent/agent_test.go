package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/models"
	"muster/agent/queue"
	"muster/agent/scheduler"
	"muster/shared/gpu"
	"muster/shared/job"
)

// nothing is the end of a context at once, for queues that only have to be closed.
func nothing() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testConfig(t *testing.T) Config {
	config := Default()
	config.Listen, config.Data = "127.0.0.1:0", t.TempDir()
	return config
}

// What a crash left running is told to the feed even when the agent comes to nothing.
func TestAgentThatCanNotStartSaysWhy(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	jobs, err := queue.Open(t.Context(), config.Data, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- jobs.Run(ctx) }()
	guidance := 7.0
	spec := job.Spec{Prompt: "x", Model: "m", Width: 64, Height: 64, Steps: 1, Count: 1, Guidance: &guidance}
	accepted, _, err := jobs.Submit(t.Context(), "", spec, spec)
	if err == nil {
		_, err = jobs.Start(t.Context(), accepted[0].ID, 0, queue.Placement{Device: gpu.CPU})
	}
	cancel()
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config.Data, "images"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), config, Hardware{}, nil, "test", io.Discard, quiet())
	if err == nil || !strings.Contains(err.Error(), "image folder") {
		t.Errorf("error %v: want one about the image folder", err)
	}
}

// waiter generates nothing: it waits for the end of its context, and then a while for the end of the generators.
type waiter struct {
	begun, generatorsEnd chan struct{}
	deserted             chan bool
}

func (w *waiter) Name() string { return "waiter" }

func (w *waiter) Generate(ctx context.Context, _ gpu.Device, _ backend.Request, _ func(job.Progress)) (backend.Image, error) {
	close(w.begun)
	<-ctx.Done()
	select {
	case <-w.generatorsEnd:
		w.deserted <- true
	case <-time.After(200 * time.Millisecond):
		w.deserted <- false
	}
	return backend.Image{}, context.Cause(ctx)
}

// A generator that ends under an image looks like one that died, and three deaths fail a job: the agent's own end must not count.
func TestGeneratorsOutliveTheirImages(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	w := &waiter{begun: make(chan struct{}), generatorsEnd: make(chan struct{}), deserted: make(chan bool, 1)}
	hardware := Hardware{
		Slots: func(gpu.Inventory) []scheduler.Slot {
			return []scheduler.Slot{{Device: backend.CPU(), Backend: w, Models: []backend.Model{{Name: "m"}}}}
		},
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			close(w.generatorsEnd)
			return nil
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, config, hardware, nil, "test", out, quiet()) }()
	if _, err := started.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, started) }()
	submit(t, config, `{"prompt":"x","model":"m"}`)
	<-w.begun
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if <-w.deserted {
		t.Error("the generators ended before the image that was being made")
	}
	jobs, err := queue.Open(t.Context(), config.Data, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = jobs.Run(nothing()) }()
	if active := jobs.Active(); len(active) != 1 || active[0].Failures != 0 || active[0].State != job.Queued {
		t.Errorf("after the stop there are %+v", active)
	}
}

// submit waits until the model is known: the devices are looked for after the link was printed.
func submit(t *testing.T, config Config, spec string) {
	t.Helper()
	address, err := Address(config)
	token, tokenErr := Token(config, false)
	if err := errors.Join(err, tokenErr); err != nil {
		t.Fatal(err)
	}
	for t.Context().Err() == nil {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/api/v1/jobs", strings.NewReader(spec))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusAccepted {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

// The library is opened with the agent: generators are told where its models stand, and a model that comes wakes the scheduler.
func TestLibraryOfTheAgent(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	usable := make(chan func() []models.Model, 1)
	hardware := Hardware{
		Models: func(list func() []models.Model, _ func(string) bool) { usable <- list },
		Slots: func(gpu.Inventory) []scheduler.Slot {
			return []scheduler.Slot{{Device: backend.CPU(), Backend: &waiter{}, Models: []backend.Model{{Name: "m"}}}}
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, config, hardware, nil, "test", out, quiet()) }()
	if _, err := started.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, started) }()
	list := <-usable
	if got := list(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(filepath.Join(config.Data, "models")); err != nil || !info.IsDir() {
		t.Errorf("the models folder was not made: %v", err)
	}
	if err := os.WriteFile(filepath.Join(config.Data, "models", "tiny.safetensors"), backendtest.TinyModel(), 0o600); err != nil {
		t.Fatal(err)
	}
	for ticker := time.NewTicker(20 * time.Millisecond); len(list()) == 0; { // the folder is looked at every few seconds
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatal("the model is not seen")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
