package history

import (
	"math"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

const (
	// recentWindow is how long everything is kept at full rate.
	recentWindow = 10 * time.Minute
	// recentSlack is kept beyond it, so that a question for the last 10 minutes may take a moment to arrive.
	recentSlack = 15 * time.Second
)

// measurement is what a device reported at one moment of the store's clock.
type measurement struct {
	at time.Duration
	values
}

// recent is a ring of the newest measurements of one device.
type recent struct {
	ring  []measurement
	next  int // where the next one goes
	count int
}

func newRecent(interval time.Duration) recent {
	return recent{ring: make([]measurement, int((recentWindow+recentSlack)/interval)+2)}
}

func (r *recent) add(m measurement) {
	r.ring[r.next] = m
	r.next = (r.next + 1) % len(r.ring)
	r.count = min(r.count+1, len(r.ring))
}

// since gives what was measured at that moment of the clock or later, oldest first, to f.
func (r *recent) since(from time.Duration, f func(*measurement)) {
	for i := range r.count {
		m := &r.ring[(r.next+len(r.ring)-r.count+i)%len(r.ring)]
		if m.at >= from {
			f(m)
		}
	}
}

// means gives points means of equal length, the last of which ends now. A measurement lies in the middle of its share of time, so
// that jitter does not move it into the neighbouring mean.
func (r *recent) means(metric gpu.Metric, now, step, half time.Duration, points int) wire.Column {
	spans := make([]span, points)
	r.since(now-recentWindow, func(m *measurement) {
		if at := points - 1 - int((now-m.at+half)/step); at >= 0 && at < points {
			spans[at] = spans[at].with(m.of(metric))
		}
	})
	column := make(wire.Column, points)
	for i, s := range spans {
		column[i] = math.NaN()
		if s.count > 0 {
			column[i] = s.mean
		}
	}
	return column
}

// Window is the last window (at most 10 minutes) of those devices as points means of equal length, the last of which ends at the
// newest snapshot. NaN stands where nothing was measured; devices of which nothing is known have only such.
func (s *Store) Window(ids []string, window time.Duration, points int) wire.History {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := wire.History{Devices: []wire.Series{}}
	if points <= 0 || window <= 0 || s.latest.IsZero() {
		return result
	}
	step := max((window/time.Duration(points) + time.Millisecond - 1).Truncate(time.Millisecond), time.Millisecond)
	result.StepMilliseconds = step.Milliseconds()
	result.Start = s.latest.UTC().Add(-step * time.Duration(points))
	half := min(step, s.interval) / 2
	for _, id := range ids {
		var r recent
		if p := s.devices[id]; p != nil {
			r = p.recent
		}
		column := func(m gpu.Metric) wire.Column { return r.means(m, s.clock, step, half, points) }
		result.Devices = append(result.Devices, wire.Series{
			ID: id, UtilizationPercent: column(gpu.MetricUtilization), MemoryUsedPercent: column(gpu.MetricMemoryPercent),
			TemperatureCelsius: column(gpu.MetricTemperature), PowerWatts: column(gpu.MetricPower),
		})
	}
	return result
}

// Point is one measured temperature.
type Point struct {
	Time    time.Time // UTC
	Celsius float64   // rounded to hundredths
}

// Temperatures are all that was measured of one device in the last 10 minutes, oldest first; empty for unknown devices.
func (s *Store) Temperatures(id string) []Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	points := []Point{}
	if p := s.devices[id]; p != nil {
		p.recent.since(s.clock-recentWindow, func(m *measurement) {
			if t := m.of(gpu.MetricTemperature); t.count > 0 {
				points = append(points, Point{s.wall(m.at), round2(t.mean)})
			}
		})
	}
	return points
}

// wall gives the time of day of a moment of the clock, counted back from the newest snapshot: the time may have been set meanwhile.
func (s *Store) wall(at time.Duration) time.Time { return s.latest.UTC().Round(0).Add(at - s.clock) }

func round2(v float64) float64 { return math.Round(v*100) / 100 }
