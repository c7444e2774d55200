package scheduler

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

func near(got, want float64) bool { return math.Abs(got-want) <= 0.05*want }

// BENCHMARKS.md 1: priors wrong by 3x, right within 5 images a device.
func TestWrongPriorsAreUnlearned(t *testing.T) {
	t.Parallel()
	e := newEstimates()
	truth := map[string]float64{"a": 0.1, "b": 0.4} // seconds a step
	priors := map[string]float64{"a": 1.0 / 3, "b": 3}
	for range 5 {
		for slot, step := range truth {
			e.learn(pace{slot, "sdxl", 1 << 20}, priors[slot], observation{step: step, tail: 0.5})
		}
	}
	for slot, step := range truth {
		if got := e.work(pace{slot, "sdxl", 1 << 20}, priors[slot], 20); !near(got, 20*step+0.5) {
			t.Errorf("slot %s: %.2f s: want %.2f", slot, got, 20*step+0.5)
		}
		if got := e.step(pace{slot, "sdxl", 1 << 18}, priors[slot]); !near(got, step/4) {
			t.Errorf("slot %s, a quarter of the pixels: %.3f s a step: want %.3f", slot, got, step/4)
		}
	}
	// What one slot took for a new model tells what the other will take.
	e.learn(pace{"a", "flux", 1 << 20}, priors["a"], observation{step: 0.5})
	if got := e.step(pace{"b", "flux", 1 << 20}, priors["b"]); got < 1 || got > 4 {
		t.Errorf("a model measured on the other slot only: %.2f s a step: want about 2", got)
	}
}

// A step of a tiny image is mostly what every step costs, and chance: scaled by pixels it made equal devices look three times as
// slow as each other, and images wait for one of them beside idle ones.
func TestTinyImagesTellNothingOfOtherSizes(t *testing.T) {
	t.Parallel()
	e := newEstimates()
	tiny := 64 * 64
	for slot, step := range map[string]float64{"a": 0.02, "b": 0.06} {
		e.learn(pace{slot, "m", tiny}, 10, observation{step: step, tail: 0.01})
		if got := e.step(pace{slot, "m", tiny}, 10); got != step {
			t.Errorf("slot %s, the same size: %g s a step: want %g", slot, got, step)
		}
	}
	for _, slot := range []string{"a", "b", "never used"} {
		if got := e.step(pace{slot, "m", referencePixels}, 10); got != 0.1 {
			t.Errorf("slot %s at 512x512: %g s a step: want the prior, 0.1", slot, got)
		}
	}
	if e.measured("m") {
		t.Error("a tiny image counts as a measured time for any size")
	}
}

func TestSpeedIsLearnedWithoutOtherPrograms(t *testing.T) {
	t.Parallel()
	e := newEstimates()
	e.learn(pace{"a", "m", 1}, 1, observation{step: 2, share: 0.5})
	if got := e.step(pace{"a", "m", 1}, 1); got != 1 {
		t.Errorf("2 s a step on half a device is %g s on a whole one: want 1", got)
	}
}

func TestLoadTime(t *testing.T) {
	t.Parallel()
	e := newEstimates()
	model := backend.Model{Name: "m", Bytes: 6e9}
	if got := e.load("a", model); got != 5 {
		t.Errorf("prior is %g s: want 2 s and 6 GB at 2 GB/s", got)
	}
	if got := e.load("a", backend.Model{Name: "sketch"}); got != 0 {
		t.Errorf("a model without a file loads in %g s", got)
	}
	e.learn(pace{"a", "m", 1}, 1, observation{step: 1, load: 9, loaded: true})
	if got := e.load("a", model); got != 9 {
		t.Errorf("after one load: %g s: want 9", got)
	}
}

