package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"muster/agent"
	"muster/agent/backend/backendtest"
	"muster/agent/feed"
	"muster/agent/images"
	"muster/agent/models"
	"muster/agent/queue"
	"muster/agent/server"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// rig is a running agent's server and queue, with two devices on which nothing runs unless the test makes it.
type rig struct {
	t      *testing.T
	data   string
	queue  *queue.Queue
	images *images.Store

	models  string // the folder
	library *models.Library
}

const rigToken = "0123456789abcdef0123"

func newRig(t *testing.T, modelNames ...string) *rig {
	t.Helper()
	r := &rig{t: t, data: t.TempDir()}
	capacity := wire.Capacity{
		DefaultModel: "sketch", Models: []wire.Model{{Name: "sketch"}},
		Slots: []wire.Slot{{Device: 0, Models: []string{"sketch"}, Loaded: "sketch"}, {Device: 1, Models: []string{"sketch"}}},
	}
	events := feed.New()
	var err error
	if r.queue, err = queue.Open(t.Context(), t.TempDir(), queue.Options{Publish: events.Jobs}); err != nil {
		t.Fatal(err)
	}
	if r.images, err = images.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.openModels(modelNames)
	// The second has room for nothing.
	inventory := &gpu.Inventory{Devices: []gpu.Device{{ID: "GPU-a", Index: 0, Name: "MI25", MemoryBytes: ptr(uint64(2 << 30))}, {ID: "GPU-b", Index: 1, Name: "V620", MemoryBytes: ptr(uint64(1 << 30))}}}
	edge, err := server.New(server.Config{
		Addr: listener.Addr().String(), Token: rigToken, Queue: r.queue, Images: r.images, Feed: events, Library: r.library, LoadModel: loaded, Interval: time.Second,
		Inventory: func() *gpu.Inventory { return inventory }, Snapshot: func() *gpu.Snapshot { return &gpu.Snapshot{} },
		History: func(time.Duration, int) wire.History { return wire.History{} }, Temperatures: func(gpu.Ref) []server.TemperaturePoint { return nil },
		Capacity: func() wire.Capacity { return capacity },
		Steering: r.queue.Steering, SteerPool: r.queue.SteerPool,
		Steer: func(ctx context.Context, ref gpu.Ref, c pool.Control) (pool.Control, error) {
			if ref == gpu.CPU {
				return r.queue.Steer(ctx, "cpu", c)
			}
			return r.queue.Steer(ctx, inventory.Devices[ref].ID, c)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = r.queue.Run(ctx) })
	running.Go(func() { _ = edge.Serve(ctx, listener) })
	running.Go(func() { _ = r.library.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	for name, content := range map[string]string{"token": rigToken, "address": listener.Addr().String()} {
		if err := os.WriteFile(filepath.Join(r.data, name), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// openModels opens a library of a folder with these models.
func (r *rig) openModels(names []string) {
	r.t.Helper()
	r.models = r.t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(r.models, name+".safetensors"), backendtest.TinyModel(), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	var err error
	if r.library, err = models.Open(models.Config{Dir: r.models, State: filepath.Join(r.t.TempDir(), "models.json")}); err != nil {
		r.t.Fatal(err)
	}
}

// run gives what a command line prints.
func (r *rig) run(args ...string) (out string, err error) {
	r.t.Helper()
	cmd := command()
	var text bytes.Buffer
	cmd.SetArgs(append(args, "--data", r.data))
	cmd.SetOut(&text)
	cmd.SetErr(&text)
	err = cmd.ExecuteContext(r.t.Context())
	return text.String(), err
}

// submit queues a set of that many images.
func (r *rig) submit(count int) []job.Job {
	r.t.Helper()
	spec := job.Spec{Prompt: "../../a fox", Model: "sketch", Count: count}.WithDefaults()
	jobs, _, err := r.queue.Submit(r.t.Context(), "", spec, spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return jobs
}

// start lets a queued job run on device 0.
func (r *rig) start(j job.Job) job.Job {
	r.t.Helper()
	j, err := r.queue.Start(r.t.Context(), j.ID, j.Attempt, queue.Placement{DeviceKey: "GPU-a", Backend: "test", Reason: "it is the fastest"})
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

// finish makes a queued job's image, of which no two are alike.
func (r *rig) finish(j job.Job) job.Job {
	r.t.Helper()
	j = r.start(j)
	picture := image.NewGray(image.Rect(0, 0, 8, 8))
	copy(picture.Pix, j.ID[len(j.ID)-20:])
	var raw bytes.Buffer
	if err := png.Encode(&raw, picture); err != nil {
		r.t.Fatal(err)
	}
	id, err := r.images.Put(r.t.Context(), raw.Bytes())
	if err != nil {
		r.t.Fatal(err)
	}
	if j, err = r.queue.Succeed(r.t.Context(), j.ID, j.Attempt, id); err != nil {
		r.t.Fatal(fmt.Errorf("finish: %w", err))
	}
	return j
}

// configOf is the configuration of a command that finds the rig by its data folder.
func configOf(r *rig) agent.Config {
	config := agent.Default()
	config.Data = r.data
	return config
}
