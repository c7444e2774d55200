package gpu

import (
	"math"
	"slices"
)

// Load is the share of a device's memory in use by all programs, 0 to 1. A device that can't be read counts as fully loaded.
func (r Reading) Load() float64 {
	if !r.readable() {
		return 1
	}
	return min(1, float64(*r.MemoryUsedBytes)/float64(*r.MemoryTotalBytes))
}

func (r Reading) readable() bool {
	return r.State.Usable() && r.MemoryTotalBytes != nil && r.MemoryUsedBytes != nil && *r.MemoryTotalBytes != 0
}

// OrderByLoad gives the positions of loads from least to most loaded; equal loads keep their order, NaN (a
// device that can't be read) comes last. None give an empty list.
func OrderByLoad(loads []float64) []Ref {
	order := make([]Ref, len(loads))
	for i := range order {
		order[i] = Ref(i)
	}
	slices.SortStableFunc(order, func(a, b Ref) int {
		switch la, lb := known(loads[a]), known(loads[b]); {
		case la < lb:
			return -1
		case la > lb:
			return 1
		default:
			return 0
		}
	})
	return order
}

// LeastLoaded gives the first of OrderByLoad; nil for none.
func LeastLoaded(loads []float64) *Ref {
	order := OrderByLoad(loads)
	if len(order) == 0 {
		return nil
	}
	return &order[0]
}

// known puts a device that can't be read behind one that is merely full.
func known(load float64) float64 {
	if math.IsNaN(load) {
		return math.Inf(1)
	}
	return load
}

// Loads gives Load of every device, in their order; NaN for a device that can't be read.
func (s Snapshot) Loads() []float64 {
	loads := make([]float64, len(s.GPUs))
	for i, r := range s.GPUs {
		loads[i] = r.Load()
		if !r.readable() {
			loads[i] = math.NaN()
		}
	}
	return loads
}

// Health is the word that the API gives a temperature.
type Health string

// Bounds of health by temperature in °C: below 60, 75, 85, and above.
const (
	HealthUnknown  Health = "unknown" // no reading
	HealthHealthy  Health = "healthy"
	HealthWarm     Health = "warm"
	HealthHot      Health = "hot"
	HealthCritical Health = "critical"
)

// HealthOf judges a temperature; nil gives HealthUnknown.
func HealthOf(celsius *float64) Health {
	switch {
	case celsius == nil:
		return HealthUnknown
	case *celsius < 60:
		return HealthHealthy
	case *celsius < 75:
		return HealthWarm
	case *celsius < 85:
		return HealthHot
	default:
		return HealthCritical
	}
}

// GiB is 2³⁰ bytes.
const GiB = 1 << 30

// RoundGiB gives bytes in GiB, rounded to two places, as every _gb value of the API is.
func RoundGiB(bytes uint64) float64 {
	return math.Round(float64(bytes)/GiB*100) / 100
}
