package sim

import (
	"testing"
)

// The scheduler's own code drives the simulated machine: each is computed by hand, with a device of speed 1 and one of speed 0.5.
func TestPredictedByHand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		world *World
		want  float64
	}{
		{"cold, three on the fast one", tiny(1, .5).set(0, large, 4), 35},
		{"warm", tiny(1, .5).set(0, large, 4).warmed(large), 30},
		{"it waits for the fast one", tiny(1, .25).set(0, large, 2).warmed(large), 20},
		{"not on a device that is too small", func() *World { w := tiny(1, 8); w.Box.Devices[1].Memory = 1 << 30; return w.set(0, small, 2) }(), 10},
	} {
		if got := play(t, tt.world, "predicted").Times[0]; !near(got, tt.want) {
			t.Errorf("%s: %g s, want %g", tt.name, got, tt.want)
		}
	}
}

func TestPredictedThroughDisturbances(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		world *World
		most  float64 // seconds
		room  int     // dispatches without room at most
	}{
		{"a device dies during an image", tiny(1, 1).set(0, small, 2).with(Disturbance{At: 3, For: 500, Kind: Dead}), 15, 0},
		{"the only device dies and comes back", tiny(1).set(0, small, 1).with(Disturbance{At: 3, For: 10, Kind: Dead}), 30, 0},
		{"another program has filled a device for long", tiny(1, 1).set(5, large, 2).with(Disturbance{For: 500, Kind: Busy, Memory: .9}), 26, 0},
		{"what is loaded has room", tiny(1).set(5, small, 2).warmed(small).with(Disturbance{For: 500, Kind: Busy, Memory: .9}), 9, 0},
		{"another program comes between two looks", tiny(1, 1).set(5.5, large, 2).with(Disturbance{At: 5.4, For: 500, Kind: Busy, Memory: .9}), 30, 1},
	} {
		r := play(t, tt.world, "predicted")
		if got := r.Times[0]; got > tt.most || r.NoRoom > tt.room || r.Lost > 0 || r.Doubled > 0 {
			t.Errorf("%s: %g s, %d without room, %d lost, %d made twice; want at most %g s and %d", tt.name, got, r.NoRoom, r.Lost, r.Doubled, tt.most, tt.room)
		}
	}
}

// Predictions at submission are compared: without noise and with right priors they are right.
func TestForecast(t *testing.T) {
	t.Parallel()
	w := tiny(1)
	for i := range 8 {
		w.set(float64(100*i), small, 2)
	}
	r := play(t, w, "predicted")
	if len(r.ImageErrors) < 8 || len(r.SetErrors) < 4 {
		t.Fatalf("%d images and %d sets were compared", len(r.ImageErrors), len(r.SetErrors))
	}
	if worst := quantile(r.ImageErrors, 1); worst > .05 {
		t.Errorf("a prediction without noise is off by %.0f %%", 100*worst)
	}
}

func BenchmarkDecision(b *testing.B) {
	d := newDecider()
	for b.Loop() {
		d.next()
		d.decide()
	}
}

func BenchmarkPredictedTrace(b *testing.B) {
	w := Traffic(Boxes[0], .6, 100, 1, true)
	for b.Loop() {
		if _, err := Run(b.Context(), w, Predicted); err != nil {
			b.Fatal(err)
		}
	}
}
