package view

import (
	"strconv"

	"muster/webapp/state"
)

// A trend is drawn into a box of trendWidth by trendHeight units, one unit a point: the last five minutes.
const (
	trendWidth  = 150
	trendHeight = 40
)

// scale is the range of values from the bottom to the top of the box.
type scale struct{ low, high float64 }

// scaleOf gives the range of a metric. Power's top is its limit, where it is known.
func scaleOf(m state.Metric, limitWatts *float64) scale {
	switch {
	case m == state.Heat:
		return scale{20, 100}
	case m == state.Power && limitWatts != nil && *limitWatts > 0:
		return scale{0, *limitWatts}
	case m == state.Power:
		return scale{0, 400}
	default:
		return scale{0, 100}
	}
}

// sparkline gives the paths of the line and of the area below it, the newest point at the right. Where nothing was reported the
// line has a gap. Both are empty when there is nothing to draw; an SVG path wants something, so they are "M0 0".
func sparkline(column []float32, s scale) (line, area string) {
	column = column[max(0, len(column)-trendWidth):]
	left := trendWidth - len(column)
	l, a := make([]byte, 0, 8*len(column)+8), make([]byte, 0, 8*len(column)+32)
	open := false
	for i, v := range column {
		x := left + i + 1
		if v != v {
			if open {
				a = closeArea(a, x-1)
			}
			open = false
			continue
		}
		y := height(float64(v), s)
		if !open {
			l, a = point(l, 'M', x-1, y), point(point(a, 'M', x-1, trendHeight), 'L', x-1, y)
			open = true
		}
		l, a = point(l, 'L', x, y), point(a, 'L', x, y)
	}
	if open {
		a = closeArea(a, trendWidth)
	}
	if len(l) == 0 {
		return "M0 0", "M0 0"
	}
	return string(l), string(a)
}

func height(v float64, s scale) float64 {
	share := (v - s.low) / (s.high - s.low)
	return trendHeight - max(0, min(1, share))*(trendHeight-1)
}

func point(b []byte, command byte, x int, y float64) []byte {
	b = strconv.AppendInt(append(b, command), int64(x), 10)
	return strconv.AppendFloat(append(b, ' '), y, 'f', 1, 64)
}

func closeArea(b []byte, x int) []byte { return append(point(b, 'L', x, trendHeight), 'Z') }
