package sim

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"muster/shared/gpu"
)

// A tiny world: times come out even. large takes 10 s and loads in 5 s, or 3 s when its file was read; small takes 4 s, loads in 2 s.
const large, small = 0, 1

func tiny(speeds ...float64) *World {
	w := &World{Box: box("tiny"), Warm: none, PriorError: 1, Stale: 1, Seed: 1}
	for _, s := range speeds {
		w.Box.Devices = append(w.Box.Devices, device(s, 24))
	}
	w.Models = []Model{{"large", 6e9, 10 * gpu.GiB, 10}, {"small", 0, 4 * gpu.GiB, 4}}
	return w
}

func (w *World) set(at float64, model, count int) *World {
	w.Sets = append(w.Sets, Set{at, model, count})
	return w
}

func (w *World) warmed(model int) *World {
	w.Warm = model
	return w
}

func (w *World) with(x Disturbance) *World {
	w.Disturbances = append(w.Disturbances, x)
	return w
}

func play(t *testing.T, w *World, policy string) *Result {
	t.Helper()
	c, err := Named([]string{policy})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), w, c[0])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

func TestDisturbances(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		world   *World
		seconds float64
		want    Result
	}{
		{"cold", tiny(1).set(0, large, 1), 15, Result{Loads: 1, Made: 1}},
		{"a second image is warm", tiny(1).set(0, large, 2), 25, Result{Loads: 1, Made: 2}},
		{"warm at first", tiny(1).set(0, large, 1).warmed(large), 10, Result{Made: 1}},
		{"the file was read by the other device", tiny(1, 1).set(0, large, 1).set(20, large, 2), 13, Result{Loads: 2, Made: 3}},
		{"half as fast", tiny(.5).set(0, small, 1), 10, Result{Loads: 1, Made: 1}},
		{"another program takes half for 4 s", tiny(1).set(0, small, 1).with(Disturbance{At: 2, For: 4, Kind: Busy, Compute: .5}), 8, Result{Loads: 1, Made: 1}},
		{"another program takes everything for 4 s", tiny(1).set(0, small, 1).with(Disturbance{At: 2, For: 4, Kind: Busy, Compute: 1}), 10, Result{Loads: 1, Made: 1}},
		{"two programs", tiny(1).set(0, small, 1).warmed(small).with(Disturbance{For: 99, Kind: Busy, Compute: .5}).with(Disturbance{For: 99, Kind: Busy, Compute: .5}), 16, Result{Made: 1}},
		{"loading is not slowed down", tiny(1).set(0, small, 1).with(Disturbance{For: 2, Kind: Busy, Compute: .5}), 6, Result{Loads: 1, Made: 1}},
		{"hot", tiny(1).set(0, small, 1).warmed(small).with(Disturbance{At: 1, For: 2, Kind: Hot, Speed: .5}), 5, Result{Made: 1}},
		// It dies at 3 s, is back at 13 s, and that is seen 1 s later.
		{"death", tiny(1).set(0, small, 1).with(Disturbance{At: 3, For: 10, Kind: Dead}), 20, Result{Loads: 2, Made: 1, Deaths: 1, Killed: 1}},
		{"death while loading", tiny(1).set(0, large, 1).with(Disturbance{At: 1, For: 1, Kind: Dead}), 18, Result{Loads: 2, Made: 1, Deaths: 1, Killed: 1}},
		{"death takes the model of an idle device", tiny(1).set(0, small, 1).set(20, small, 1).with(Disturbance{At: 10, For: 1, Kind: Dead}), 6, Result{Loads: 2, Made: 2, Deaths: 1}},
		{"a dead device refuses before it is known to be dead", tiny(1).set(2.5, small, 1).with(Disturbance{At: 2, For: 2, Kind: Dead}), 8.5, Result{Loads: 1, Made: 1, Deaths: 1}},
		// Dispatches at 0, 3 and 6 s find no room; the one at 9 s does.
		{"no room, before telemetry shows it", tiny(1).set(10.5, small, 1).with(Disturbance{At: 10.2, For: 4, Kind: Busy, Memory: .9}), 12, Result{Loads: 1, NoRoom: 2, Unseen: 1, Made: 1}},
		{"no room for a while", tiny(1).set(0, small, 1).with(Disturbance{For: 8, Kind: Busy, Memory: .9}), 15, Result{Loads: 1, NoRoom: 3, Made: 1}},
		{"no room for too long", tiny(1).set(0, small, 1).with(Disturbance{For: 99, Kind: Busy, Memory: .9}), 12, Result{NoRoom: 4, Lost: 1}},
		{"what is loaded stays", tiny(1).set(0, small, 2).warmed(small).with(Disturbance{For: 99, Kind: Busy, Memory: .9}), 8, Result{Made: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for i := range tt.world.Disturbances {
				if i > 0 && tt.world.Disturbances[i].At < tt.world.Disturbances[i-1].At {
					t.Fatal("disturbances must be in order")
				}
			}
			r := play(t, tt.world, Baseline)
			got := Result{Loads: r.Loads, NoRoom: r.NoRoom, Unseen: r.Unseen, Lost: r.Lost, Made: r.Made, Deaths: r.Deaths, Killed: r.Killed, Doubled: r.Doubled}
			if last := r.Times[len(r.Times)-1]; !near(last, tt.seconds) {
				t.Errorf("the last set took %g s: want %g", last, tt.seconds)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// spy looks at what a policy is shown, and calls what it wraps.
type spy struct {
	Policy
	look func(m *Machine)
	did  func(now float64, orders []Order)
}

func (s *spy) Notice(m *Machine, n Notice) {
	if s.look != nil {
		s.look(m)
	}
	s.Policy.Notice(m, n)
}

func (s *spy) Decide(m *Machine) ([]Order, float64) {
	orders, again := s.Policy.Decide(m)
	if s.did != nil && len(orders) > 0 {
		s.did(m.Now, orders)
	}
	return orders, again
}

func spied(c Competitor, s spy) Competitor {
	wrapped := c
	wrapped.New = func(w *World) Policy {
		s.Policy = c.New(w)
		return &s
	}
	return wrapped
}

func TestTelemetryIsWhatWasTrueAndLate(t *testing.T) {
	t.Parallel()
	w := tiny(1).set(0, small, 1).warmed(large)
	w.Disturbances = []Disturbance{{At: 2.5, For: 10, Kind: Busy, Compute: .5, Memory: .9}, {At: 20.5, For: 1, Kind: Dead}, {At: 30.5, For: 5, Kind: Hot, Speed: .5}}
	w.set(40, small, 1)
	w.Stale = 2
	seen := map[float64]Load{}
	var late []float64
	c, _ := Named([]string{Baseline})
	_, err := Run(t.Context(), w, spied(c[0], spy{look: func(m *Machine) {
		if m.Measured != nil {
			seen[m.Measured.At] = m.Measured.Devices[0]
			late = append(late, m.Now-m.Measured.At)
		}
	}}))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Min(late) < 2 || slices.Min(late) > 2+1e-9 {
		t.Errorf("measurements are %g s late at least: want 2", slices.Min(late))
	}
	total := w.Box.Devices[0].Memory
	other := uint64(.9 * float64(total))
	for at, want := range map[float64]Load{
		0:  {Used: 10 * gpu.GiB},                                         // before the set is given to it
		1:  {Used: 4 * gpu.GiB},                                          // loading
		2:  {Used: 4 * gpu.GiB, Utilization: 1},                          // working
		3:  {Used: total, Utilization: 1, Other: other, OtherShare: .5},  // no more than there is
		12: {Used: total, Utilization: .5, Other: other, OtherShare: .5}, // only the other program works
		13: {Used: 4 * gpu.GiB},                                          // it is gone
		21: {Lost: true},                                                 // dead
		22: {},                                                           // back, with nothing on it
		31: {Hot: true},
	} {
		if got := seen[at]; got != want {
			t.Errorf("at %g s it shows %+v: want %+v", at, got, want)
		}
	}
}

func TestTelemetryMayFreezeOrBeAbsent(t *testing.T) {
	t.Parallel()
	for _, telemetry := range []Telemetry{Frozen, Absent} {
		w := tiny(1).set(0, small, 1).set(100, small, 1)
		w.Telemetry = telemetry
		newest := -1.0
		c, _ := Named([]string{Baseline})
		_, err := Run(t.Context(), w, spied(c[0], spy{look: func(m *Machine) {
			if m.Measured != nil {
				newest = m.Measured.At
			}
		}}))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[Telemetry]float64{Frozen: frozenAt, Absent: -1}[telemetry]; newest != want {
			t.Errorf("%s: the newest measurement is of %g s: want %g", telemetry, newest, want)
		}
	}
}

// TestNoPolicySeesTheFuture plays two worlds that are the same until some time: what is done until then must be the same too.
func TestNoPolicySeesTheFuture(t *testing.T) {
	t.Parallel()
	const fork = 600.0
	one := Traffic(Boxes[0], .6, 60, 5, true)
	other := Traffic(Boxes[0], .6, 60, 5, true)
	for i := range other.Sets {
		if other.Sets[i].At > fork {
			other.Sets[i].Count, other.Sets[i].Model = 16, 0
		}
	}
	other.Disturbances = slices.DeleteFunc(other.Disturbances, func(x Disturbance) bool { return x.At > fork })
	for i := range other.Disturbances {
		if other.Disturbances[i].At+other.Disturbances[i].For > fork {
			other.Disturbances[i].For *= 3
		}
	}
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			record := func(w *World) (did []string) {
				_, err := Run(t.Context(), w, spied(c, spy{did: func(now float64, orders []Order) {
					if now < fork {
						did = append(did, fmt.Sprint(now, orders))
					}
				}}))
				if err != nil {
					t.Fatal(err)
				}
				return did
			}
			a, b := record(one), record(other)
			if len(a) == 0 || !slices.Equal(a, b) {
				t.Errorf("%d and %d decisions before the worlds differ, not the same ones", len(a), len(b))
			}
		})
	}
}

func TestTheSameSeedGivesTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			var results [2]*Result
			for i := range results {
				r, err := Run(t.Context(), Traffic(Boxes[3], .85, 60, 9, true), c)
				if err != nil {
					t.Fatal(err)
				}
				r.deciding = 0
				results[i] = r
			}
			if !reflect.DeepEqual(results[0], results[1]) {
				t.Error("two runs of one world differ")
			}
		})
	}
}

