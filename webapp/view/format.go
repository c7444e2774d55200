package view

import (
	"strconv"
	"strings"
	"time"

	"muster/shared/gpu"
)

// absent stands on the page wherever a value was not reported. It is never a zero.
const absent = "—"

// gib writes bytes as GiB with two places, as the API's _gb values are: "5,097.44".
func gib(bytes uint64) string { return group(strconv.FormatFloat(gpu.RoundGiB(bytes), 'f', 2, 64)) }

// whole writes a number without places.
func whole(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }

// clock writes the time of day where the reader is, HH:MM:SS.
func clock(t time.Time) string { return t.Local().Format("15:04:05") }

// span writes a duration as people say it: "8 s", "3 min", "2 h 5 min", "4 d".
func span(d time.Duration) string {
	switch s := int64(d.Round(time.Second) / time.Second); {
	case s < 90:
		return strconv.FormatInt(max(0, s), 10) + " s"
	case s < 5400:
		return strconv.FormatInt((s+30)/60, 10) + " min"
	case s < 48*3600 && s%3600 < 60:
		return strconv.FormatInt(s/3600, 10) + " h"
	case s < 48*3600:
		return strconv.FormatInt(s/3600, 10) + " h " + strconv.FormatInt(s%3600/60, 10) + " min"
	default:
		return strconv.FormatInt(s/86400, 10) + " d"
	}
}

// seconds gives the duration of a number of seconds.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// plural writes a count with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// shorten cuts a text after so many runes, with an ellipsis.
func shorten(text string, runes int) string {
	n := 0
	for i := range text {
		if n == runes {
			return text[:i] + "…"
		}
		n++
	}
	return text
}

// grouped writes a whole number of at least 0 in groups of three digits: "1,240".
func grouped(v float64) string { return group(whole(v)) }

// group puts commas into the digits before the point.
func group(number string) string {
	digits, places, _ := strings.Cut(number, ".")
	out := ""
	for len(digits) > 3 {
		out = "," + digits[len(digits)-3:] + out
		digits = digits[:len(digits)-3]
	}
	if out = digits + out; places != "" {
		out += "." + places
	}
	return out
}

// energy writes joules as a meter would: "840 Wh", "12.4 kWh".
func energy(joules float64) string {
	const wattHour = 3600
	if joules < 1000*wattHour {
		return whole(joules/wattHour) + " Wh"
	}
	return group(strconv.FormatFloat(joules/(1000*wattHour), 'f', 1, 64)) + " kWh"
}

// optionalCount writes a count; "" when it was not reported.
func optionalCount(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}
