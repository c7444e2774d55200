package history

import (
	"math"

	"muster/shared/gpu"
)

// The columns that are kept. The share of memory in use follows from memory and total.
const (
	utilization = iota
	memory
	temperature
	power
	coreClock
	memoryClock
	columns
)

var columnOf = map[gpu.Metric]int{
	gpu.MetricUtilization: utilization, gpu.MetricMemoryPercent: memory, gpu.MetricMemory: memory, gpu.MetricTemperature: temperature,
	gpu.MetricPower: power, gpu.MetricCoreClock: coreClock, gpu.MetricMemoryClock: memoryClock,
}

// span is what a column was over some time. The zero value is a time in which nothing was measured.
type span struct {
	min, mean, max float64
	count          int // of measurements
}

func once(v float64) span { return span{v, v, v, 1} }

// with is both times together. The mean is weighted by the number of measurements.
func (s span) with(o span) span {
	if o.count == 0 {
		return s
	}
	if s.count == 0 {
		return o
	}
	count := s.count + o.count
	least, most := min(s.min, o.min), max(s.max, o.max)
	mean := s.mean + (o.mean-s.mean)*float64(o.count)/float64(count)
	return span{min: least, mean: min(max(mean, least), most), max: most, count: count} // rounding may lead out of them
}

// row is what a device did in one slot of a tier: a stretch of time as long as the tier's step, number Slot since 1970.
type row struct {
	slot  int64
	total float64 // bytes of memory that the device has, the newest value; 0 when not reported
	spans [columns]span
}

func (r *row) empty() bool {
	for _, s := range r.spans {
		if s.count > 0 {
			return false
		}
	}
	return true
}

// merge adds what was measured in the same slot, later.
func (r *row) merge(later row) {
	if later.total > 0 {
		r.total = later.total
	}
	for i := range r.spans {
		r.spans[i] = r.spans[i].with(later.spans[i])
	}
}

// of gives the span of a metric; an empty one when it was not measured.
func (r *row) of(m gpu.Metric) span { return inUnitOf(m, r.spans[columnOf[m]], r.total) }

// inUnitOf turns a column into a metric.
func inUnitOf(m gpu.Metric, s span, total float64) span {
	if m != gpu.MetricMemoryPercent || s.count == 0 {
		return s
	}
	if total <= 0 {
		return span{}
	}
	share := 100 / total
	return span{min: s.min * share, mean: s.mean * share, max: s.max * share, count: s.count}
}

// values are one measurement: NaN where the driver reported nothing.
type values struct {
	columns [columns]float32
	total   float32 // bytes of memory that the device has; 0 when not reported
}

var nan = float32(math.NaN())

// valuesOf takes what is kept out of a reading; false when nothing of it was reported.
func valuesOf(d gpu.Device, r *gpu.Reading) (values, bool) {
	v := values{columns: [columns]float32{
		utilization: number(r.UtilizationPercent), memory: count(r.MemoryUsedBytes), temperature: number(r.TemperatureCelsius()),
		power: number(r.PowerWatts), coreClock: number(r.CoreClockMHz), memoryClock: number(r.MemoryClockMHz),
	}}
	total := r.MemoryTotalBytes
	if total == nil {
		total = d.MemoryBytes
	}
	if total != nil {
		v.total = float32(*total)
	}
	for _, c := range v.columns {
		if c == c {
			return v, true
		}
	}
	return v, false
}

// most is what no value in these units exceeds: a driver that says more says nothing.
const most = 1e18

func number(v *float64) float32 {
	if v == nil || !(math.Abs(*v) <= most) {
		return nan
	}
	return float32(*v)
}

func count(v *uint64) float32 {
	if v == nil || *v > most {
		return nan
	}
	return float32(*v)
}

// of gives a metric as a span of one measurement; an empty one when it was not reported.
func (v *values) of(m gpu.Metric) span {
	c := v.columns[columnOf[m]]
	if c != c {
		return span{}
	}
	return inUnitOf(m, once(float64(c)), float64(v.total))
}

// add counts a measurement in.
func (r *row) add(v values) {
	if v.total > 0 {
		r.total = float64(v.total)
	}
	for i, c := range v.columns {
		if c == c {
			r.spans[i] = r.spans[i].with(once(float64(c)))
		}
	}
}
