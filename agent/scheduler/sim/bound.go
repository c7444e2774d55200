package sim

import (
	"math"
	"slices"
)

// Bound is what no policy can beat in a world, whatever it knows.
type Bound struct {
	Mean     float64 // seconds of a set
	Makespan float64 // seconds until the last image is done
	// Exact says that some schedule reaches it, when nothing disturbs: each of the two by one of its own.
	Exact bool
}

// maxMixed is up to how many images that come at once the optimum is searched for.
const maxMixed = 8

// LowerBound gives a world's bound. What disturbs it is left out, which only makes it lower.
func LowerBound(w *World) Bound {
	works := w.works()
	together := !slices.ContainsFunc(w.Sets, func(s Set) bool { return s.At != w.Sets[0].At })
	switch {
	case len(w.Sets) == 0:
		return Bound{}
	case together && len(works) <= maxMixed:
		return mixedBound(w, works)
	case together && len(w.Sets) == 1:
		times := w.startTimes(w.Sets[0].Model)
		at := soonest(times, w.Box.Devices, works)
		return Bound{Mean: at, Makespan: w.Sets[0].At + at, Exact: w.Noise == 0}
	}
	return traceBound(w, works)
}

// startTimes gives by device when it can begin with images of the model on an empty box: after loading it, never when it does not
// fit. On an empty box every device loads at once if at all: to wait for a file that another one has read takes longer.
func (w *World) startTimes(model int) []float64 {
	times := make([]float64, len(w.Box.Devices))
	for d := range times {
		switch m := w.Models[model]; {
		case m.Memory > w.Box.Devices[d].Memory:
			times[d] = never
		case w.Warm != model:
			times[d] = w.Box.load(m, false)
		}
	}
	return times
}

// soonest gives when images can all be done by devices that start at those times: exactly when they are all the same work, else a
// bound: that of their k largest ones, taken as if all were as small as the k-th, for each k, or that of their sum.
func soonest(times []float64, devices []Device, works []float64) float64 {
	sorted := slices.Sorted(slices.Values(works))
	slices.Reverse(sorted)
	best := pooled(times, devices, total(works))
	for k := range sorted {
		if k+1 < len(sorted) && sorted[k+1] == sorted[k] {
			continue // with more of the same size the bound is higher
		}
		best = max(best, equalWorks(times, devices, k+1, sorted[k]))
	}
	return best
}

// equalWorks gives when n images of the same work can be done: the n-th soonest of all the times at which a device can be done with
// its first, second, third image.
func equalWorks(times []float64, devices []Device, n int, work float64) float64 {
	next := make([]float64, len(times))
	for d := range next {
		next[d] = times[d] + work/devices[d].Speed
	}
	at := 0.0
	for range n {
		d := 0
		for i := range next {
			if next[i] < next[d] {
				d = i
			}
		}
		at = next[d]
		next[d] += work / devices[d].Speed
	}
	return at
}

// pooled gives when work can be done that may be divided at will.
func pooled(times []float64, devices []Device, work float64) float64 {
	order := make([]int, 0, len(times))
	for d := range times {
		if times[d] < never {
			order = append(order, d)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		if times[a] < times[b] {
			return -1
		}
		return 1
	})
	speed, at := 0.0, 0.0
	for i, d := range order {
		if speed > 0 {
			if done := speed * (times[d] - at); done >= work {
				break
			}
			work -= speed * (times[d] - at)
		}
		speed, at = speed+devices[d].Speed, times[order[i]]
	}
	if speed == 0 {
		return never
	}
	return at + work/speed
}

func total(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum
}

// traceBound is the larger of what each set would take alone on an empty warm box, and of one server as fast as all devices
// together that always works on the set with the least left (SRPT).
func traceBound(w *World, works []float64) Bound {
	alone, last := 0.0, 0.0
	sizes := make([]float64, len(w.Sets))
	first := 0
	for i, s := range w.Sets {
		mine := works[first : first+s.Count]
		first += s.Count
		at := w.Optimum(s.Model, mine)
		alone += at
		last = max(last, s.At+at)
		sizes[i] = total(mine) / w.Box.speed()
	}
	mean, end := shortestRemaining(w.Sets, sizes)
	return Bound{Mean: max(alone/float64(len(w.Sets)), mean), Makespan: max(last, end)}
}

// Optimum is what a set takes at least when it is alone on a box where every device holds its model.
func (w *World) Optimum(model int, works []float64) float64 {
	times := make([]float64, len(w.Box.Devices))
	for d := range times {
		if w.Models[model].Memory > w.Box.Devices[d].Memory {
			times[d] = never
		}
	}
	return soonest(times, w.Box.Devices, works)
}

// optima gives Optimum by set.
func (w *World) optima() []float64 {
	works := w.works()
	at := make([]float64, len(w.Sets))
	first := 0
	for i, s := range w.Sets {
		at[i] = w.Optimum(s.Model, works[first:first+s.Count])
		first += s.Count
	}
	return at
}

// shortestRemaining gives the mean time of jobs on one server that always serves the one with the least left, and when it is done
// with all. No order has a smaller mean (Schrage 1968).
func shortestRemaining(sets []Set, sizes []float64) (mean, end float64) {
	type rest struct {
		left, came float64
	}
	var open []rest // a heap, the least left first
	now, sum := 0.0, 0.0
	sift := func() {
		for i := 0; ; {
			least := i
			for _, c := range [2]int{2*i + 1, 2*i + 2} {
				if c < len(open) && open[c].left < open[least].left {
					least = c
				}
			}
			if least == i {
				return
			}
			open[i], open[least] = open[least], open[i]
			i = least
		}
	}
	serve := func(until float64) {
		for len(open) > 0 && now < until {
			if span := until - now; open[0].left > span {
				open[0].left -= span
				now = until
				return
			}
			now += open[0].left
			sum += now - open[0].came
			open[0] = open[len(open)-1]
			open = open[:len(open)-1]
			sift()
		}
		if until < never {
			now = until
		}
	}
	for i, s := range sets {
		serve(s.At)
		open = append(open, rest{sizes[i], s.At})
		for c := len(open) - 1; c > 0 && open[c].left < open[(c-1)/2].left; c = (c - 1) / 2 {
			open[c], open[(c-1)/2] = open[(c-1)/2], open[c]
		}
	}
	serve(never)
	return sum / float64(max(1, len(sets))), math.Max(now, 0)
}
