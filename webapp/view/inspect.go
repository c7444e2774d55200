package view

import (
	"strconv"
	"strings"

	"muster/shared/gpu"
)

// row is one value among a device's details.
type row struct {
	name  string
	value value
	note  string // what belongs to it: limits, what a zero means; "" for nothing
	other string // what sources say that disagree, or what is wrong; "" for nothing
	from  string // where the value comes from, or why it is absent
	quiet bool   // absent because the card has no such thing or cannot be read at all: no news to anybody
}

// subject is the rows of one subject.
type subject struct {
	name string
	rows []*row
}

// inspect puts all that is known of a device into words, without tables and history. It is pure.
func inspect(w *whence) []subject {
	return []subject{
		{"Load", w.load()}, {"Temperature and fan", w.heat()}, {"Power", w.watts()}, {"Clocks", w.clocks()},
		{"Memory", w.memory()}, {"Memory errors", w.errors()}, {"Connections", w.connections()}, {"About", w.about()},
	}
}

// row makes the row of a field; an empty text is an absent value.
func (w *whence) row(name, field, text string) *row {
	r := &row{name: name, value: w.value(field, text), other: w.disagreement(field), from: w.source(field)}
	if text == "" {
		r.from = r.value.why
		r.quiet = !w.reading.State.Usable() || w.reading.State == gpu.StateSuspended || w.why(field) == gpu.AbsentUnsupported
	}
	return r
}

// noted is a row with something to say beside a value that is there.
func (r *row) noted(note string) *row {
	if r.value.text != absent {
		r.note = note
	}
	return r
}

func (w *whence) load() []*row {
	r := w.reading
	return []*row{
		w.row("Utilisation", "utilization_percent", optional(r.UtilizationPercent, " %")),
		w.row("Memory activity", "memory_utilization_percent", optional(r.MemoryUtilizationPercent, " %")),
		w.row("Video encoder", "encoder_percent", optional(r.EncoderPercent, " %")),
		w.row("Video decoder", "decoder_percent", optional(r.DecoderPercent, " %")),
		w.row("Video engine", "media_percent", optional(r.MediaPercent, " %")),
		w.row("Slowed down by", "throttle_reasons", throttleWords(r.Throttle)),
	}
}

// throttleNames are the reasons as people say them, by the word of the API.
var throttleNames = map[string]string{
	"power": "its power limit", "thermal": "heat", "hardware": "the hardware's emergency brake", "current": "its current limit",
	"sync": "waiting for its sync group", "user": "clocks that somebody set", "other": "a reason that the driver does not name",
}

// throttleWords says what holds a device back; idling is no such thing. "" when it was not reported.
func throttleWords(t *gpu.Throttle) string {
	switch {
	case t == nil:
		return ""
	case *t&^gpu.ThrottleIdle == 0 && *t != 0:
		return "nothing: it is idle"
	case *t == 0:
		return "nothing"
	}
	var words []string
	for _, reason := range (*t &^ gpu.ThrottleIdle).Reasons() {
		words = append(words, throttleNames[reason])
	}
	return strings.Join(words, ", ")
}

func (w *whence) heat() []*row {
	r, limits := w.reading, w.limits()
	var rows []*row
	for i, t := range r.Temperatures {
		row := w.row(w.sensorName(t.Sensor), "temperatures", optional(&r.Temperatures[i].Celsius, " °C"))
		row.other = w.heatDisagreement(t.Sensor, i == 0)
		switch {
		case t.Sensor == gpu.SensorMemory && limits.MemoryCelsius != nil:
			row = row.noted("too hot from " + optional(limits.MemoryCelsius, " °C"))
		case i == 0:
			row = row.noted(thresholds(limits))
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		rows = append(rows, w.row("Temperature", "temperatures", ""))
	}
	rows = append(rows, w.row("Until it slows down", "thermal_margin_celsius", optional(w.details.ThermalMarginCelsius, " °C")))
	fan := optional(r.FanPercent, " %")
	if r.FanRPM != nil {
		fan += separated(fan, ", ") + optional(r.FanRPM, " rpm")
	}
	return append(rows, w.row("Fan", "fan_percent", fan))
}

func (w *whence) sensorName(s gpu.Sensor) string {
	switch {
	case s == gpu.SensorEdge && w.device.Vendor != gpu.AMD:
		return "GPU"
	case s == gpu.SensorJunction:
		return "Hottest spot"
	case s == gpu.SensorEdge:
		return "Edge"
	case s == gpu.SensorMemory:
		return "Memory"
	default:
		return string(s)
	}
}

func thresholds(l gpu.Limits) string {
	words := ""
	if l.SlowdownCelsius != nil {
		words = "slows down at " + optional(l.SlowdownCelsius, " °C")
	}
	if l.ShutdownCelsius != nil {
		words += separated(words, ", ") + "switches off at " + optional(l.ShutdownCelsius, " °C")
	}
	return words
}

func (w *whence) limits() gpu.Limits {
	if w.device.Limits == nil {
		return gpu.Limits{}
	}
	return *w.device.Limits
}

func (w *whence) watts() []*row {
	limits := w.limits()
	span := ""
	if limits.PowerMinWatts != nil && limits.PowerMaxWatts != nil {
		span = "settable from " + whole(*limits.PowerMinWatts) + " to " + optional(limits.PowerMaxWatts, " W")
	}
	if limits.PowerDefaultWatts != nil {
		span += separated(span, ", ") + "by default " + optional(limits.PowerDefaultWatts, " W")
	}
	rows := []*row{
		w.row("Draw", "power_watts", optional(w.reading.PowerWatts, " W")),
		w.row("Limit", "power_limit_watts", optional(w.reading.PowerLimitWatts, " W")).noted(span),
	}
	used := ""
	if w.details.EnergyJoules != nil {
		used = energy(*w.details.EnergyJoules)
	}
	return append(rows, w.row("Energy", "energy_joules", used).noted("since the driver was loaded"))
}

func (w *whence) clocks() []*row {
	r, limits := w.reading, w.limits()
	state := ""
	if r.PerformanceState != nil {
		state = "P" + strconv.Itoa(*r.PerformanceState)
	}
	return []*row{
		w.row("Core", "core_clock_mhz", ofMHz(r.CoreClockMHz, limits.CoreClockMHz)),
		w.row("Memory", "memory_clock_mhz", ofMHz(r.MemoryClockMHz, limits.MemoryClockMHz)),
		w.row("Performance state", "performance_state", state).noted("P0 is the fastest, P15 the slowest"),
	}
}

func ofMHz(now, most *float64) string {
	if now == nil || most == nil {
		return optional(now, " MHz")
	}
	return grouped(*now) + " of " + optional(most, " MHz")
}
