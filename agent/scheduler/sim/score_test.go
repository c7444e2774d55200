package sim

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	values := []float64{4, 1, 3, 2}
	for share, want := range map[float64]float64{0: 1, .25: 1, .5: 2, .51: 3, .95: 4, 1: 4} {
		if got := quantile(values, share); got != want {
			t.Errorf("quantile %g is %g: want %g", share, got, want)
		}
	}
	if quantile(nil, .5) != 0 || mean(nil) != 0 {
		t.Error("of nothing it is not 0")
	}
}

// The traffic is what the benchmark says.
func TestTraffic(t *testing.T) {
	t.Parallel()
	const sets, load = 40_000, .6
	w := Traffic(Boxes[0], load, sets, 3, false)
	counts, models, work := map[int]float64{}, map[int]float64{}, 0.0
	for _, s := range w.Sets {
		counts[s.Count]++
		models[s.Model]++
		work += float64(s.Count) * w.Models[s.Model].Seconds
	}
	about := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got/want-1) > .05 {
			t.Errorf("%s: %g, want %g", what, got, want)
		}
	}
	for n, share := range map[int]float64{4: .8, 1: .15, 16: .05} {
		about("sets of that size", counts[n]/sets, share)
	}
	for m, share := range Shares {
		about(w.Models[m].Name, models[m]/sets, share)
	}
	about("load", work/w.Sets[sets-1].At/w.Box.speed(), load)
	noise, squares := 0.0, 0.0
	works := w.works()
	i := 0
	for _, s := range w.Sets {
		for range s.Count {
			ratio := works[i] / w.Models[s.Model].Seconds
			noise += ratio
			squares += ratio * ratio
			i++
		}
	}
	n := float64(len(works))
	about("mean of the noise", noise/n, 1)
	about("its deviation", math.Sqrt(squares/n-noise/n*noise/n), .1)
	if small := Traffic(Boxes[2], load, 100, 3, false); len(small.Models) != 2 || len(w.Disturbances) > 0 {
		t.Errorf("on box two there are %d models; %d disturbances where there are none", len(small.Models), len(w.Disturbances))
	}
}

func TestDisturbedTraffic(t *testing.T) {
	t.Parallel()
	w := Traffic(Boxes[0], .3, 4000, 3, true)
	until := 2 * w.Sets[len(w.Sets)-1].At
	count := map[Kind]float64{}
	for i, x := range w.Disturbances {
		count[x.Kind]++
		if i > 0 && x.At < w.Disturbances[i-1].At {
			t.Fatal("they are not in order")
		}
	}
	for kind, want := range map[Kind]float64{Busy: until / 240, Dead: 4 * until / 1860, Hot: 4 * until / 660} {
		if got := count[kind]; math.Abs(got/want-1) > .15 {
			t.Errorf("%s: %g times, want about %g", kind, got, want)
		}
	}
	right := 0
	for d, p := range w.priors() {
		ratio := p / w.Box.Devices[d].Speed
		if !near(ratio, 3) && !near(ratio, 1.0/3) {
			t.Errorf("prior of device %d is wrong by %g", d, ratio)
		}
		if near(ratio, 1) {
			right++
		}
	}
	if right > 0 {
		t.Error("some priors are right")
	}
}

func TestScoringSeedsAreFresh(t *testing.T) {
	t.Parallel()
	tuning := map[uint64]bool{}
	for i := range 10_000 {
		tuning[Seeds{Tune: true}.seed(i)] = true
	}
	for i := range 10_000 {
		if tuning[Seeds{}.seed(i)] {
			t.Fatalf("seed %d is among those for tuning", i)
		}
	}
}

func TestScore(t *testing.T) {
	t.Parallel()
	competitors, err := Named([]string{Baseline, "sed", "predicted"})
	if err != nil {
		t.Fatal(err)
	}
	cases := []Case{{Box: Boxes[0], Load: .3}, {Box: Boxes[2], Load: .6, Disturbed: true}}
	scored, err := Score(t.Context(), cases, competitors, Seeds{Count: 3, Sets: 20, Tune: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range scored {
		s := &scored[i]
		for _, f := range s.Figures() {
			if r := s.Of(f.Policy); len(r.Times) != 60 || !(f.MeanS > 0) || !(f.P99S >= f.P95S && f.P95S >= f.P50S) {
				t.Errorf("%s: %+v of %d sets", s, f, len(r.Times))
			}
			if f.Policy == Baseline && (f.MeanToBaseline != 1 || f.P99ToBaseline != 1) {
				t.Errorf("%s: the baseline against itself: %+v", s, f)
			}
			if !s.Disturbed && f.MeanToBound < 1 {
				t.Errorf("%s: %s beats the bound: %g", s, f.Policy, f.MeanToBound)
			}
		}
		if _, other := s.BestOther((*Result).Mean); other == Predicted.Name || other == "" {
			t.Errorf("the best other is %q", other)
		}
	}
}
