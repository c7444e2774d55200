package sim

import (
	"math"
	"slices"
	"testing"
)

func TestOneSetByHand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		box   int
		model int
		count int
		warm  bool
		want  float64
	}{
		{0, 1, 4, true, 12},     // two on the fastest, one on each of the next two
		{0, 1, 4, false, 17.45}, // the same after 2 s + 6.9 GB at 2 GB/s
		{1, 1, 4, true, 6},
		{1, 1, 5, true, 12},
		{2, 1, 4, true, 24},       // on one of 12 GiB: the other one has 8
		{0, 2, 4, true, 40},       // not on the smallest
		{3, 0, 16, true, 5 * 1.5}, // 5+5+… : see the enumeration
		{2, 0, 1, false, 2 + 1.05 + 1.5},
	} {
		w := OneSet(Boxes[tt.box], Models[tt.model], tt.count, tt.warm)
		want := tt.want
		if tt.count == 16 {
			want = enumerate(w)
		}
		if got := LowerBound(w); !near(got.Mean, want) || !near(got.Makespan, want) || !got.Exact {
			t.Errorf("%s, %d of %s, warm %v: %+v, want %g", w.Box.Name, tt.count, w.Models[0].Name, tt.warm, got, want)
		}
	}
}

// enumerate tries how many images of the only set each device could make.
func enumerate(w *World) float64 {
	times := w.startTimes(0)
	var least func(d, left int) float64
	least = func(d, left int) float64 {
		if d == len(times) {
			if left > 0 {
				return never
			}
			return 0
		}
		best := never
		for n := 0; n <= left; n++ {
			at := 0.0
			if n > 0 {
				at = times[d] + float64(n)*w.Models[0].Seconds/w.Box.Devices[d].Speed
			}
			best = min(best, max(at, least(d+1, left-n)))
		}
		return best
	}
	return least(0, w.Sets[0].Count)
}

func TestOneSetIsTheEnumerated(t *testing.T) {
	t.Parallel()
	for _, b := range Boxes {
		for _, m := range Models {
			for _, warm := range []bool{false, true} {
				for _, n := range []int{1, 2, 3, 5, 9} {
					if len(b.fits(m)) == 0 {
						continue
					}
					w := OneSet(b, m, n, warm)
					if got, want := LowerBound(w).Makespan, enumerate(w); !near(got, want) {
						t.Errorf("%s, %d of %s, warm %v: %g, enumerated %g", b.Name, n, m.Name, warm, got, want)
					}
				}
			}
		}
	}
}

// force gives the least sum of the sets' times and the least makespan over every way to give images to devices in every order, each
// started at once.
func force(w *World) (sum, makespan float64) {
	works := w.works()
	var set, model []int
	for s, one := range w.Sets {
		for range one.Count {
			set, model = append(set, s), append(model, one.Model)
		}
	}
	sum, makespan = never, never
	queues := make([][]int, len(w.Box.Devices))
	var place func(left int)
	place = func(left int) {
		if left == 0 {
			last := make([]float64, len(w.Sets))
			for d := range queues {
				at, holds := 0.0, none
				if w.Warm != none && w.Models[w.Warm].Memory <= w.Box.Devices[d].Memory {
					holds = w.Warm
				}
				for _, i := range queues[d] {
					if holds != model[i] {
						at += w.Box.load(w.Models[model[i]], w.Warm == model[i])
						holds = model[i]
					}
					at += works[i] / w.Box.Devices[d].Speed
					last[set[i]] = max(last[set[i]], at)
				}
			}
			sum, makespan = min(sum, total(last)), min(makespan, slices.Max(last))
			return
		}
		i := left - 1 // every order comes up: it may be put before those that are there
		for d := range queues {
			if w.Models[model[i]].Memory > w.Box.Devices[d].Memory {
				continue
			}
			for at := range len(queues[d]) + 1 {
				queues[d] = slices.Insert(queues[d], at, i)
				place(left - 1)
				queues[d] = slices.Delete(queues[d], at, at+1)
			}
		}
	}
	place(len(works))
	return sum, makespan
}

