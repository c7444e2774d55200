package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/pool"
	"muster/shared/wire"
)

// loader is a backend that loads when it is asked to.
type loader struct {
	*unloader
	loads atomic.Int32
	fault atomic.Pointer[error]
}

func (l *loader) Load(ctx context.Context, _ gpu.Device, _ string) error {
	l.loads.Add(1)
	select {
	case <-time.After(20 * time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := l.fault.Load(); err != nil {
		return *err
	}
	return nil
}

func newLoadingRig(t *testing.T, n int) (*rig, *loader) {
	r, holder := newSteeredRig(t, n)
	l := &loader{unloader: holder}
	slots := r.config.Slots
	r.config.Slots = func(inventory gpu.Inventory) []Slot {
		all := slots(inventory)
		for i := range all {
			all[i].Backend = l
		}
		return all
	}
	return r, l
}

// load asks for a model on a device and gives the channel of the answer.
func (r *rig) load(ctx context.Context, model string, device int) <-chan error {
	answer := make(chan error, 1)
	go func() { answer <- r.Load(ctx, model, r.inventory.Load().Devices[device]) }()
	synctest.Wait()
	return answer
}

func TestModelIsLoadedBeforeItIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, l := newLoadingRig(t, 2)
		r.run()
		answer := r.load(t.Context(), "sdxl", 0)
		pass(time.Second)
		if slot := r.Capacity().Slots[0]; slot.Loaded != "sdxl" || !strings.Contains(slot.Problem, "loads sdxl") {
			t.Errorf("while it loads: %+v", slot)
		}
		ids := r.jobs.add(2)
		pass(time.Second)
		if j := r.jobs.get(ids[0]); j.State != job.Running || *j.DeviceID != 1 {
			t.Errorf("the image went to the device that loads: %+v", j)
		}
		pass(20 * time.Second)
		if err := <-answer; err != nil || l.loads.Load() != 1 {
			t.Errorf("%v, %d loads", err, l.loads.Load())
		}
		if slot := r.Capacity().Slots[0]; slot.Loaded != "sdxl" || slot.Problem != "" {
			t.Errorf("afterwards: %+v", slot)
		}
		pass(time.Minute)
		for _, id := range ids {
			r.expect(id, job.Succeeded)
		}
		r.end()
	})
}

// A device that works is waited for, and what was asked for is loaded before the next image.
func TestLoadWaitsForTheDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, l := newLoadingRig(t, 1)
		r.models = append(r.models, backend.Model{Name: "sd15", VRAMBytes: 4 << 30})
		r.run()
		r.jobs.add(3)
		pass(time.Second)
		answer := r.load(t.Context(), "sd15", 0)
		if l.loads.Load() != 0 {
			t.Error("it loads during an image")
		}
		pass(35 * time.Second)
		select {
		case err := <-answer:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("it was not loaded after the image")
		}
		r.end()
	})
}

func TestLoadThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		model  string
		change func(*rig, *loader)
		words  string
	}{
		{"a model that is not there", "nothing", func(*rig, *loader) {}, "no generator for the model"},
		{"a device that is paused", "sdxl", func(r *rig, _ *loader) { r.steer(0, pool.Control{Mode: pool.Paused}) }, "is paused"},
		{"a device without room", "sdxl", func(r *rig, _ *loader) {
			r.measure(func(_ int, reading *gpu.Reading) { reading.MemoryUsedBytes = new(uint64(20 << 30)) })
		}, "has room for 4.0 GiB, sdxl needs about 9.0 GiB"},
		{"a device that is lost", "sdxl", func(r *rig, _ *loader) {
			r.measure(func(_ int, reading *gpu.Reading) { reading.State = gpu.StateLost })
		}, "was lost"},
		{"a generator that fails", "sdxl", func(_ *rig, l *loader) {
			l.fault.Store(new(fmt.Errorf("it died: %w", backend.ErrUnavailable)))
		}, "it died"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, l := newLoadingRig(t, 1)
				r.run()
				tt.change(r, l)
				pass(2 * time.Second)
				answer := r.load(t.Context(), tt.model, 0)
				pass(30 * time.Second)
				if err := <-answer; err == nil || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("got %v; want %q", err, tt.words)
				}
				if loaded := r.Capacity().Slots[0].Loaded; loaded != "" {
					t.Errorf("%s is said to be loaded", loaded)
				}
				r.end()
			})
		})
	}
}

