package state

import "muster/shared/gpu"

// Totals is what the devices are together. A nil field means that no device reported it. Suspect values count as not reported.
type Totals struct {
	MemoryUsedBytes    *uint64
	MemoryTotalBytes   *uint64
	PowerWatts         *float64
	PowerLimitWatts    *float64 // of those that report draw and limit
	UtilizationPercent *float64 // mean over those that report it
	Utilized           int      // how many those are
	HottestCelsius     *float64
	Hottest            gpu.Ref // which device that is
	Unreadable         int     // devices whose state is neither ok nor suspended
}

// Totals sums the newest snapshot up. Values of devices that can't be read are left out: they are not of this moment.
func (s State) Totals() Totals {
	var t Totals
	if s.Snapshot == nil {
		return t
	}
	var utilization float64
	for i := range s.Snapshot.GPUs {
		r := &s.Snapshot.GPUs[i]
		if !r.State.Usable() {
			t.Unreadable++
			continue
		}
		t.add(gpu.Ref(i), r)
		if r.UtilizationPercent != nil && !r.IsSuspect("utilization_percent") {
			utilization += *r.UtilizationPercent
			t.Utilized++
		}
	}
	if t.Utilized > 0 {
		mean := utilization / float64(t.Utilized)
		t.UtilizationPercent = &mean
	}
	return t
}

func (t *Totals) add(ref gpu.Ref, r *gpu.Reading) {
	if r.MemoryUsedBytes != nil && r.MemoryTotalBytes != nil && !r.IsSuspect("memory_used_bytes") && !r.IsSuspect("memory_total_bytes") {
		addTo(&t.MemoryUsedBytes, *r.MemoryUsedBytes)
		addTo(&t.MemoryTotalBytes, *r.MemoryTotalBytes)
	}
	if r.PowerWatts != nil && !r.IsSuspect("power_watts") {
		addTo(&t.PowerWatts, *r.PowerWatts)
		if r.PowerLimitWatts != nil && !r.IsSuspect("power_limit_watts") {
			addTo(&t.PowerLimitWatts, *r.PowerLimitWatts)
		}
	}
	if c := r.TemperatureCelsius(); c != nil && !r.IsSuspect("temperatures") && (t.HottestCelsius == nil || *c > *t.HottestCelsius) {
		t.HottestCelsius, t.Hottest = c, ref
	}
}

func addTo[N uint64 | float64](sum **N, v N) {
	if *sum == nil {
		*sum = new(N)
	}
	**sum += v
}
