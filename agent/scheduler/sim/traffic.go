package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// Traffic and disturbances of the benchmark.
const (
	serviceNoise = 0.1

	busyOn, busyOff         = 60.0, 180.0 // seconds that another program is on a device, and then on none
	busyCompute, busyMemory = 0.5, 0.4
	deathEvery, deathRepair = 1800.0, 60.0 // seconds, of one device
	hotEvery, hotFor        = 600.0, 60.0  // seconds, of one device
	hotSpeed                = 0.6
	wrongPriors             = 3.0
	telemetryLate           = 1.0
)

var (
	setCounts = []int{4, 1, 16}
	setShares = []float64{.8, .15, .05}
)

// Traffic gives the world of a scoring or tuning run: sets that come by chance (Poisson) to a cold box at a load, which is the
// seconds of images that are asked for in a second ÷ the summed speed.
func Traffic(box Box, load float64, sets int, seed uint64, disturbed bool) *World {
	w := &World{Box: box, Noise: serviceNoise, Seed: seed, Stale: telemetryLate, PriorError: 1, Warm: -1}
	var shares []float64
	for i, m := range Models {
		if len(box.fits(m)) > 0 {
			w.Models, shares = append(w.Models, m), append(shares, Shares[i])
		}
	}
	total, images := 0.0, 0.0
	seconds := 0.0
	for i, m := range w.Models {
		total += shares[i]
		seconds += shares[i] * m.Seconds
	}
	for i, n := range setCounts {
		images += setShares[i] * float64(n)
	}
	rate := load * box.speed() / (images * seconds / total)
	r := random(seed, trafficStream)
	at := 0.0
	for range sets {
		at += r.ExpFloat64() / rate
		w.Sets = append(w.Sets, Set{At: at, Model: draw(r, shares), Count: setCounts[draw(r, setShares)]})
	}
	if disturbed {
		w.PriorError = wrongPriors
		w.disturb(2 * at) // saturated runs last longer than their traffic
	}
	return w
}

// draw gives a position by weight.
func draw(r *rand.Rand, weights []float64) int {
	total := 0.0
	for _, w := range weights {
		total += w
	}
	at := r.Float64() * total
	for i, w := range weights {
		if at -= w; at < 0 {
			return i
		}
	}
	return len(weights) - 1
}

// disturb adds everything that the benchmark knows, up to a time: another program, which goes from device to device by chance, and
// deaths and heat of every device for itself.
func (w *World) disturb(until float64) {
	r := random(w.Seed, disturbanceStream)
	for at := r.Float64() * (busyOn + busyOff); at < until; at += busyOn + busyOff {
		d := r.IntN(len(w.Box.Devices))
		w.Disturbances = append(w.Disturbances, Disturbance{At: at, For: busyOn, Device: d, Kind: Busy, Compute: busyCompute, Memory: busyMemory})
	}
	for d := range w.Box.Devices {
		for at := r.ExpFloat64() * deathEvery; at < until; at += deathRepair + r.ExpFloat64()*deathEvery {
			w.Disturbances = append(w.Disturbances, Disturbance{At: at, For: deathRepair, Device: d, Kind: Dead})
		}
		for at := r.ExpFloat64() * hotEvery; at < until; at += hotFor + r.ExpFloat64()*hotEvery {
			w.Disturbances = append(w.Disturbances, Disturbance{At: at, For: hotFor, Device: d, Kind: Hot, Speed: hotSpeed})
		}
	}
	slices.SortStableFunc(w.Disturbances, func(a, b Disturbance) int { return cmp.Compare(a.At, b.At) })
}

// OneSet is a world in which a single set comes to an empty box.
func OneSet(box Box, model Model, count int, warm bool) *World {
	w := &World{Box: box, Models: []Model{model}, Sets: []Set{{Count: count}}, Seed: 1, Stale: telemetryLate, PriorError: 1, Warm: -1}
	if warm {
		w.Warm = 0
	}
	return w
}

// Mixed is a world in which two to four sets of different models, eight images at most, come to an empty box at once.
func Mixed(box Box, seed uint64) *World {
	w := &World{Box: box, Seed: seed, Stale: telemetryLate, PriorError: 1, Warm: -1}
	for _, m := range Models {
		if len(box.fits(m)) > 0 {
			w.Models = append(w.Models, m)
		}
	}
	r := random(seed, trafficStream)
	left := maxMixed
	for n := 2 + r.IntN(3); n > 0; n-- {
		count := left
		if n > 1 {
			count = 1 + r.IntN(left-n+1)
		}
		count = min(count, 4)
		w.Sets = append(w.Sets, Set{Model: r.IntN(len(w.Models)), Count: count})
		left -= count
	}
	if r.IntN(2) == 0 {
		w.Warm = r.IntN(len(w.Models))
	}
	return w
}
