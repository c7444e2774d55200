package view

import (
	"strconv"
	"strings"

	"muster/shared/gpu"
)

// absenceWords say for people why a value is not there.
var absenceWords = map[gpu.Absence]string{
	gpu.AbsentUnsupported:  "not supported by this card or its driver",
	gpu.AbsentNoPermission: "no permission: this user may not read it",
	gpu.AbsentAsleep:       "asleep: reading it would wake the device",
	gpu.AbsentTimedOut:     "no answer from the driver",
	gpu.AbsentFailed:       "the driver answered with an error",
}

// whence knows where the values of one device come from, and why others are not there.
type whence struct {
	device  *gpu.Device
	reading *gpu.Reading
	details *gpu.Details
}

// why gives the reason for which a field has no value.
func (w *whence) why(field string) gpu.Absence {
	return gpu.WhyAbsent(*w.device, *w.details, w.reading.State, field)
}

// reason gives it in words.
func (w *whence) reason(field string) string {
	switch state := w.reading.State; state {
	case gpu.StateLost, gpu.StateDriverMismatch, gpu.StateNoDriver, gpu.StateUnsupported:
		badge, _ := stateWords(state)
		return "not readable: " + badge
	default:
		return absenceWords[w.why(field)]
	}
}

// suspicion is what the title of a suspect value says.
const suspicion = "The driver says so, but other values of this device contradict it. It is counted nowhere."

// value shows a field's text, with a question mark where it is suspect; an empty text is an absent value.
func (w *whence) value(field, text string) value {
	switch {
	case text == "":
		return value{absent, w.reason(field)}
	case w.reading.IsSuspect(field):
		return value{text + " ?", suspicion}
	default:
		return reported(text)
	}
}

// source names the driver, library or file that told a field; "" when it is not known.
func (w *whence) source(field string) string {
	for _, d := range w.details.Disagreements {
		if d.Field == field && len(d.Values) > 0 {
			return d.Values[0].Source
		}
	}
	return w.device.Sources[field]
}

// differs says what other sources tell of a field; "" when none tells something else.
func (w *whence) differs(field string) string {
	words := ""
	for _, d := range w.details.Disagreements {
		if d.Field != field || len(d.Values) < 2 {
			continue
		}
		for _, other := range d.Values[1:] {
			words += separated(words, ", ") + other.Source + " says " + inUnit(field, other.Value)
		}
	}
	return words
}

// units are the ends of field names and what stands behind their values.
var units = []struct{ end, unit string }{{"_percent", " %"}, {"_watts", " W"}, {"_mhz", " MHz"}, {"_celsius", " °C"}, {"temperatures", " °C"}, {"_rpm", " rpm"}}

// inUnit writes a value of that field as people read it.
func inUnit(field string, v float64) string {
	switch {
	case strings.HasSuffix(field, "_bytes") && v >= 0:
		return gib(uint64(v)) + " GiB"
	case strings.HasSuffix(field, "_joules"):
		return energy(v)
	}
	for _, u := range units {
		if strings.HasSuffix(field, u.end) {
			return grouped(v) + u.unit
		}
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// separated gives what to put before the next of several parts: nothing before the first.
func separated(before, separator string) string {
	if before == "" {
		return ""
	}
	return separator
}
