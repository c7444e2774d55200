package telemetry

import (
	"math"
	"sync"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

const (
	historyWindow = 10 * time.Minute
	metrics       = 4 // utilization, memory, temperature, power: the columns of wire.Series
)

const (
	utilization = iota
	memoryUsed
	temperature
	power
)

var nan = float32(math.NaN())

// TemperaturePoint is one measured temperature.
type TemperaturePoint struct {
	Time    time.Time // UTC
	Celsius float64
}

// history keeps the last 10 minutes of every device, one float32 per metric and tick: 6 MB for 64 devices at 10 Hz. Series are
// found by Device.ID, so they survive a new numbering. Safe for several goroutines.
type history struct {
	interval time.Duration

	mu      sync.Mutex
	start   time.Time         // of the clock below, which is monotonic
	latest  time.Time         // the newest tick: the wall clock may be set meanwhile, so times are counted back from it
	ticks   []time.Duration   // ring: when each tick was, since start
	next    int               // position of the next tick
	count   int               // ticks held
	series  map[string]series // by Device.ID
	written map[string]time.Duration
}

// series has a ring per metric, as long as ticks.
type series [metrics][]float32

func newHistory(interval time.Duration) *history {
	return &history{
		interval: interval, ticks: make([]time.Duration, int(historyWindow/interval)+1),
		series: map[string]series{}, written: map[string]time.Duration{},
	}
}

// advance begins a tick, in which nothing is measured yet, and forgets devices of which nothing is left.
func (h *history) advance(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count == 0 {
		h.start = at
	}
	h.latest = at
	now := at.Sub(h.start)
	h.ticks[h.next] = now
	for id, s := range h.series {
		if now-h.written[id] > historyWindow {
			delete(h.series, id)
			delete(h.written, id)
			continue
		}
		for _, column := range s {
			column[h.next] = nan
		}
	}
	h.next = (h.next + 1) % len(h.ticks)
	h.count = min(h.count+1, len(h.ticks))
}

// record notes what a device measured in the tick that was begun last.
func (h *history) record(id string, r *gpu.Reading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.series[id]
	if !ok {
		for metric := range s {
			s[metric] = make([]float32, len(h.ticks))
			for i := range s[metric] {
				s[metric][i] = nan
			}
		}
		h.series[id] = s
	}
	at := (h.next + len(h.ticks) - 1) % len(h.ticks)
	h.written[id] = h.ticks[at]
	s[utilization][at] = single(r.UtilizationPercent)
	s[temperature][at] = single(r.TemperatureCelsius())
	s[power][at] = single(r.PowerWatts)
	if r.MemoryUsedBytes != nil && r.MemoryTotalBytes != nil && *r.MemoryTotalBytes > 0 {
		s[memoryUsed][at] = float32(float64(*r.MemoryUsedBytes) / float64(*r.MemoryTotalBytes) * 100)
	}
}

func single(v *float64) float32 {
	if v == nil {
		return nan
	}
	return float32(*v)
}

// each calls f for every tick of the last 10 minutes, oldest first, with its ring position and its age.
func (h *history) each(f func(at int, age time.Duration)) {
	if h.count == 0 {
		return
	}
	newest := h.ticks[(h.next+len(h.ticks)-1)%len(h.ticks)]
	for i := range h.count {
		at := (h.next + len(h.ticks) - h.count + i) % len(h.ticks)
		if age := newest - h.ticks[at]; age <= historyWindow {
			f(at, age)
		}
	}
}

// resample gives points means for each of the devices. "Now" is the newest tick, so that a window never begins with a hole at
// its end; a tick lies in the middle of its share of time, so that jitter does not move it into the neighbouring bucket.
func (h *history) resample(ids []string, window time.Duration, points int) wire.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	result := wire.History{Devices: []wire.Series{}}
	if points <= 0 || window <= 0 || h.count == 0 {
		return result
	}
	step := max((window/time.Duration(points) + time.Millisecond - 1).Truncate(time.Millisecond), time.Millisecond)
	result.StepMilliseconds = step.Milliseconds()
	result.Start = h.latest.UTC().Add(-step * time.Duration(points))
	half := min(step, h.interval) / 2
	for _, id := range ids {
		var columns [metrics]wire.Column
		for metric := range columns {
			columns[metric] = h.means(h.series[id][metric], step, half, points)
		}
		result.Devices = append(result.Devices, wire.Series{
			ID: id, UtilizationPercent: columns[utilization], MemoryUsedPercent: columns[memoryUsed],
			TemperatureCelsius: columns[temperature], PowerWatts: columns[power],
		})
	}
	return result
}

func (h *history) means(ring []float32, step, half time.Duration, points int) wire.Column {
	sums, counts := make(wire.Column, points), make([]int, points)
	if ring != nil {
		h.each(func(at int, age time.Duration) {
			bucket := points - 1 - int((age+half)/step)
			if value := float64(ring[at]); bucket >= 0 && !math.IsNaN(value) {
				sums[bucket] += value
				counts[bucket]++
			}
		})
	}
	for i, n := range counts {
		if n == 0 {
			sums[i] = math.NaN()
			continue
		}
		sums[i] /= float64(n)
	}
	return sums
}

func (h *history) temperatures(id string) []TemperaturePoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	points := []TemperaturePoint{}
	ring := h.series[id][temperature]
	if ring == nil {
		return points
	}
	h.each(func(at int, age time.Duration) {
		if c := float64(ring[at]); !math.IsNaN(c) {
			points = append(points, TemperaturePoint{h.latest.UTC().Add(-age), math.Round(c*100) / 100})
		}
	})
	return points
}