// What failed is told to whoever looks later, with what to do, until the model is there, is asked for anew, or a day has passed.
func TestFailedLoadsAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, l := newLoadingRig(t, 2)
		r.run()
		loads := func() (states []string) {
			for _, load := range r.Capacity().Loads {
				states = append(states, fmt.Sprintf("%s on %s %s", load.Model, load.Device, load.State))
			}
			return states
		}
		expect := func(when string, want ...string) {
			t.Helper()
			if got := loads(); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		r.jobs.add(2)
		pass(time.Second)
		l.fault.Store(new(fmt.Errorf("it died: %w", backend.ErrUnavailable)))
		first := r.load(t.Context(), "sdxl", 1)
		pass(time.Second)
		expect("behind an image", "sdxl on 1 waiting")
		if words := r.Capacity().Loads[0].Words; words != "waits for the image that is being made there" {
			t.Errorf("it %s", words)
		}
		pass(15 * time.Second)
		expect("under way", "sdxl on 1 loading")
		pass(30 * time.Second)
		if err := <-first; err == nil {
			t.Fatal("it did not fail")
		}
		expect("failed", "sdxl on 1 failed")
		if words := r.Capacity().Loads[0].Words; !strings.Contains(words, "it died") || !strings.Contains(words, "load it again") {
			t.Errorf("it failed because %s", words)
		}
		pass(time.Hour)
		expect("an hour later", "sdxl on 1 failed")
		again := r.load(t.Context(), "sdxl", 1)
		pass(time.Second)
		expect("asked for again", "sdxl on 1 loading")
		l.fault.Store(nil)
		pass(30 * time.Second)
		if err := <-again; err != nil {
			t.Error(err)
		}
		expect("loaded")
		if err := <-r.load(t.Context(), "nothing", 0); err == nil {
			t.Error("a model that is not there was loaded")
		}
		pass(time.Second)
		expect("refused at once", "nothing on 0 failed")
		pass(failedLoadKept)
		expect("a day later")
		l.fault.Store(new(fmt.Errorf("full: %w", backend.ErrOutOfMemory)))
		late := r.load(t.Context(), "sdxl", 0)
		pass(time.Minute)
		if err := <-late; err == nil {
			t.Error("it did not fail")
		}
		expect("without memory", "sdxl on 0 failed")
		if words := r.Capacity().Loads[0].Words; !strings.Contains(words, "choose another device") {
			t.Errorf("it failed because %s", words)
		}
		r.jobs.add(2)
		pass(5 * time.Minute)
		expect("an image has loaded it")
		r.end()
	})
}

// A device that never comes free fails what waits for it, once nobody waits any longer; one who goes before is no failure.
func TestLoadThatWaitsTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, l := newLoadingRig(t, 1)
		r.run()
		r.jobs.add(1)
		pass(time.Second)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		gone, leave := context.WithCancel(t.Context())
		waits, left := r.load(short, "sdxl", 0), r.load(gone, "sdxl", 0)
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := <-waits; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		pass(2 * time.Second)
		got := r.Capacity().Loads
		if len(got) != 1 || got[0].State != model.LoadFailed || !strings.Contains(got[0].Words, "not free in time: it waits for the image") || l.loads.Load() != 0 {
			t.Errorf("%+v", got)
		}
		r.end()
	})
}

func TestLoadsAreBounded(t *testing.T) {
	t.Parallel()
	c := NewCore(Predicted)
	wishes := make([]*wish, maxWishes+1)
	for i := range wishes {
		wishes[i] = &wish{model: fmt.Sprint(i), done: make(chan error, 1), gone: t.Context().Done(), why: t.Context().Err}
		c.Want(wishes[i])
	}
	if err := <-wishes[maxWishes].done; err == nil || !strings.Contains(err.Error(), "64 models wait") || len(c.wishes) != maxWishes {
		t.Errorf("%v, %d wait", err, len(c.wishes))
	}
	for i := range 2 * maxFailedLoads {
		c.noteLoad(&wish{model: fmt.Sprint(i)}, errors.New(strings.Repeat("ä", maxFailureBytes)), time.Now())
	}
	if n, last := len(c.failedLoads), c.failedLoads[maxFailedLoads-1]; n != maxFailedLoads || last.model != fmt.Sprint(2*maxFailedLoads-1) || len(last.why) > maxFailureBytes+4 || !strings.HasSuffix(last.why, "ä…") {
		t.Errorf("%d are kept, the last %+v", n, last)
	}
}

