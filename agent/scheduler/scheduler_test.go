package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
)

// within runs a test in fake time.
func within(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, f)
	})
}

func TestFourImagesGoToFourEqualDevices(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{Predicted, LeastLoaded, RoundRobin} {
		within(t, string(policy), func(t *testing.T) {
			r := newRig(t, 4, policy)
			r.run()
			ids := r.jobs.add(4)
			synctest.Wait()
			if diff := cmp.Diff([]int{0, 1, 2, 3}, r.where(ids)); diff != "" {
				t.Errorf("at once (-want +got): %s", diff)
			}
			pass(11 * time.Second)
			for i, id := range ids {
				j := r.expect(id, job.Succeeded)
				if want := fmt.Sprintf("image of %d", 100+i); j.ImageID != want || j.Reason == "" || j.Backend != "fake" {
					t.Errorf("%s: image %q, reason %q, backend %q", id, j.ImageID, j.Reason, j.Backend)
				}
			}
			r.end()
		})
	}
}

func TestFastBusyDeviceIsPreferredWhenSooner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.speeds = []float64{1, 0.1}
		r.backend.generate = steady(func(d gpu.Device) float64 { return []float64{6, 60}[d.Index] })
		r.run()
		first := r.jobs.add(1)
		pass(5 * time.Second)
		second := r.jobs.add(1)
		pass(time.Millisecond)
		if j := r.expect(second[0], job.Queued); !strings.HasPrefix(j.Reason, "waiting ") || !strings.Contains(j.Reason, "for Device 0: sooner than loading on Device 1") {
			t.Errorf("reason is %q", j.Reason)
		}
		pass(10 * time.Second)
		r.expect(second[0], job.Succeeded)
		if diff := cmp.Diff([]int{0, 0}, r.where(append(first, second...))); diff != "" {
			t.Error(diff)
		}
		r.end()
	})
}

func TestPinnedAndPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, Predicted)
		r.run()
		r.steer(2, pool.Control{Mode: pool.Paused})
		two := gpu.Ref(2)
		pin := r.jobs.add(1, func(j *job.Job) { j.PinnedTo, j.PinnedKey = &two, "GPU-2" })
		others := r.jobs.add(3)
		pass(time.Millisecond)
		if j := r.expect(pin[0], job.Queued); j.Reason != "waiting: Device 2 is paused" {
			t.Errorf("reason is %q", j.Reason)
		}
		if slot := r.Capacity().Slots[2]; !slot.Paused || slot.Problem != "" {
			t.Errorf("%+v", slot)
		}
		pass(45 * time.Second)
		for i, device := range r.where(others) {
			if device == 2 || device < 0 {
				t.Errorf("image %d went to %d", i, device)
			}
		}
		r.steer(2, pool.Control{})
		pass(11 * time.Second)
		if j := r.expect(pin[0], job.Succeeded); *j.DeviceID != 2 || j.Reason != "Device 2 was asked for" {
			t.Errorf("device %v, reason %q", *j.DeviceID, j.Reason)
		}
		r.end()
	})
}

func TestHotDeviceCoolsFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		at := func(celsius float64) {
			r.measure(func(_ int, reading *gpu.Reading) {
				reading.Temperatures = []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 60}, {Sensor: gpu.SensorJunction, Celsius: celsius}, {Sensor: gpu.SensorMemory, Celsius: 99}}
			})
			synctest.Wait()
		}
		at(95)
		r.run()
		ids := r.jobs.add(1)
		synctest.Wait()
		if j := r.expect(ids[0], job.Queued); !strings.Contains(j.Reason, "too hot") {
			t.Errorf("reason is %q", j.Reason)
		}
		at(91)
		r.expect(ids[0], job.Queued)
		at(89)
		r.expect(ids[0], job.Running)
		r.end()
	})
}

func TestModelThatNoSlotHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.run()
		ids := r.jobs.add(2, func(j *job.Job) { j.Model = "flux" })
		pass(time.Second)
		if j := r.expect(ids[0], job.Queued); j.Reason != `waiting: no device has a generator for model "flux" now` {
			t.Errorf("reason is %q", j.Reason)
		}
		pass(missingAfter + time.Second)
		for _, id := range ids {
			if j := r.expect(id, job.Failed); !strings.Contains(j.Error, `"flux"`) {
				t.Errorf("error is %q", j.Error)
			}
		}
		r.end()
	})
}

