package state

import "muster/shared/gpu"

// Totals is what the devices are together. A nil field means that no device reported it.
type Totals struct {
	MemoryUsedBytes    *uint64
	MemoryTotalBytes   *uint64
	PowerWatts         *float64
	PowerLimitWatts    *float64 // of those that report draw and limit
	UtilizationPercent *float64 // mean over those that report it
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
	var reporting int
	for i := range s.Snapshot.GPUs {
		r := &s.Snapshot.GPUs[i]
		if !r.State.Usable() {
			t.Unreadable++
			continue
		}
		if r.MemoryUsedBytes != nil && r.MemoryTotalBytes != nil {
			addTo(&t.MemoryUsedBytes, *r.MemoryUsedBytes)
			addTo(&t.MemoryTotalBytes, *r.MemoryTotalBytes)
		}
		if r.PowerWatts != nil {
			addTo(&t.PowerWatts, *r.PowerWatts)
			if r.PowerLimitWatts != nil {
				addTo(&t.PowerLimitWatts, *r.PowerLimitWatts)
			}
		}
		if r.UtilizationPercent != nil {
			utilization += *r.UtilizationPercent
			reporting++
		}
		if c := r.TemperatureCelsius(); c != nil && (t.HottestCelsius == nil || *c > *t.HottestCelsius) {
			t.HottestCelsius, t.Hottest = c, gpu.Ref(i)
		}
	}
	if reporting > 0 {
		mean := utilization / float64(reporting)
		t.UtilizationPercent = &mean
	}
	return t
}

func addTo[N uint64 | float64](sum **N, v N) {
	if *sum == nil {
		*sum = new(N)
	}
	**sum += v
}