func TestObserveTellsLoadStepsAndTailApart(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	a := &Attempt{cold: true, model: backend.Model{Bytes: 1}, begun: begun, share: 1, Job: job.Job{Steps: 4}}
	for step := 1; step <= 4; step++ {
		a.Report(job.Progress{Step: step, Steps: 4}, begun.Add(7*time.Second+time.Duration(step)*time.Second))
	}
	o, ok := a.observe(13 * time.Second)
	if want := (observation{step: 1, load: 7, tail: 2, loaded: true, share: 1}); !ok || o != want {
		t.Errorf("%+v, %v: want %+v", o, ok, want)
	}
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	model := backend.Model{VRAMBytes: 10 << 30}
	for pixels, want := range map[int]uint64{512 * 512: 10 << 30, 1 << 20: 10 << 30, 3 << 20: 13 << 30} {
		if got := needs(model, pixels); got != want {
			t.Errorf("%d pixels: %d: want %d", pixels, got, want)
		}
	}
}

func TestRoom(t *testing.T) {
	t.Parallel()
	gib := func(n uint64) *uint64 { n <<= 30; return &n }
	for _, tt := range []struct {
		name     string
		st       slotState
		promised uint64 // to others
		want     *uint64
	}{
		{"reported free", slotState{reading: &gpu.Reading{MemoryTotalBytes: gib(24), MemoryUsedBytes: gib(20)}}, 0, gib(4)},
		{"what the driver reserves is not free", slotState{reading: &gpu.Reading{MemoryTotalBytes: gib(24), MemoryUsedBytes: gib(20), MemoryReservedBytes: gib(1)}}, 0, gib(3)},
		{"its own model would be unloaded", slotState{holds: 9 << 30, reading: &gpu.Reading{MemoryTotalBytes: gib(24), MemoryUsedBytes: gib(20)}}, 0, gib(13)},
		{"never more than there is", slotState{holds: 23 << 30, reading: &gpu.Reading{MemoryTotalBytes: gib(24), MemoryUsedBytes: gib(2)}}, 0, gib(24)},
		{"promises that the snapshot does not show yet", slotState{reading: &gpu.Reading{MemoryTotalBytes: gib(24), MemoryUsedBytes: gib(0)}}, 16 << 30, gib(8)},
		{"no reading: what the device has", slotState{Slot: Slot{Device: gpu.Device{MemoryBytes: gib(16)}}}, 6 << 30, gib(10)},
		{"nothing known", slotState{}, 0, nil},
		{"the CPU has no rule", slotState{Slot: Slot{Device: backend.CPU()}}, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.st.room(tt.promised)
			if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("%v: want %v", got, tt.want)
			}
		})
	}
}

func TestCrowdLearnsOnlyWhenWeDoNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	busy := 80.0
	for _, tt := range []struct {
		name    string
		st      slotState
		suspect []string
		want    float64
	}{
		{"another program works", slotState{share: 1}, nil, 0.8},
		{"we work ourselves", slotState{share: 1, current: &Attempt{}}, nil, 1},
		{"we just worked", slotState{share: 1, idleSince: now.Add(-time.Second)}, nil, 1},
		{"we worked a while ago", slotState{share: 1, idleSince: now.Add(-4 * time.Second)}, nil, 0.8},
		{"the load contradicts itself", slotState{share: 1}, []string{"utilization_percent"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reading := gpu.Reading{UtilizationPercent: &busy, Suspect: tt.suspect}
			if tt.st.crowd(reading, now); tt.st.share != tt.want {
				t.Errorf("share is %g: want %g", tt.st.share, tt.want)
			}
		})
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Policy{"": Predicted, "predicted": Predicted, "least-loaded": LeastLoaded, "round-robin": RoundRobin} {
		if got, err := ParsePolicy(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := ParsePolicy("random"); err == nil {
		t.Error("random was accepted")
	}
}

// A device that is said to be a tenth as fast as the others is tried once they made some images: it may be as fast.
func TestADeviceThatNobodyTriedIsTriedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		r.speeds = []float64{1, .2}
		r.backend.generate = steady(func(gpu.Device) float64 { return 25 })
		r.run()
		counts := [2]int{}
		for range 12 {
			ids := r.jobs.add(1)
			pass(30 * time.Second)
			counts[r.where(ids)[0]]++
		}
		if counts[1] == 0 {
			t.Errorf("%v images by device", counts)
		}
		r.end()
	})
}
