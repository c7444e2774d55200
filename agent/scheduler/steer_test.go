package scheduler

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// unloader is a backend that holds models.
type unloader struct {
	*fakeBackend
	unloads atomic.Int32
	err     atomic.Pointer[error]
}

func (u *unloader) Unload(context.Context, gpu.Device) error {
	u.unloads.Add(1)
	if err := u.err.Load(); err != nil {
		return *err
	}
	return nil
}

// newSteeredRig gives a machine whose backend holds models.
func newSteeredRig(t *testing.T, n int) (*rig, *unloader) {
	r := newRig(t, n, Predicted)
	holder := &unloader{fakeBackend: r.backend}
	slots := r.config.Slots
	r.config.Slots = func(inventory gpu.Inventory) []Slot {
		all := slots(inventory)
		for i := range all {
			all[i].Backend = holder
			all[i].Owns = func(pid int) bool { return pid < 100 }
		}
		return all
	}
	return r, holder
}

// phase gives what is told of a device; nil when nothing is.
func (r *rig) phase(i gpu.Ref) wire.Steered {
	for _, d := range r.Capacity().Devices {
		if d.Device == i {
			return d
		}
	}
	return wire.Steered{}
}

func TestDrainFinishesThenFreesTheMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, holder := newSteeredRig(t, 2)
		r.run()
		first := r.jobs.add(2)
		pass(time.Second)
		r.steer(0, pool.Control{Mode: pool.Draining})
		later := r.jobs.add(2)
		pass(time.Second)
		if got := r.phase(0); got.Phase != wire.PhaseDraining || got.Key != "GPU-0" || got.Words == "" {
			t.Errorf("while it runs: %+v", got)
		}
		if holder.unloads.Load() != 0 {
			t.Error("unloaded during an image")
		}
		pass(50 * time.Second)
		for _, id := range first {
			if j := r.expect(id, job.Succeeded); j.Attempt != 1 {
				t.Errorf("%+v", j)
			}
		}
		for i, device := range r.where(later) {
			if device != 1 {
				t.Errorf("image %d went to %d", i, device)
			}
		}
		if got := r.phase(0); got.Phase != wire.PhaseDrained || holder.unloads.Load() != 1 || r.Capacity().Slots[0].Loaded != "" {
			t.Errorf("after it: %+v, %d unloads", got, holder.unloads.Load())
		}
		r.steer(0, pool.Control{})
		back := r.jobs.add(2)
		pass(50 * time.Second)
		if devices := r.where(back); devices[0] == devices[1] {
			t.Errorf("after it came back: %v", devices)
		}
		r.end()
	})
}

func TestReservedDeviceIsGivenUpAtOnceAndComesBackByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, holder := newSteeredRig(t, 2)
		r.run()
		ids := r.jobs.add(2)
		pass(3 * time.Second)
		until := time.Now().Add(time.Minute)
		r.steer(0, pool.Control{Mode: pool.Reserved, Until: &until})
		pass(10 * time.Millisecond)
		if got := r.phase(0); got.Phase != wire.PhaseReserved || !strings.Contains(got.Words, "until") {
			t.Errorf("%+v", got)
		}
		if n := holder.unloads.Load(); n != 1 {
			t.Errorf("%d unloads", n)
		}
		pass(45 * time.Second)
		for i, id := range ids {
			if j := r.expect(id, job.Succeeded); j.Failures != 0 || *j.DeviceID != 1 || j.Seed != int64(100+i) {
				t.Errorf("%+v", j)
			}
		}
		pass(20 * time.Second)
		if got := r.phase(0); got.Phase != wire.PhaseActive {
			t.Errorf("after its end: %+v", got)
		}
		again := r.jobs.add(2)
		pass(time.Second)
		if devices := r.where(again); devices[0]+devices[1] != 1 {
			t.Errorf("went to %v", devices)
		}
		r.end()
	})
}

func TestMemoryThatIsNotFreedIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, holder := newSteeredRig(t, 1)
		stuck := errors.New("its process can't be killed")
		holder.err.Store(&stuck)
		r.run()
		r.jobs.add(1)
		pass(20 * time.Second)
		r.steer(0, pool.Control{Mode: pool.Draining})
		pass(time.Second)
		if got := r.phase(0); got.Phase != wire.PhaseDraining || !strings.Contains(got.Words, stuck.Error()) {
			t.Errorf("%+v", got)
		}
		holder.err.Store(nil)
		pass(unloadRetry + time.Second)
		if got := r.phase(0); got.Phase != wire.PhaseDrained {
			t.Errorf("%+v after %d unloads", got, holder.unloads.Load())
		}
		r.end()
	})
}

