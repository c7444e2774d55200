package scheduler_test

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/builtin"
	"muster/agent/images"
	"muster/agent/queue"
	"muster/agent/scheduler"
	"muster/shared/gpu"
	"muster/shared/job"
)

// machine is a scheduler with the real queue, the real image store and the real built-in renderer on simulated devices.
type machine struct {
	jobs   *queue.Queue
	store  *images.Store
	spread *scheduler.Scheduler
	log    lines
	stop   func()
}

func (m *machine) submit(t *testing.T, spec job.Spec) []job.Job {
	t.Helper()
	jobs, _, err := m.jobs.Submit(t.Context(), "", spec, spec)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// lines collects what was logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, dir string, devices int, generator backend.Backend) *machine {
	t.Helper()
	m := &machine{}
	var err error
	if m.store, err = images.Open(filepath.Join(dir, "images")); err != nil {
		t.Fatal(err)
	}
	wake := make(chan struct{}, 1)
	if m.jobs, err = queue.Open(t.Context(), dir, queue.Options{Publish: func([]job.Job) {
		select {
		case wake <- struct{}{}:
		default:
		}
	}}); err != nil {
		t.Fatal(err)
	}
	inventory := &gpu.Inventory{Revision: 1}
	snapshot := &gpu.Snapshot{Seq: 1, Revision: 1}
	for i := range devices {
		total, used := uint64(16)<<30, uint64(1)<<30
		inventory.Devices = append(inventory.Devices, gpu.Device{ID: fmt.Sprintf("sim-%d", i), Index: gpu.Ref(i), Simulated: true, MemoryBytes: &total})
		snapshot.GPUs = append(snapshot.GPUs, gpu.Reading{Index: gpu.Ref(i), State: gpu.StateOK, MemoryTotalBytes: &total, MemoryUsedBytes: &used})
	}
	m.spread = scheduler.New(scheduler.Config{
		Queue: m.jobs, Images: m.store, Log: slog.New(slog.NewTextHandler(&m.log, nil)),
		Inventory: func() *gpu.Inventory { return inventory }, Snapshot: func() *gpu.Snapshot { return snapshot },
		Slots: func(inventory gpu.Inventory) (slots []scheduler.Slot) {
			for _, d := range inventory.Devices {
				slots = append(slots, scheduler.Slot{Device: d, Backend: generator, Models: []backend.Model{builtin.Model()}})
			}
			return slots
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	queueCtx, cancelQueue := context.WithCancel(context.Background())
	ended, queueEnded := make(chan error, 1), make(chan error, 1)
	go func() { queueEnded <- m.jobs.Run(queueCtx) }()
	go func() { ended <- m.spread.Run(ctx) }()
	go func() {
		for {
			select {
			case <-wake:
				m.spread.Wake()
			case <-ctx.Done():
				return
			}
		}
	}()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("scheduler: %v", err)
		}
		cancelQueue()
		if err := <-queueEnded; err != nil {
			t.Errorf("queue: %v", err)
		}
	})
	t.Cleanup(m.stop)
	return m
}

func command(prompt string, count, steps int) job.Spec {
	seed := int64(40)
	return job.Spec{Prompt: prompt, Model: builtin.ModelName, Count: count, Steps: steps, Width: 64, Height: 64, Seed: &seed}.WithDefaults()
}

func TestImagesReachTheDiskThroughTheRealQueue(t *testing.T) {
	t.Parallel()
	m := start(t, t.TempDir(), 3, builtin.New(builtin.Config{}))
	jobs := m.submit(t, command("a secretword portrait", 6, 3))
	seen := map[string]bool{}
	for _, j := range jobs {
		done, err := m.jobs.Wait(t.Context(), j.ID)
		if err != nil {
			t.Fatal(err)
		}
		if done.State != job.Succeeded || done.Attempt != 1 || !done.Simulated || done.Reason == "" {
			t.Fatalf("%+v", done)
		}
		file, err := m.store.Open(done.ImageID)
		if err != nil {
			t.Fatal(err)
		}
		if config, err := png.DecodeConfig(file); err != nil || config.Width != 64 {
			t.Errorf("%+v, %v", config, err)
		}
		file.Close()
		seen[done.ImageID] = true
	}
	if len(seen) != 6 {
		t.Errorf("6 seeds gave %d different images", len(seen))
	}
	m.stop()
	text := m.log.String()
	if n := strings.Count(text, "image started"); n != 6 {
		t.Errorf("%d log lines for 6 started images", n)
	}
	if strings.Contains(text, "secretword") {
		t.Errorf("the log repeats a prompt: %s", text)
	}
}

// gate is a generator that waits until it is opened.
type gate struct {
	backend.Backend
	entered chan string
	open    chan struct{}
}

func (g gate) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	g.entered <- req.JobID
	select {
	case <-g.open:
		return g.Backend.Generate(ctx, dev, req, report)
	case <-ctx.Done():
		return backend.Image{}, context.Cause(ctx)
	}
}

func TestRunningJobsSurviveARestartWithoutAFailure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sketch := builtin.New(builtin.Config{})
	shut := gate{sketch, make(chan string, 9), make(chan struct{})}
	m := start(t, dir, 2, shut)
	jobs := m.submit(t, command("portrait", 3, 2))
	<-shut.entered
	<-shut.entered
	m.stop()

	m = start(t, dir, 2, sketch)
	for i, j := range jobs {
		done, err := m.jobs.Wait(t.Context(), j.ID)
		if err != nil {
			t.Fatal(err)
		}
		if done.State != job.Succeeded || done.Failures != 0 || done.Seed != 40+int64(i) {
			t.Errorf("%+v", done)
		}
	}
}

func TestCancelThroughTheRealQueue(t *testing.T) {
	t.Parallel()
	shut := gate{builtin.New(builtin.Config{}), make(chan string, 9), make(chan struct{})}
	m := start(t, t.TempDir(), 1, shut)
	jobs := m.submit(t, command("portrait", 2, 2))
	first := <-shut.entered
	if _, err := m.jobs.Cancel(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := <-shut.entered // the slot is free again
	close(shut.open)
	for _, j := range jobs {
		done, err := m.jobs.Wait(t.Context(), j.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]job.State{first: job.Cancelled, second: job.Succeeded}[j.ID]
		if done.State != want {
			t.Errorf("%s is %s: want %s", j.ID, done.State, want)
		}
	}
}
