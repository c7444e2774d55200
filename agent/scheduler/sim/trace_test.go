package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"muster/shared/gpu"
)

// example is the trace in BENCHMARKS.md 1.
const example = `{"box": {"devices": [{"speed": 1.0, "vram_gib": 24}, {"speed": 0.6, "vram_gib": 24}, {"speed": 0.25, "vram_gib": 12}], "load_base_s": 2, "disk_gbps": 2, "cached_gbps": 6},
 "models": {"sdxl": {"file_gb": 6.9, "vram_gib": 9.5, "seconds": 6.0}},
 "sets": [{"t": 0.0, "model": "sdxl", "count": 4}],
 "events": [{"t": 90, "device": 0, "kind": "busy", "for_s": 60, "compute": 0.5, "vram": 0.4}, {"t": 30, "device": 1, "kind": "dead", "for_s": 60}, {"t": 200, "device": 2, "kind": "hot", "for_s": 60, "speed": 0.6}],
 "noise": 0.1, "seed": 7, "stale_s": 1, "prior_error": 1}`

func TestParseTrace(t *testing.T) {
	t.Parallel()
	w, left, err := ParseTrace(strings.NewReader(example))
	if err != nil || len(left) > 0 {
		t.Fatal(err, left)
	}
	want := &World{
		Box:    Box{Name: "trace", Devices: []Device{device(1, 24), device(.6, 24), device(.25, 12)}, LoadBase: 2, ColdRate: 2e9, CachedRate: 6e9},
		Models: []Model{{"sdxl", 6.9e9, 95 * gpu.GiB / 10, 6}},
		Sets:   []Set{{Count: 4}},
		Disturbances: []Disturbance{
			{At: 30, For: 60, Device: 1, Kind: Dead}, {At: 90, For: 60, Kind: Busy, Compute: .5, Memory: .4}, {At: 200, For: 60, Device: 2, Kind: Hot, Speed: .6},
		},
		Noise: .1, Seed: 7, Stale: 1, PriorError: 1, Warm: none,
	}
	if !reflect.DeepEqual(w, want) {
		t.Errorf("got  %+v\nwant %+v", w, want)
	}
}