// A game begins on an idle card, and on one that makes an image: it gets both cards, and we come back when it has ended.
func TestYieldToAnotherProgram(t *testing.T) {
	t.Parallel()
	load := func(percent float64) func(int, *gpu.Reading) {
		return func(i int, r *gpu.Reading) {
			if i == 0 {
				r.UtilizationPercent = &percent
			}
		}
	}
	tick := func(r *rig, seconds int, change func(int, *gpu.Reading)) {
		for range seconds {
			r.measure(change)
			pass(time.Second)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSteeredRig(t, 2)
		r.run()
		r.steer(0, pool.Control{Yield: true})
		tick(r, 1, load(80))
		if got := r.phase(0); got.Phase != wire.PhaseActive {
			t.Errorf("after an instant of load: %+v", got)
		}
		tick(r, 4, load(80))
		if got := r.phase(0); got.Phase != wire.PhaseYielding {
			t.Errorf("after 5 s of load: %+v", got)
		}
		ids := r.jobs.add(2)
		tick(r, 25, load(80))
		for i, device := range r.where(ids) {
			if device == 0 {
				t.Errorf("image %d went to the device that gives way", i)
			}
		}
		tick(r, 20, load(0))
		if got := r.phase(0); got.Phase != wire.PhaseYielding {
			t.Errorf("20 s after the load: %+v", got)
		}
		tick(r, 15, load(0))
		if got := r.phase(0); got.Phase != wire.PhaseActive {
			t.Errorf("35 s after the load: %+v", got)
		}
		r.end()
	})
}

func TestYieldDuringAnImage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, holder := newSteeredRig(t, 1)
		var slow atomic.Bool
		r.backend.generate = steady(func(gpu.Device) float64 {
			if slow.Load() {
				return 200
			}
			return 40
		})
		report := &gpu.Report{Revision: 1, Devices: []gpu.Details{{}}}
		var shown atomic.Pointer[gpu.Report]
		shown.Store(report)
		r.config.Report = shown.Load
		r.run()
		r.steer(0, pool.Control{Yield: true})
		r.jobs.add(1)
		pass(45 * time.Second) // its usual speed is known now
		ids := r.jobs.add(1)
		pass(4 * time.Second)
		slow.Store(true)
		bytes := uint64(6) << 30
		shown.Store(&gpu.Report{Revision: 1, Devices: []gpu.Details{{Processes: []gpu.Process{{PID: 7, MemoryBytes: &bytes}, {PID: 4242, Name: "game", MemoryBytes: &bytes}}}}})
		pass(40 * time.Second)
		if got := r.phase(0); got.Phase != wire.PhaseYielding || !strings.Contains(got.Words, "game") {
			t.Errorf("%+v", got)
		}
		if j := r.expect(ids[0], job.Queued); j.Failures != 0 || !strings.Contains(j.Reason, "gives way to game") {
			t.Errorf("%+v", j)
		}
		if n := holder.unloads.Load(); n != 1 {
			t.Errorf("%d unloads", n)
		}
		r.end()
	})
}

// A language model holds its memory all the time, and works now and then.
func TestYieldToWhatHeldItsMemoryBefore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		held     uint64
		throttle gpu.Throttle
		want     wire.Phase
	}{
		{"a language model", 6 << 30, gpu.ThrottlePower, wire.PhaseYielding},
		{"a desktop", 600 << 20, 0, wire.PhaseActive},
		{"a hot card", 6 << 30, gpu.ThrottleThermal, wire.PhaseActive},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := newSteeredRig(t, 1)
			var slow atomic.Bool
			r.backend.generate = steady(func(gpu.Device) float64 {
				if slow.Load() {
					return 200
				}
				return 40
			})
			report := &gpu.Report{Revision: 1, Devices: []gpu.Details{{Processes: []gpu.Process{{PID: 4242, Name: "llm", MemoryBytes: &tt.held}}}}}
			r.config.Report = func() *gpu.Report { return report }
			r.measure(func(_ int, reading *gpu.Reading) { reading.Throttle = &tt.throttle })
			r.run()
			r.steer(0, pool.Control{Yield: true})
			r.jobs.add(1)
			pass(45 * time.Second) // its usual speed is known now
			r.jobs.add(2)
			slow.Store(true)
			for range 60 {
				r.measure(func(_ int, reading *gpu.Reading) { reading.Throttle = &tt.throttle })
				pass(time.Second)
			}
			if got := r.phase(0); got.Phase != tt.want {
				t.Errorf("%s: %+v", tt.name, got)
			}
			r.end()
		})
	}
}