func TestEveryImageEndsOnce(t *testing.T) {
	t.Parallel()
	for _, c := range All() {
		for b := range Boxes {
			t.Run(c.Name+" "+Boxes[b].Name, func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(3) {
					w := Traffic(Boxes[b], Loads[seed%3], 50, seed, true)
					r, err := Run(t.Context(), w, c)
					if err != nil {
						t.Fatal(err)
					}
					if r.Made+r.Lost != w.images() || r.Doubled > 0 {
						t.Errorf("seed %d: of %d images %d were made, %d lost, %d made twice", seed, w.images(), r.Made, r.Lost, r.Doubled)
					}
					for i, at := range r.Times {
						if !(at > 0) {
							t.Errorf("seed %d: set %d took %g s", seed, i, at)
						}
					}
				}
			})
		}
	}
}

// lazy does nothing.
type lazy struct{}

func (lazy) Notice(*Machine, Notice)            {}
func (lazy) Decide(*Machine) ([]Order, float64) { return nil, never }

// hasty gives an order that can't be.
type hasty struct{ lazy }

func (hasty) Decide(*Machine) ([]Order, float64) { return []Order{{Act: Withdraw}}, never }

func TestPoliciesThatDoNotWorkAreTold(t *testing.T) {
	t.Parallel()
	for _, p := range []Policy{lazy{}, hasty{}} {
		if _, err := Run(t.Context(), tiny(1).set(0, small, 1), Competitor{Name: "broken", New: func(*World) Policy { return p }}); err == nil {
			t.Errorf("%T is accepted", p)
		}
	}
}