func TestMixedIsTheLeast(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		w := Mixed(Boxes[seed%3], seed)
		for w.images() > 5 {
			w.Sets = w.Sets[:len(w.Sets)-1]
		}
		w.Noise = float64(seed%2) * .3
		w.Box.CachedRate = w.Box.ColdRate // force knows of no files that others have read
		sum, makespan := force(w)
		got := mixedBound(w, w.works())
		if !got.Exact || !near(got.Mean*float64(len(w.Sets)), sum) || !near(got.Makespan, makespan) {
			t.Errorf("seed %d: %+v, by force %g and %g", seed, got, sum/float64(len(w.Sets)), makespan)
		}
		w.Box.CachedRate *= 3
		if faster := mixedBound(w, w.works()); faster.Mean > got.Mean+1e-9 || faster.Makespan > got.Makespan+1e-9 {
			t.Errorf("seed %d: faster loading takes longer: %+v, before %+v", seed, faster, got)
		}
	}
}

// With two devices and one model, the second does best to wait until the first has read the file.
func TestMixedWaitsForAFileThatIsBeingRead(t *testing.T) {
	t.Parallel()
	w := tiny(1, 1)
	w.Models[large].File = 100e9 // 52 s cold, 18.7 s cached
	w.Models[small].Seconds = 40
	w.set(0, small, 1).set(0, large, 2)
	// The first reads large until 52 s and makes it until 62 s; the second makes small until 42 s, and could read from then until
	// 94 s. Instead it waits until 52 s.
	got := mixedBound(w, w.works())
	if want := min(52+2+100.0/6+10, 72.0); !near(got.Makespan, want) {
		t.Errorf("makespan %g: want %g", got.Makespan, want)
	}
}

func TestNoPolicyBeatsTheBound(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		worlds := []*World{Mixed(Boxes[seed%4], seed), Traffic(Boxes[seed%4], Loads[seed%3], 30, seed, seed%2 == 0), OneSet(Boxes[seed%4], Models[seed%2], int(1+seed%16), seed%3 == 0)}
		worlds[2].Noise = .2
		noisy := Mixed(Boxes[seed%4], seed)
		noisy.Noise = .2
		for n, w := range append(worlds, noisy) {
			bound := LowerBound(w)
			if !(bound.Mean > 0) || math.IsInf(bound.Mean, 0) || !(bound.Makespan > 0) {
				t.Fatalf("seed %d, world %d: bound %+v", seed, n, bound)
			}
			for _, c := range All() {
				r, err := Run(t.Context(), w, c)
				if err != nil {
					t.Fatal(err)
				}
				if r.Lost == 0 && (r.Mean() < bound.Mean-1e-6 || r.Makespan < bound.Makespan-1e-6) {
					t.Errorf("seed %d, world %d: %s has mean %g and makespan %g, the bound is %+v", seed, n, c.Name, r.Mean(), r.Makespan, bound)
				}
			}
		}
	}
}

func TestShortestRemainingByHand(t *testing.T) {
	t.Parallel()
	// 10 s at 0, 2 s at 1, 3 s at 2: the second is done at 3, the third at 6, the first at 15.
	mean, end := shortestRemaining([]Set{{At: 0}, {At: 1}, {At: 2}}, []float64{10, 2, 3})
	if !near(mean, (15+2+4)/3.0) || !near(end, 15) {
		t.Errorf("mean %g, end %g: want 7 and 15", mean, end)
	}
	if mean, end := shortestRemaining([]Set{{At: 5}}, []float64{1}); !near(mean, 1) || !near(end, 6) {
		t.Errorf("one late job: mean %g, end %g: want 1 and 6", mean, end)
	}
}

func TestPooled(t *testing.T) {
	t.Parallel()
	devices := []Device{{Speed: 1}, {Speed: 2}, {Speed: 1}}
	for _, tt := range []struct {
		times []float64
		work  float64
		want  float64
	}{
		{[]float64{0, 0, 0}, 8, 2},
		{[]float64{0, 5, never}, 3, 3},
		{[]float64{0, 5, never}, 11, 7},
		{[]float64{4, 5, 6}, 1, 5},
	} {
		if got := pooled(tt.times, devices, tt.work); !near(got, tt.want) {
			t.Errorf("from %v, work %g: %g, want %g", tt.times, tt.work, got, tt.want)
		}
	}
}

func BenchmarkMixedBound(b *testing.B) {
	worlds := make([]*World, 40)
	for i := range worlds {
		worlds[i] = Mixed(Boxes[i%4], uint64(i))
	}
	for i := 0; b.Loop(); i++ {
		LowerBound(worlds[i%len(worlds)])
	}
}