// An image that is nearly done when another program comes is finished where it is.
func TestYieldLetsWhatIsNearlyDoneFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSteeredRig(t, 1)
		var slow atomic.Bool
		r.backend.generate = steady(func(gpu.Device) float64 {
			if slow.Load() {
				return 14
			}
			return 8
		})
		bytes := uint64(6) << 30
		report := &gpu.Report{Revision: 1, Devices: []gpu.Details{{Processes: []gpu.Process{{PID: 4242, Name: "game", MemoryBytes: &bytes}}}}}
		r.config.Report = func() *gpu.Report { return report }
		r.run()
		r.steer(0, pool.Control{Yield: true})
		r.jobs.add(1)
		pass(10 * time.Second) // its usual speed is known now
		slow.Store(true)
		ids := r.jobs.add(1)
		yielded := false
		for range 15 {
			pass(time.Second)
			yielded = yielded || r.phase(0).Phase == wire.PhaseYielding && r.jobs.get(ids[0]).State == job.Running
		}
		if j := r.expect(ids[0], job.Succeeded); !yielded || j.Attempt != 1 {
			t.Errorf("gave way meanwhile: %t; attempt %d", yielded, j.Attempt)
		}
		r.end()
	})
}

func TestLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSteeredRig(t, 1)
		r.run()
		try := func(name string, c pool.Control, change func(*gpu.Reading), words string) {
			t.Helper()
			r.steer(0, c)
			r.measure(func(_ int, reading *gpu.Reading) { change(reading) })
			ids := r.jobs.add(1)
			pass(20 * time.Second)
			got := r.jobs.get(ids[0])
			if words == "" && got.State != job.Succeeded || words != "" && (got.State != job.Queued || !strings.Contains(got.Reason, words)) {
				t.Errorf("%s: %s, %q", name, got.State, got.Reason)
			}
			if phase := r.phase(0); words != "" && phase.Phase != wire.PhaseLimited {
				t.Errorf("%s: %+v", name, phase)
			}
			r.steer(0, pool.Control{})
			r.measure(func(int, *gpu.Reading) {})
			pass(40 * time.Second)
			r.expect(ids[0], job.Succeeded)
		}
		hot := func(c float64) func(*gpu.Reading) {
			return func(r *gpu.Reading) { r.Temperatures = []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: c}} }
		}
		draws := func(w float64) func(*gpu.Reading) { return func(r *gpu.Reading) { r.PowerWatts = &w } }
		try("cooler than its limit", pool.Control{MaxCelsius: new(70.0)}, hot(69), "")
		try("as hot as its limit", pool.Control{MaxCelsius: new(70.0)}, hot(70), "too hot (70 °C or more)")
		try("less power than its limit", pool.Control{MaxWatts: new(200.0)}, draws(199), "")
		try("its limit of power", pool.Control{MaxWatts: new(200.0)}, draws(200), "draws 200 W, its limit is 200 W")
		now := time.Now().Local()
		hour := func(h int) string { return now.Add(time.Duration(h) * time.Hour).Format("15:04") }
		try("within its hours", pool.Control{Hours: hour(-1) + "-" + hour(1)}, hot(40), "")
		try("outside its hours", pool.Control{Hours: hour(1) + "-" + hour(2)}, hot(40), "takes work only at")
		r.end()
	})
}

