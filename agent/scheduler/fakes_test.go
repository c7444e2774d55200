package scheduler_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/sdserver"
	"muster/agent/images"
	"muster/agent/queue"
	"muster/agent/scheduler"
	"muster/shared/gpu"
	"muster/shared/job"
)

// The goal of BENCHMARKS.md 1 for predictions, and what they need to have seen before.
const (
	largestMedianError = 0.2
	imagesPerDevice    = 5
)

// promises keeps, of every image, when it was first expected to be done.
type promises struct {
	mu    sync.Mutex
	first map[string]time.Time
}

func (p *promises) publish(jobs []job.Job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range jobs {
		if _, known := p.first[jobs[i].ID]; !known && jobs[i].Expected != nil {
			p.first[jobs[i].ID] = jobs[i].Expected.At
		}
	}
}

func (p *promises) of(id string) (at time.Time, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, known = p.first[id]
	return at, known
}

// fakes is the real scheduler, queue, store and sd-server backend; only the sd-server is a fake one, on devices of different speed.
type fakes struct {
	jobs     *queue.Queue
	devices  []gpu.Device
	promises promises
}

// startFakes runs everything until the test ends. An image takes about 0.4 s on the fastest device and three times as long on the slowest.
func startFakes(t *testing.T) *fakes {
	t.Helper()
	settings := backendtest.Settings{Devices: backendtest.MI25x8().Devices[:3]}
	for i := range settings.Devices {
		settings.Devices[i].Slower = float64(i + 1)
	}
	program, dir := backendtest.BuildFakeSDServer(t, settings), t.TempDir()
	model := backendtest.WriteModel(t, dir, "model", backendtest.Scenario{LoadMilliseconds: 400, StepMilliseconds: 40, DecodeMilliseconds: 60})
	fleet, err := sdserver.New(sdserver.Config{Program: program, Dir: filepath.Join(dir, "run"), Models: func() []backend.Model { return []backend.Model{{Name: "model", Path: model}} }})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakes{devices: backendtest.Devices(settings, gpu.AMD), promises: promises{first: map[string]time.Time{}}}
	store, err := images.Open(filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	var spread *scheduler.Scheduler
	if f.jobs, err = queue.Open(t.Context(), filepath.Join(dir, "data"), queue.Options{Publish: func(jobs []job.Job) {
		f.promises.publish(jobs)
		spread.Wake()
	}}); err != nil {
		t.Fatal(err)
	}
	inventory, snapshot := f.telemetry()
	spread = scheduler.New(scheduler.Config{
		Queue: f.jobs, Images: store, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Inventory: func() *gpu.Inventory { return inventory }, Snapshot: snapshot,
		Slots: func(inventory gpu.Inventory) (slots []scheduler.Slot) {
			for _, d := range inventory.Devices {
				slots = append(slots, scheduler.Slot{Device: d, Backend: fleet.Backend(), Models: fleet.Models(), Owns: fleet.Owns})
			}
			return slots
		},
	})
	for _, run := range []func(context.Context) error{f.jobs.Run, fleet.Run, spread.Run} { // the last ends first
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	return f
}

// telemetry gives the devices, with more memory than anything needs, and a snapshot that is always new.
func (f *fakes) telemetry() (*gpu.Inventory, func() *gpu.Snapshot) {
	total, used := uint64(16)<<30, uint64(0)
	var readings []gpu.Reading
	for i := range f.devices {
		f.devices[i].MemoryBytes = &total
		readings = append(readings, gpu.Reading{Index: gpu.Ref(i), State: gpu.StateOK, MemoryTotalBytes: &total, MemoryUsedBytes: &used})
	}
	var seq atomic.Uint64
	return &gpu.Inventory{Revision: 1, Devices: f.devices}, func() *gpu.Snapshot {
		return &gpu.Snapshot{Seq: seq.Add(1), Revision: 1, GPUs: readings}
	}
}

func (f *fakes) submit(t *testing.T, count int) []job.Job {
	t.Helper()
	seed := int64(1)
	spec := job.Spec{Prompt: "a lighthouse", Model: "model", Count: count, Steps: 8, Width: 64, Height: 64, Seed: &seed}.WithDefaults()
	jobs, _, err := f.jobs.Submit(t.Context(), "", spec, spec)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func (f *fakes) wait(t *testing.T, j job.Job) job.Job {
	t.Helper()
	done, err := f.jobs.Wait(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if done.State != job.Succeeded {
		t.Fatalf("%s on %v: %s", done.State, done.DeviceID, done.Error)
	}
	return done
}

// warm makes images until every device has made enough.
func (f *fakes) warm(t *testing.T) {
	t.Helper()
	made := map[gpu.Ref]int{}
	for range 5 {
		for _, j := range f.submit(t, 30) {
			made[*f.wait(t, j).DeviceID]++
		}
		if len(made) == len(f.devices) && !slices.ContainsFunc(f.devices, func(d gpu.Device) bool { return made[d.Index] < imagesPerDevice }) {
			return
		}
	}
	t.Fatalf("images by device: %v; want %d on each of %d", made, imagesPerDevice, len(f.devices))
}

// round submits sets, each when the first image of the last one is done, and gives all images once they are.
func (f *fakes) round(t *testing.T) (done []job.Job) {
	t.Helper()
	var all []job.Job
	for _, count := range []int{4, 6, 2, 5, 3, 6, 1, 5} {
		jobs := f.submit(t, count)
		all = append(all, jobs...)
		f.wait(t, jobs[0])
	}
	for _, j := range all {
		done = append(done, f.wait(t, j))
	}
	return done
}

// errors are by how much, as a share of what it took since the submission, the first promises were off.
func (f *fakes) errors(t *testing.T, done []job.Job) (off []float64) {
	t.Helper()
	for _, j := range done {
		at, known := f.promises.of(j.ID)
		if !known {
			continue
		}
		off = append(off, math.Abs(j.Finished.Sub(at).Seconds())/j.Finished.Sub(j.Created).Seconds())
	}
	if len(off) < len(done)*9/10 {
		t.Errorf("only %d of %d images were ever expected at some time", len(off), len(done))
	}
	return off
}

// unrest is how much images on the same device differ in what they took: half of them by more than this share. That is the machine's
// doing, for the fakes always sleep the same; nobody can predict better.
func unrest(done []job.Job) float64 {
	took := map[gpu.Ref][]float64{}
	for _, j := range done {
		took[*j.DeviceID] = append(took[*j.DeviceID], j.Finished.Sub(*j.Started).Seconds())
	}
	var off []float64
	for _, times := range took {
		usual := median(times)
		for _, v := range times {
			off = append(off, math.Abs(v-usual)/usual)
		}
	}
	return median(off)
}

func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// After five images a device, half of all images are done within 20 % of what was said when they were submitted. A round is measured
// again only when the machine's own unrest, as when it is busy with other tests, explains what it was off.
func TestImagesAreDoneWhenTheyWereExpected(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	f.warm(t)
	var seen []string
	for range 4 {
		done := f.round(t)
		off, restless := median(f.errors(t, done)), unrest(done)
		seen = append(seen, fmt.Sprintf("median error %.0f %% while equal images differed by %.0f %%", 100*off, 100*restless))
		switch {
		case off <= largestMedianError:
			t.Log(seen)
			return
		case off > largestMedianError+3*restless:
			t.Fatalf("want a median error of at most %.0f %%: %q", 100*largestMedianError, seen)
		}
	}
	t.Skipf("this machine is too busy to tell: %q", seen)
}