func TestTraceDefaults(t *testing.T) {
	t.Parallel()
	w, left, err := ParseTrace(strings.NewReader(`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"t": 9, "model": "sdxl"}, {"model": "sd15"}, {"model": "flux-q8", "count": 2}],
		"events": [{"device": 0, "kind": "busy"}, {"device": 0, "kind": "dead"}, {"device": 0, "kind": "hot"}], "warm": "sdxl"}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || !strings.Contains(left[0], "flux-q8") {
		t.Errorf("left out: %v; want flux-q8, which fits nowhere", left)
	}
	want := &World{
		Box: Box{Name: "trace", Devices: []Device{device(1, 12)}, LoadBase: 2, ColdRate: 2e9, CachedRate: 6e9}, Models: Models,
		Sets: []Set{{0, 0, 1}, {9, 1, 1}},
		Disturbances: []Disturbance{
			{For: 60, Kind: Busy, Compute: .5, Memory: .4}, {For: 60, Kind: Dead}, {For: 60, Kind: Hot, Speed: .6},
		},
		Seed: 1, Stale: 1, PriorError: 1, Warm: 1,
	}
	if !reflect.DeepEqual(w, want) {
		t.Errorf("got  %+v\nwant %+v", w, want)
	}
	if w, _, err := ParseTrace(strings.NewReader(`{"box": {"devices": [{"speed": 1, "vram_gib": 12}], "warm": "sd15"}, "sets": [{"model": "sd15"}]}`)); err != nil || w.Warm != 0 {
		t.Errorf("warm in the box is not taken: %v", err)
	}
}

func TestTracesThatAreWrong(t *testing.T) {
	t.Parallel()
	const ok = `"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "sd15"}]`
	for _, tt := range []struct{ trace, names string }{
		{``, "EOF"},
		{`[]`, "array"},
		{`{` + ok + `} {}`, "more"},
		{`{"sets": [{"model": "sd15"}]}`, "box.devices"},
		{`{"box": {"devices": [` + strings.Repeat(`{"speed": 1, "vram_gib": 12},`, 64) + `{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "sd15"}]}`, "box.devices"},
		{`{"box": {"devices": [{"vram_gib": 12}]}, "sets": [{"model": "sd15"}]}`, "box.devices[0].speed is missing"},
		{`{"box": {"devices": [{"speed": 0, "vram_gib": 12}]}, "sets": [{"model": "sd15"}]}`, "box.devices[0].speed is 0"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": -1}]}, "sets": [{"model": "sd15"}]}`, "vram_gib"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}], "disk_gbps": 0}, "sets": [{"model": "sd15"}]}`, "disk_gbps"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": []}`, "no set"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "flux-q8"}]}`, "no set"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "other"}]}`, "sets[0].model"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "sd15", "count": 0}]}`, "sets[0].count"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "sd15", "count": 1e9}]}`, "count"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "sd15", "t": -1}]}`, "sets[0].t"},
		{`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [` + strings.Repeat(`{"model": "sd15", "count": 1000},`, 20) + `{"model": "sd15"}]}`, "20000 images"},
		{`{"box": {"devices": [{"speed": 0.001, "vram_gib": 12}]}, "models": {"slow": {"seconds": 1000}}, "sets": [{"model": "slow", "count": 1000}]}`, "slowest"},
		{`{` + ok + `, "models": {"sd15": {"file_gb": 1}}}`, "seconds is missing"},
		{`{` + ok + `, "models": {"sd15": {"seconds": 1e300}}}`, "seconds"},
		{`{` + ok + `, "noise": -1}`, "noise"},
		{`{` + ok + `, "seed": -1}`, "seed"},
		{`{` + ok + `, "stale_s": 1e6}`, "stale_s"},
		{`{` + ok + `, "prior_error": 0}`, "prior_error"},
		{`{` + ok + `, "warm": "sdxl2"}`, "warm"},
		{`{` + ok + `, "events": [{"kind": "dead"}]}`, "events[0].device"},
		{`{` + ok + `, "events": [{"device": 1, "kind": "dead"}]}`, "events[0].device"},
		{`{` + ok + `, "events": [{"device": 0}]}`, "events[0].kind"},
		{`{` + ok + `, "events": [{"device": 0, "kind": "dead", "for_s": -1}]}`, "for_s"},
		{`{` + ok + `, "events": [{"device": 0, "kind": "busy", "compute": 1.1}]}`, "compute"},
		{`{` + ok + `, "events": [{"device": 0, "kind": "hot", "speed": 0}]}`, "speed"},
		{`{` + ok + `, "events": [{"device": 0, "kind": "dead", "speed": 0.5}]}`, "does not know"},
	} {
		_, _, err := ParseTrace(strings.NewReader(tt.trace))
		if err == nil || !strings.Contains(err.Error(), tt.names) {
			t.Errorf("%.200s: got %v, want an error that names %s", tt.trace, err, tt.names)
		}
	}
	if _, _, err := ParseTrace(io.MultiReader(strings.NewReader(`{"box": "`), strings.NewReader(strings.Repeat("x", maxTraceBytes)))); err == nil || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("a trace without end: %v", err)
	}
}

