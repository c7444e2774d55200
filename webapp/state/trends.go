package state

import (
	"math"
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// Metric is a value whose past a card can draw.
type Metric int

// The metrics that have a past, in the order of a Trend's columns.
const (
	Utilization Metric = iota // percent
	Memory                    // percent of the device's own memory in use
	Heat                      // °C
	Power                     // W
	metrics
)

// TrendStep is the least time between two points of a trend, and TrendPoints how many of them are kept: ten minutes.
const (
	TrendStep   = 2 * time.Second
	TrendPoints = 300
)

// Trend is the past of one device: a column per metric, oldest first, all of the same length. NaN is "not reported".
type Trend [metrics][]float32

// Trends is the past of all devices, by position in the inventory. The last point of each column ended at End.
type Trends struct {
	Step    time.Duration
	End     int64 // number of the open bucket, in steps since 1970; 0 when empty
	Devices []Trend
	ids     []string
	open    []bucket
}

// bucket gathers what comes before the next point.
type bucket struct {
	sum   [metrics]float64
	count [metrics]int
}

func (b *bucket) add(m Metric, v float64) {
	if !math.IsNaN(v) {
		b.sum[m] += v
		b.count[m]++
	}
}

func (b bucket) mean(m Metric) float32 {
	if b.count[m] == 0 {
		return float32(math.NaN())
	}
	return float32(b.sum[m] / float64(b.count[m]))
}

// fit keeps the past of devices that are still at their place, and starts empty for the others.
func (t Trends) fit(devices []gpu.Device) Trends {
	same := slices.EqualFunc(t.ids, devices, func(id string, d gpu.Device) bool { return id == d.ID })
	if same && len(t.Devices) == len(devices) {
		return t
	}
	next := Trends{Step: t.Step, End: t.End, Devices: make([]Trend, len(devices)), ids: make([]string, len(devices)), open: make([]bucket, len(devices))}
	length := t.length()
	for i, d := range devices {
		next.ids[i] = d.ID
		if old := slices.Index(t.ids, d.ID); old >= 0 && old < len(t.Devices) {
			next.Devices[i], next.open[i] = t.Devices[old], t.open[old]
			continue
		}
		for m := range next.Devices[i] {
			next.Devices[i][m] = absent(length)
		}
	}
	return next
}

// add puts a snapshot into the open bucket, and closes that one when its time is over.
func (t Trends) add(s *gpu.Snapshot) Trends {
	if t.Step <= 0 {
		t.Step = TrendStep
	}
	if len(t.Devices) != len(s.GPUs) {
		return t
	}
	if now := s.Time.UnixNano() / int64(t.Step); now != t.End {
		t = t.close(now)
	}
	t.open = slices.Clone(t.open)
	for i := range s.GPUs {
		for m, v := range measured(&s.GPUs[i]) {
			t.open[i].add(Metric(m), v)
		}
	}
	return t
}

// close appends the open bucket as a point, then as many absent points as buckets were skipped. A clock that went back, or
// further than the whole window, starts anew.
func (t Trends) close(now int64) Trends {
	skipped := now - t.End - 1
	restart := t.End == 0 || skipped < 0 || skipped >= TrendPoints
	devices := make([]Trend, len(t.Devices))
	for i, old := range t.Devices {
		for m := range old {
			if restart {
				continue
			}
			column := make([]float32, 0, len(old[m])+1+int(skipped))
			column = append(append(column, old[m]...), t.open[i].mean(Metric(m)))
			column = append(column, absent(int(skipped))...)
			devices[i][m] = column[max(0, len(column)-TrendPoints):]
		}
	}
	t.Devices, t.End, t.open = devices, now, make([]bucket, len(devices))
	return t
}

// recall replaces the past by what the agent remembers, where it knows the device.
func (t Trends) recall(h *wire.History, inventory *gpu.Inventory) Trends {
	step := time.Duration(h.StepMilliseconds) * time.Millisecond
	if inventory == nil || step <= 0 || len(h.Devices) == 0 {
		return t
	}
	if t.Step <= 0 {
		t.Step = TrendStep
	}
	t = t.fit(inventory.Devices)
	length := len(h.Devices[0].UtilizationPercent)
	bucketOf := func(i int) int64 { return h.Start.Add(time.Duration(i)*step).UnixNano() / int64(t.Step) }
	end := bucketOf(length)
	first := max(bucketOf(0), end-TrendPoints)
	points := int(end - first)
	if points <= 0 {
		return t
	}
	next := Trends{Step: t.Step, End: end, Devices: make([]Trend, len(t.Devices)), ids: t.ids, open: make([]bucket, len(t.Devices))}
	for i := range next.Devices {
		series := seriesOf(h, t.ids[i])
		for m := range next.Devices[i] {
			next.Devices[i][m] = resample(series[m], points, func(j int) int { return int(bucketOf(j) - first) })
		}
	}
	return next
}

// seriesOf gives a device's columns by metric; all nil when the history does not know it.
func seriesOf(h *wire.History, id string) [metrics]wire.Column {
	for _, s := range h.Devices {
		if s.ID == id {
			return [metrics]wire.Column{s.UtilizationPercent, s.MemoryUsedPercent, s.TemperatureCelsius, s.PowerWatts}
		}
	}
	return [metrics]wire.Column{}
}

// resample gives the mean of the values of each bucket; a bucket between two that have values takes the earlier one, since
// the agent's steps may be longer than ours.
func resample(column wire.Column, points int, bucketOf func(int) int) []float32 {
	buckets := make([]bucket, points)
	for i, v := range column {
		if at := bucketOf(i); at >= 0 && at < points {
			buckets[at].add(0, v)
		}
	}
	out := make([]float32, points)
	for i, b := range buckets {
		out[i] = b.mean(0)
	}
	if len(column) > 0 {
		fillBetween(out, 1+points/len(column))
	}
	return out
}

// fillBetween repeats a value over at most reach absent points that have a value behind them.
func fillBetween(column []float32, reach int) {
	last := -1
	for i, v := range column {
		if v != v {
			continue
		}
		if last >= 0 && i-last-1 <= reach {
			for j := last + 1; j < i; j++ {
				column[j] = column[last]
			}
		}
		last = i
	}
}

func (t Trends) length() int {
	if len(t.Devices) == 0 {
		return 0
	}
	return len(t.Devices[0][Utilization])
}

func absent(n int) []float32 {
	column := make([]float32, n)
	for i := range column {
		column[i] = float32(math.NaN())
	}
	return column
}

// measured gives a reading's values by metric, NaN for what was not reported or is suspect. A device that can't be read has
// none: its last values stand on the card with their age, but they are not of this moment.
func measured(r *gpu.Reading) [metrics]float64 {
	values := [metrics]float64{math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	if !r.State.Usable() {
		return values
	}
	if r.UtilizationPercent != nil && !r.IsSuspect("utilization_percent") {
		values[Utilization] = *r.UtilizationPercent
	}
	if r.MemoryUsedBytes != nil && r.MemoryTotalBytes != nil && *r.MemoryTotalBytes > 0 && !r.IsSuspect("memory_used_bytes") && !r.IsSuspect("memory_total_bytes") {
		values[Memory] = 100 * float64(*r.MemoryUsedBytes) / float64(*r.MemoryTotalBytes)
	}
	if c := r.TemperatureCelsius(); c != nil && !r.IsSuspect("temperatures") {
		values[Heat] = *c
	}
	if r.PowerWatts != nil && !r.IsSuspect("power_watts") {
		values[Power] = *r.PowerWatts
	}
	return values
}