// After a restart the driver of eight cards can take a minute to list them: what was accepted before must not fail for that.
func TestModelThatComesLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		late := r.models
		r.models = nil
		r.run()
		ids := r.jobs.add(1)
		pass(time.Minute)
		r.expect(ids[0], job.Queued)
		r.models = late
		r.Wake()
		pass(20 * time.Second)
		r.expect(ids[0], job.Succeeded)
		r.end()
	})
}

func TestMemoryRuleSeesOtherPrograms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fresh bool
		want  job.State
	}{{"reported full", true, job.Queued}, {"reported full, but frozen long ago", false, job.Running}} {
		within(t, tt.name, func(t *testing.T) {
			r := newRig(t, 1, Predicted)
			full := func(_ int, reading *gpu.Reading) {
				used := uint64(20) << 30
				reading.MemoryUsedBytes = &used
			}
			r.measure(full)
			r.run()
			ids := r.jobs.add(1)
			for range 15 {
				pass(time.Second)
				if tt.fresh {
					r.measure(full)
				}
				r.Wake()
			}
			pass(time.Millisecond)
			r.expect(ids[0], tt.want)
			r.end()
		})
	}
}

func TestETAAndLearnedSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.speeds = []float64{3, 1} // wrong: they are equal
		r.backend.generate = steady(always(20))
		r.run()
		ids := r.jobs.add(1)
		pass(10*time.Second + time.Millisecond)
		j := r.expect(ids[0], job.Running)
		if p := j.Progress; p.Step != 10 || p.ETASeconds == nil || *p.ETASeconds != 10 {
			t.Errorf("progress %+v", p)
		}
		pass(12 * time.Second)
		// Device 0 is measured now, device 1 still taken for a third of it: it is used only when the other one is crowded.
		few := r.jobs.add(2)
		synctest.Wait()
		if got := r.where(few); got[1] != -2 {
			t.Errorf("before learning: %v", got)
		}
		r.jobs.add(8)
		pass(5 * time.Minute)
		again := r.jobs.add(2)
		synctest.Wait()
		if got := r.where(again); !slices.Contains(got, 0) || !slices.Contains(got, 1) {
			t.Errorf("after learning: %v", got)
		}
		r.end()
	})
}

func TestReasonsDoNotFlicker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.backend.generate = steady(always(60))
		r.run()
		ids := r.jobs.add(3)
		for range 590 {
			pass(100 * time.Millisecond)
			r.Wake()
		}
		if n := len(r.jobs.explains[ids[1]]); n > 18 {
			t.Errorf("the next in line was told %d reasons in a minute: %q", n, r.jobs.explains[ids[1]])
		}
		if got := r.jobs.explains[ids[2]]; len(got) != 1 {
			t.Errorf("the last was told %q", got)
		}
		r.end()
	})
}

func TestWaveringPredictionKeepsItsText(t *testing.T) {
	t.Parallel()
	c := NewCore(Predicted)
	in := input{Input: box(1).set("a", 1), jobs: []*job.Job{{ID: "a"}}}
	var told []string
	for _, seconds := range []float64{4.9, 5.1, 4.9, 6, 9, 4.9} {
		plan := Plan{Waits: []Wait{{Cause: busy, Seconds: seconds}}, Finish: []float64{unplanned}}
		if outlook, changed := c.explain(in, plan, View{Now: time.Now()})["a"]; changed {
			told = append(told, outlook.Reason)
		}
	}
	want := []string{"waiting 5 s for Device 0: every device is busy", "waiting 10 s for Device 0: every device is busy", "waiting 5 s for Device 0: every device is busy"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		if c := r.Capacity(); c.Policy != "predicted" || c.DefaultModel != "" || c.Models == nil || c.Slots == nil {
			t.Errorf("before Run: %+v", c)
		}
		sketch := &fakeBackend{name: sketcher, generate: steady(always(1))}
		slots := r.config.Slots
		r.config.Slots = func(inventory gpu.Inventory) []Slot {
			return append([]Slot{{Device: backend.CPU(), Backend: sketch, Models: []backend.Model{{Name: "sketch", Title: "built-in"}}}}, slots(inventory)...)
		}
		r.run()
		c := r.Capacity()
		if c.DefaultModel != "sdxl" || len(c.Models) != 2 || len(c.Slots) != 3 || c.Slots[0].Device != gpu.CPU || c.Slots[1].Loaded != "" {
			t.Errorf("%+v", c)
		}
		r.jobs.add(1)
		synctest.Wait()
		if got := r.published.Load(); got == nil || got.Slots[1].Loaded != "sdxl" {
			t.Errorf("published %+v", got)
		}
		r.end()
	})
}