// The format that `muster bench schedule --trace --json` prints is promised to the byte, but for how long deciding took.
func TestReplayIsPrintedAsPromised(t *testing.T) {
	t.Parallel()
	w, _, err := ParseTrace(strings.NewReader(`{"box": {"devices": [{"speed": 1.0, "vram_gib": 24}, {"speed": 0.5, "vram_gib": 24}]},
		"models": {"large": {"file_gb": 6, "vram_gib": 10, "seconds": 10}}, "sets": [{"model": "large", "count": 4}, {"t": 100, "model": "large", "count": 1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	competitors, err := Named([]string{"round-robin", "sed"})
	if err != nil {
		t.Fatal(err)
	}
	replay, err := ReplayAll(t.Context(), w, competitors)
	if err != nil {
		t.Fatal(err)
	}
	for i := range replay.Policies {
		if replay.Policies[i].DecisionUS <= 0 {
			t.Error("deciding took no time")
		}
		replay.Policies[i].DecisionUS = 0
	}
	raw, err := json.Marshal(replay)
	if err != nil {
		t.Fatal(err)
	}
	// Round robin: two on each, 5 + 40 s; the fifth where less memory is in use, which is the first. SED: three and one. The bound is
	// that of 30 s and 10 s on a warm box.
	want := `{"policies":[{"policy":"round-robin","sets":2,"mean_s":27.5,"p50_s":10,"p95_s":45,"p99_s":45,"makespan_s":110,"loads":2,"no_room":0,"lost":0,"doubled":0,"max_wait_s":25,"decision_us":0},` +
		`{"policy":"sed","sets":2,"mean_s":22.5,"p50_s":10,"p95_s":35,"p99_s":35,"makespan_s":110,"loads":2,"no_room":0,"lost":0,"doubled":0,"max_wait_s":25,"decision_us":0}],` +
		`"lower_bound":{"mean_s":20,"makespan_s":110}}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}

// A trace that is allowed can be played with every policy, or fails with a reason; it never hangs and never panics.
func FuzzTrace(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`{"box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "sd15"}], "warm": "sd15"}`))
	f.Add([]byte(`{"box": {"devices": [{"speed": 1, "vram_gib": 4}, {"speed": 9, "vram_gib": 4}]}, "sets": [{"model": "sd15", "count": 9}], "events": [{"device": 1, "kind": "busy", "compute": 1, "vram": 1, "for_s": 1e3}]}`))
	f.Add([]byte(`{"box": {}, "models": {"a": {"seconds": 0.001}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, _, err := ParseTrace(strings.NewReader(string(raw)))
		if err != nil {
			if w != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, world %v", err, w)
			}
			return
		}
		last := w.Sets[len(w.Sets)-1].At
		if w.images() > 40 || last > 2e3 || len(w.Disturbances) > 10 || w.longest() > 2e3 {
			return
		}
		for _, x := range w.Disturbances {
			if x.For > 2e3 || x.At > 2e3 {
				return
			}
		}
		if bound := LowerBound(w); !(bound.Mean >= 0) {
			t.Errorf("bound %+v", bound)
		}
		for _, c := range All() {
			r, err := Run(t.Context(), w, c)
			if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			if r.Made+r.Lost != w.images() {
				t.Errorf("%s: of %d images %d were made and %d lost", c.Name, w.images(), r.Made, r.Lost)
			}
		}
	})
}

func TestShapesTellTheirWork(t *testing.T) {
	t.Parallel()
	for _, seconds := range []float64{.1, 1.5, 3.9, 4, 6, 7, 20, 60, 1000} {
		s := shapeOf(seconds)
		told := (float64(s.steps) + tailSteps) * float64(s.width*s.height) / usualPixels / speedOfOne
		if off := told/seconds - 1; off < -.02 || off > .02 {
			t.Errorf("images of %g s are told as %d steps of %dx%d, which is %g s", seconds, s.steps, s.width, s.height, told)
		}
		if s.steps < 1 || s.width*s.height > 1<<20 || s.steps/s.stride > mostReports {
			t.Errorf("images of %g s: %+v", seconds, s)
		}
	}
	for i, want := range []shape{{20, 512, 512, 1}, {20, 1024, 1024, 1}} {
		if got := shapeOf(Models[i].Seconds); got != want {
			t.Errorf("%s: %v, want %v", Models[i].Name, got, want)
		}
	}
	if got := fmt.Sprint(shapeOf(20)); got != "{68 1024 1022 2}" {
		t.Errorf("flux: %s", got)
	}
}

func TestFieldsThatNoTraceHasAreTold(t *testing.T) {
	t.Parallel()
	trace := `{"name": "night", "box": {"devices": [{"speed": 1, "vram_gib": 12}]}, "sets": [{"model": "sd15"}]}`
	w, left, err := ParseTrace(strings.NewReader(trace))
	if err != nil || len(w.Box.Devices) != 1 || len(left) != 1 || !strings.Contains(left[0], "name") {
		t.Errorf("%+v, %q, %v", w, left, err)
	}
}