// All cards together may draw 500 W; each draws 50 W at rest and 250 W at work: one works at a time, then both rest within the limit.
func TestAllDevicesTogetherKeepTheirPower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newSteeredRig(t, 2)
		limit := 250.0
		readings := func(i int, reading *gpu.Reading) {
			draw := 50.0
			for _, j := range r.jobs.Active() {
				if j.State == job.Running && int(*j.DeviceID) == i {
					draw = 250
				}
			}
			reading.PowerWatts, reading.PowerLimitWatts = &draw, &limit
		}
		r.measure(readings)
		r.run()
		budget := 400.0
		r.steering.Store(&pool.Steering{Pool: pool.Settings{MaxWatts: &budget}})
		ids := r.jobs.add(4)
		for range 60 {
			r.measure(readings)
			pass(time.Second)
			running := 0
			for _, id := range ids {
				if r.jobs.get(id).State == job.Running {
					running++
				}
			}
			if running > 1 {
				t.Fatalf("%d cards work at once", running)
			}
		}
		for _, id := range ids {
			r.expect(id, job.Succeeded)
		}
		told := ""
		for _, reasons := range r.jobs.explains {
			told += strings.Join(reasons, "\n")
		}
		if !strings.Contains(told, "would draw more than they may") {
			t.Errorf("nobody was told why: %s", told)
		}
		r.end()
	})
}

// What hangs on a card that is lost is ended, also when the card has left the list of slots.
func TestMemoryOfALostDeviceIsFreed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, holder := newSteeredRig(t, 1)
		r.run()
		r.jobs.add(1)
		pass(20 * time.Second)
		if holder.unloads.Load() != 0 {
			t.Error("a healthy device was unloaded")
		}
		r.measure(func(_ int, reading *gpu.Reading) { reading.State = gpu.StateLost })
		pass(deadAfter + 2*time.Second)
		if n := holder.unloads.Load(); n != 1 {
			t.Errorf("%d unloads", n)
		}
		r.end()
	})
}

func TestExpectedTimesAreToldAndComeTrue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.speeds = []float64{1, .5}
		r.backend.generate = steady(func(dev gpu.Device) float64 { return 10 * float64(1+dev.Index) })
		r.run()
		r.jobs.add(12)
		pass(3 * time.Minute) // it learns
		begun := time.Now()
		ids := r.jobs.add(9)
		pass(10 * time.Millisecond)
		told := map[string]time.Time{}
		for _, id := range ids {
			e := r.jobs.outlook(id).Expected
			if e == nil || e.Early.After(e.At) || e.Late.Before(e.At) {
				t.Fatalf("%s is expected %+v", id, e)
			}
			told[id] = e.At
		}
		for range 100 {
			pass(time.Second)
			for id, at := range told {
				if r.jobs.get(id).State != job.Succeeded {
					continue
				}
				took, predicted := time.Since(begun).Seconds(), at.Sub(begun).Seconds()
				if off := predicted/took - 1; off > .25 || off < -.25 {
					t.Errorf("%s took %.0f s, predicted were %.0f", id, took, predicted)
				}
				delete(told, id)
			}
		}
		if len(told) > 0 {
			t.Errorf("%d images never came", len(told))
		}
		r.end()
	})
}

// Nobody has to wait for an image to end to see that a device's hours have begun, or a person's pause has ended.
func TestWhatPeopleDecidedIsLookedAtInTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 21, 59, 50, 0, time.Local)
	until := now.Add(7 * time.Second)
	for _, tt := range []struct {
		control pool.Control
		want    time.Duration
	}{
		{pool.Control{}, idleEvery},
		{pool.Control{Hours: "22:00-08:00"}, 10 * time.Second},
		{pool.Control{Mode: pool.Paused, Until: &until}, 7 * time.Second},
	} {
		c, st := NewCore(Predicted), &slotState{}
		st.steer(tt.control, now)
		c.byKey["a"] = st
		if got := c.next(false, now); got != tt.want {
			t.Errorf("%+v: looked at after %s, want %s", tt.control, got, tt.want)
		}
	}
}

// A person whose image is far behind is told a time as well.
func TestFarImagesAreExpectedToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		r.backend.generate = steady(func(gpu.Device) float64 { return 10 })
		r.run()
		r.jobs.add(1)
		pass(20 * time.Second)
		ids := r.jobs.add(3 * shortPlan)
		pass(5 * time.Second)
		e := r.jobs.outlook(ids[len(ids)-1]).Expected
		if e == nil || time.Until(e.At) < 20*shortPlan*time.Second {
			t.Errorf("the last of %d is expected %+v", len(ids), e)
		}
		r.end()
	})
}
