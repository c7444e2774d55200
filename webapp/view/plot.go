package view

import (
	"math"
	"strconv"
	"time"

	"muster/shared/gpu"
	"muster/webapp/live"
)

// A plot is drawn into a box of plotWidth by plotHeight units; the box is stretched to its place.
const (
	plotWidth  = 600
	plotHeight = 160
)

// plotLines is how many parts the scale of a plot has.
const plotLines = 4

// plot gives the paths of the mean and of the band from least to most, over a stretch of time. Where
// nothing was recorded, or a step is left out, both have a gap. Both are "M0 0" when there is nothing to draw.
func plot(past live.Past, from, to time.Time, s scale) (line, band string) {
	l, b := []byte{}, []byte{}
	for start := 0; start < len(past.Times); {
		end := start
		for end < len(past.Times) && recorded(past, end) && (end == start || !apart(past, end)) {
			end++
		}
		if end > start {
			l, b = appendStretch(l, b, past, start, end, from, to, s)
		}
		start = max(end, start+1)
	}
	if len(l) == 0 {
		return "M0 0", "M0 0"
	}
	return string(l), string(b)
}

func recorded(past live.Past, i int) bool {
	return !math.IsNaN(past.Min[i]) && !math.IsNaN(past.Mean[i]) && !math.IsNaN(past.Max[i])
}

// apart says whether steps are missing before a point.
func apart(past live.Past, i int) bool {
	return past.StepSeconds > 0 && past.Times[i].Sub(past.Times[i-1]).Seconds() > 1.5*past.StepSeconds
}

// appendStretch draws points that belong together. One alone is drawn as long as a step is, so that it can be seen.
func appendStretch(l, b []byte, past live.Past, start, end int, from, to time.Time, s scale) (line, band []byte) {
	x := func(at time.Time, later float64) float64 {
		return plotWidth * max(0, min(1, (at.Sub(from).Seconds()+later)/max(1, to.Sub(from).Seconds())))
	}
	y := func(v float64) float64 {
		return plotHeight - max(0, min(1, (v-s.low)/(s.high-s.low)))*plotHeight
	}
	last := x(past.Times[end-1], past.StepSeconds)
	command := byte('M')
	for i := start; i < end; i++ {
		at := x(past.Times[i], 0)
		l, b = vertex(l, command, at, y(past.Mean[i])), vertex(b, command, at, y(past.Max[i]))
		command = 'L'
	}
	l, b = vertex(l, 'L', last, y(past.Mean[end-1])), vertex(b, 'L', last, y(past.Max[end-1]))
	b = vertex(b, 'L', last, y(past.Min[end-1]))
	for i := end - 1; i >= start; i-- {
		b = vertex(b, 'L', x(past.Times[i], 0), y(past.Min[i]))
	}
	return l, append(b, 'Z')
}

func vertex(b []byte, command byte, x, y float64) []byte {
	b = strconv.AppendFloat(append(b, command), x, 'f', 1, 64)
	return strconv.AppendFloat(append(b, ' '), y, 'f', 1, 64)
}

// extent gives the least and the most of what was recorded, and the mean over it; ok says that anything was.
func extent(past live.Past) (least, mean, most float64, ok bool) {
	least, most = math.Inf(1), math.Inf(-1)
	sum, count := 0.0, 0
	for i := range past.Times {
		if !recorded(past, i) {
			continue
		}
		least, most = min(least, past.Min[i]), max(most, past.Max[i])
		sum += past.Mean[i]
		count++
	}
	if count == 0 {
		return 0, 0, 0, false
	}
	return least, sum / float64(count), most, true
}

// plotScale gives round ends for a metric's scale: shares have 0 to 100, watts and clocks begin at 0, temperatures near the least.
func plotScale(m gpu.Metric, least, most float64) scale {
	switch m {
	case gpu.MetricUtilization, gpu.MetricMemoryPercent:
		return scale{0, 100}
	case gpu.MetricTemperature:
		low := 10 * math.Floor((least-2)/10)
		return scale{low, low + plotLines*roundStep((most+1-low)/plotLines)}
	default:
		return scale{0, plotLines * roundStep(most/plotLines)}
	}
}

// roundStep gives the least of 1, 2, 2.5 and 5 times a power of ten that is not smaller; 1 for what is not above 1.
func roundStep(v float64) float64 {
	if !(v > 1) || math.IsInf(v, 1) {
		return 1
	}
	power := 1.0
	for 10*power < v {
		power *= 10
	}
	for _, digit := range []float64{1, 2, 2.5, 5} {
		if digit*power >= v {
			return digit * power
		}
	}
	return 10 * power
}
