package telemetry

import (
	"fmt"
	"math"

	"muster/shared/gpu"
)

// compared are the fields of which two drivers' words are held against each other. Below the floor, in the unit of the field, a
// difference is one of moments and of rounding.
var compared = []struct {
	field string
	floor float64
	value func(*gpu.Reading) *float64
}{
	{"utilization_percent", 25, func(r *gpu.Reading) *float64 { return r.UtilizationPercent }},
	{"memory_total_bytes", 512 << 20, func(r *gpu.Reading) *float64 { return floated(r.MemoryTotalBytes) }},
	{"memory_used_bytes", 512 << 20, func(r *gpu.Reading) *float64 { return floated(r.MemoryUsedBytes) }},
	{"power_watts", 15, func(r *gpu.Reading) *float64 { return r.PowerWatts }},
	{"core_clock_mhz", 300, func(r *gpu.Reading) *float64 { return r.CoreClockMHz }},
	{"memory_clock_mhz", 300, func(r *gpu.Reading) *float64 { return r.MemoryClockMHz }},
}

// temperatureFloor is the floor of every sensor, in °C.
const temperatureFloor = 8

// disagreements holds the last readings of one device against the first, which is what is shown. Only values of this tick or the
// one before count, of devices that answer, and none that are suspect anyway.
func (s *Sampler) disagreements(readers []*worker) []gpu.Disagreement {
	var found []gpu.Disagreement
	var fresh []*worker
	for _, w := range readers {
		if s.isFresh(w) {
			fresh = append(fresh, w)
		}
	}
	if len(fresh) < 2 {
		return nil
	}
	for _, c := range compared {
		found = appendDisagreement(found, fresh, c.field, "", c.floor, c.value)
	}
	for _, sensor := range gpu.Sensors {
		found = appendDisagreement(found, fresh, "temperatures", sensor, temperatureFloor, func(r *gpu.Reading) *float64 {
			for i := range r.Temperatures {
				if r.Temperatures[i].Sensor == sensor {
					return &r.Temperatures[i].Celsius
				}
			}
			return nil
		})
	}
	return found
}

func (s *Sampler) isFresh(w *worker) bool {
	return !w.missing && w.state == gpu.StateOK && !w.measured.Before(s.tickAt.Add(-s.config.Interval))
}

// appendDisagreement lists the first value of a field with all that differ from it.
func appendDisagreement(to []gpu.Disagreement, readers []*worker, field string, sensor gpu.Sensor, floor float64, value func(*gpu.Reading) *float64) []gpu.Disagreement {
	var values []gpu.Sourced
	for _, w := range readers {
		v := value(&w.reading)
		if v == nil || w.reading.IsSuspect(field) || len(values) > 0 && !apart(values[0].Value, *v, floor) {
			continue
		}
		values = append(values, gpu.Sourced{Source: w.sourceOf(field, sensor), Value: *v})
	}
	if len(values) < 2 {
		return to
	}
	return append(to, gpu.Disagreement{Field: field, Values: values})
}

func apart(a, b, floor float64) bool {
	difference := math.Abs(a - b)
	return difference > floor && difference > gpu.DisagreementShare*max(math.Abs(a), math.Abs(b))
}

// sourceOf names where the worker's value of a field comes from: the reader, and its source where it says one.
func (w *worker) sourceOf(field string, sensor gpu.Sensor) string {
	source := w.reader
	if own := w.sources[field]; own != "" && own != w.reader {
		source += ": " + own
	}
	if sensor != "" {
		source = fmt.Sprintf("%s (%s)", source, sensor)
	}
	return source
}

func floated(v *uint64) *float64 {
	if v == nil {
		return nil
	}
	f := float64(*v)
	return &f
}
