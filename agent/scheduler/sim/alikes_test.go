package sim

import (
	"testing"

	"muster/shared/gpu"
)

// Each is computed by hand: a device of speed 1 and one of speed 0.5 (images take 20 s there), large, four images.
func TestPoliciesByHand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		policy string
		cold   float64 // seconds of the set, models loaded first
		warm   float64
		why    string
	}{
		{"round-robin", 45, 40, "two on each: 5 + 20 + 20"},
		{"jsq", 45, 40, "two on each: their queues are equally long"},
		{"sed", 35, 30, "three on the fast one, one on the slow: 5 + 30"},
		{"least-loaded", 35, 30, "each takes one when it is idle: at 25 s the fast one is asked first"},
		{"invokeai", 35, 30, "the same"},
		{"swarmui", 49.501, 40, "cold: after 1.5 s the fast one loads, and takes two at 6.5 s; the slow one then loads what was read, and takes two at 9.5 s"},
		{"mold", 35, 40, "cold: one on each, the others go to the largest, which is the first; warm: one on each, then the least used"},
		{"mold-spread", 35, 40, "the same: after the first no device is empty"},
		{"ollama", 45, 40, "all on the first"},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			t.Parallel()
			if got := play(t, tiny(1, .5).set(0, large, 4), tt.policy).Times[0]; !near(got, tt.cold) {
				t.Errorf("cold it takes %g s: want %g (%s)", got, tt.cold, tt.why)
			}
			if got := play(t, tiny(1, .5).set(0, large, 4).warmed(large), tt.policy).Times[0]; !near(got, tt.warm) {
				t.Errorf("warm it takes %g s: want %g (%s)", got, tt.warm, tt.why)
			}
		})
	}
}

func TestRandomUsesEveryDevice(t *testing.T) {
	t.Parallel()
	if got := play(t, tiny(1).set(0, large, 4), "random").Times[0]; !near(got, 45) {
		t.Errorf("on one device it takes %g s: want 45", got)
	}
	if got := play(t, tiny(1, 1, 1).set(0, small, 300), "random"); got.Loads != 3 {
		t.Errorf("300 images were spread over %d of 3 devices", got.Loads)
	}
}

// facts/api.md: 4 images, loads 12.5/25/37.5 % → 0, 1, 2, 0; a device that can't be read comes last.
func TestRoundRobinDealsByMemory(t *testing.T) {
	t.Parallel()
	w := tiny(1, 1, 1)
	m := &Machine{Box: &w.Box, Models: w.Models, Devices: make([]Seen, 3), Measured: &Measurement{Devices: []Load{
		{Used: 3 * gpu.GiB}, {Used: 6 * gpu.GiB}, {Used: 9 * gpu.GiB},
	}}}
	deal := func() (dealt []int) {
		for turn := range 4 {
			dealt = append(dealt, roundRobin(nil, m, 0, turn, []int{0, 1, 2}))
		}
		return dealt
	}
	same := func(got []int, want ...int) {
		t.Helper()
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("dealt to %v: want %v", got, want)
				return
			}
		}
	}
	same(deal(), 0, 1, 2, 0)
	m.Measured.Devices[0].Used = 12 * gpu.GiB
	same(deal(), 1, 2, 0, 1)
	m.Measured.Devices[1] = Load{Lost: true}
	same(deal(), 2, 0, 1, 2)
}

func TestInvokeAILooksAheadForItsModel(t *testing.T) {
	t.Parallel()
	// The device holds small; 32 images of large come first, or 33.
	for _, tt := range []struct {
		before int
		loads  int
	}{{31, 1}, {40, 2}} {
		w := tiny(1).set(0, large, tt.before).set(0, small, 1).warmed(small)
		if got := play(t, w, "invokeai").Loads; got != tt.loads {
			t.Errorf("%d others before its model: %d loads, want %d", tt.before, got, tt.loads)
		}
	}
}

func TestOllamaKeepsOneCopyAndEvictsTheOldest(t *testing.T) {
	t.Parallel()
	w := tiny(1, 1)
	w.Models = append(w.Models, Model{"third", 0, 4 * gpu.GiB, 4})
	w.set(0, large, 1).set(1, small, 1).set(30, small, 2).set(60, 2, 1).set(90, small, 1)
	r := play(t, w, "ollama")
	if r.Loads != 3 {
		t.Errorf("%d loads: want 3, the third in the place of large", r.Loads)
	}
	if !near(r.Times[2], 8) {
		t.Errorf("two images of a loaded model took %g s: want 8, one after the other", r.Times[2])
	}
}

func TestMoldPrefersTheSmallestEmptyDevice(t *testing.T) {
	t.Parallel()
	w := tiny(1, .5)
	w.Box.Devices[1].Memory = 12 * gpu.GiB
	if got := play(t, w.set(0, small, 1), "mold").Times[0]; !near(got, 10) {
		t.Errorf("it took %g s: want 10, on the small device", got)
	}
}

// A device that dies gives back what waits for it.
func TestQueuesOfDeadDevicesAreDealtAgain(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{Baseline, "jsq", "sed", "random", "mold", "ollama", "swarmui"} {
		w := tiny(1, 1).set(0, small, 8).with(Disturbance{At: 3, For: 1000, Device: 0, Kind: Dead})
		if got := play(t, w, policy).Times[0]; got > 100 {
			t.Errorf("%s waits for a dead device: %g s", policy, got)
		}
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	if c, err := Named([]string{"sed", "predicted"}); err != nil || len(c) != 2 || c[0].Name != "sed" {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := Named([]string{"best"}); err == nil {
		t.Error("a policy that does not exist is accepted")
	}
	if c, err := Named(nil); err != nil || len(c) != len(Others)+1 || c[0].Name != Predicted.Name {
		t.Errorf("without names: %v, %v", c, err)
	}
}