func TestLoadByABackendThatCannot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.run()
		if err := <-r.load(t.Context(), "sdxl", 0); err == nil || !strings.Contains(err.Error(), "with its first image only") {
			t.Errorf("got %v", err)
		}
		r.end()
	})
}

func TestLoadThatNobodyWaitsForAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, l := newLoadingRig(t, 1)
		r.run()
		r.jobs.add(1)
		pass(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		answer := r.load(ctx, "sdxl", 0)
		cancel()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		pass(time.Minute)
		if l.loads.Load() != 0 {
			t.Error("it was loaded all the same")
		}
		r.end()
	})
}

// While a generator is away its models are not known: what waits for one is not refused, and is told why it waits.
func TestImagesWaitForAGeneratorThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		var there atomic.Bool
		slots := r.config.Slots
		r.config.Slots = func(inventory gpu.Inventory) []Slot {
			if !there.Load() {
				return nil
			}
			return slots(inventory)
		}
		r.config.Generators = func() []wire.Generator {
			if there.Load() {
				return []wire.Generator{{ID: "comfyui x", State: wire.GeneratorReady}}
			}
			return []wire.Generator{{ID: "comfyui x", State: wire.GeneratorUnreachable, Problem: "ComfyUI at x does not answer"}}
		}
		r.run()
		ids := r.jobs.add(1)
		pass(time.Hour)
		if j := r.expect(ids[0], job.Queued); !strings.Contains(j.Reason, "ComfyUI at x does not answer") {
			t.Errorf("it waits because %q", j.Reason)
		}
		if g := r.Capacity().Generators; len(g) != 1 || g[0].State != wire.GeneratorUnreachable {
			t.Errorf("%+v", g)
		}
		there.Store(true)
		pass(time.Minute)
		r.expect(ids[0], job.Succeeded)
		gone := r.jobs.add(1, func(j *job.Job) { j.Model = "nothing" })
		pass(missingAfter + time.Minute)
		r.expect(gone[0], job.Failed)
		r.end()
	})
}

// What a generator without a slot had is offered while it is away, and waited for; when it is back without it, that is said.
func TestModelsOfAGeneratorThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		var there atomic.Bool
		r.config.Generators = func() []wire.Generator {
			list := []wire.Generator{{ID: "sdapi y", State: wire.GeneratorUnreachable, Problem: "A1111 at y is not there"},
				{ID: "comfyui x", State: wire.GeneratorUnreachable, Problem: "ComfyUI at x is not there"}}
			if there.Load() {
				list = nil
			}
			return list
		}
		r.config.Awaited = func() []Awaited {
			if there.Load() {
				return nil
			}
			return []Awaited{{"sdapi y", nil}, {"comfyui x", []backend.Model{{Name: "dreams", Title: "Dreams", Bytes: 7}, {Name: "sdxl"}}}}
		}
		r.run()
		ids := r.jobs.add(1, func(j *job.Job) { j.Model = "dreams" })
		pass(time.Hour)
		if j := r.expect(ids[0], job.Queued); !strings.Contains(j.Reason, "ComfyUI at x is not there") {
			t.Errorf("it waits because %q", j.Reason)
		}
		now := r.Capacity()
		if want := (wire.Model{Name: "dreams", Title: "Dreams", Bytes: 7, Grid: 1, Away: "comfyui x"}); !slices.Contains(now.Models, want) || len(now.Models) != 2 || now.Models[0].Away != "" {
			t.Errorf("offered are %+v", now.Models)
		}
		if now.DefaultModel != "sdxl" || slices.Contains(now.Slots[0].Models, "dreams") {
			t.Errorf("%+v", now)
		}
		there.Store(true)
		pass(missingAfter + time.Minute)
		if j := r.expect(ids[0], job.Failed); !strings.Contains(j.Error, "choose another") {
			t.Errorf("it failed because %q", j.Error)
		}
		r.end()
	})
}

func TestPreviewsAreHandedOnAndEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		var seen []string
		r.config.Preview = func(id string, p backend.Preview) { seen = append(seen, id+":"+string(p.Data)) }
		r.backend.generate = func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
			report(job.Progress{Step: 1, Steps: 2})
			req.Preview(backend.Preview{Data: []byte("one"), Type: "image/jpeg"})
			req.Preview(backend.Preview{Data: make([]byte, backend.MaxPreviewBytes+1), Type: "image/jpeg"})
			req.Preview(backend.Preview{Data: []byte("two"), Type: "image/jpeg"})
			if j := r.jobs.get(req.JobID); j.Progress.Preview != 2 || j.Progress.Step != 1 {
				t.Errorf("after two pictures: %+v", j.Progress)
			}
			report(job.Progress{Step: 2, Steps: 2})
			if j := r.jobs.get(req.JobID); j.Progress.Preview != 2 || j.Progress.Step != 2 {
				t.Errorf("after the last step: %+v", j.Progress)
			}
			return backend.Image{PNG: []byte("png")}, nil
		}
		r.run()
		id := r.jobs.add(1)[0]
		pass(time.Second)
		r.expect(id, job.Succeeded)
		if want := []string{id + ":one", id + ":two", id + ":"}; !slices.Equal(seen, want) {
			t.Errorf("got %q, want %q", seen, want)
		}
		r.end()
	})
}

// A backend that waits behind somebody else's image, and says so, is not taken for one that hangs.
func TestWaitingBehindSomebodyIsNoHang(t *testing.T) {
	t.Parallel()
	for _, tells := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 1, Predicted)
			r.backend.generate = func(ctx context.Context, _ gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
				for range 4 * 60 * 2 { // two hours
					select {
					case <-time.After(15 * time.Second):
					case <-ctx.Done():
						return backend.Image{}, context.Cause(ctx)
					}
					if tells {
						report(job.Progress{Steps: req.Steps})
					}
				}
				return backend.Image{PNG: []byte("png")}, nil
			}
			r.run()
			id := r.jobs.add(1)[0]
			pass(2*time.Hour + time.Minute)
			if j := r.jobs.get(id); tells != (j.State == job.Succeeded && j.Failures == 0) {
				t.Errorf("a backend that tells (%t): %s after %d failures: %s", tells, j.State, j.Failures, j.Error)
			}
			r.end()
		})
	}
}

// When a device passes to another generator, what the one before holds there is freed.
func TestAnotherGeneratorTakesADevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, holder := newSteeredRig(t, 1)
		var taken atomic.Bool
		slots := r.config.Slots
		second := &fakeBackend{name: "fake", generate: steady(always(1))}
		r.config.Slots = func(inventory gpu.Inventory) []Slot {
			all := slots(inventory)
			if taken.Load() {
				all[0].Backend, all[0].Generator = second, "attached"
			}
			return all
		}
		r.run()
		r.jobs.add(1)
		pass(20 * time.Second)
		taken.Store(true)
		pass(time.Minute)
		if n := holder.unloads.Load(); n != 1 {
			t.Errorf("the first generator was asked %d times to free the device", n)
		}
		id := r.jobs.add(1)[0]
		pass(10 * time.Second)
		r.expect(id, job.Succeeded)
		r.end()
	})
}

// A child that was ended because its image was given up holds nothing: whoever comes next has to load.
func TestGeneratorThatEndedHoldsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		var state atomic.Value
		state.Store(wire.GeneratorReady)
		r.config.Generators = func() []wire.Generator {
			return []wire.Generator{{ID: "fake 0", Kind: "fake", Device: new(gpu.Ref(0)), State: state.Load().(wire.GeneratorState)}}
		}
		r.run()
		id := r.jobs.add(1)[0]
		pass(20 * time.Second)
		r.expect(id, job.Succeeded)
		if loaded := r.Capacity().Slots[0].Loaded; loaded != "sdxl" {
			t.Errorf("after an image it holds %q", loaded)
		}
		state.Store(wire.GeneratorIdle)
		r.Wake()
		pass(time.Second)
		if loaded := r.Capacity().Slots[0].Loaded; loaded != "" {
			t.Errorf("when it has ended it holds %q", loaded)
		}
		r.end()
	})
}
