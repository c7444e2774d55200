package view

import (
	"slices"
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
func (w *whence) source(field string) string { return w.device.Sources[field] }

// disagreement says what each source tells of a field on which they differ; "" when they agree.
func (w *whence) disagreement(field string) string {
	for i := range w.details.Disagreements {
		if d := &w.details.Disagreements[i]; d.Field == field {
			return sayings(d)
		}
	}
	return ""
}

// heatDisagreement is that of one sensor: the source names it. One that names none is told of the first.
func (w *whence) heatDisagreement(sensor gpu.Sensor, first bool) string {
	for i := range w.details.Disagreements {
		d := &w.details.Disagreements[i]
		if d.Field != "temperatures" || len(d.Values) == 0 {
			continue
		}
		named := slices.ContainsFunc(gpu.Sensors, func(s gpu.Sensor) bool { return strings.HasSuffix(d.Values[0].Source, string(s)) })
		if strings.HasSuffix(d.Values[0].Source, string(sensor)) || !named && first {
			return sayings(d)
		}
	}
	return ""
}

func sayings(d *gpu.Disagreement) string {
	words := make([]string, len(d.Values))
	for i, v := range d.Values {
		words[i] = v.Source + " says " + inUnit(d.Field, v.Value)
	}
	return strings.Join(words, ", ")
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
