package main

import (
	"fmt"
	"time"

	"muster/shared/job"
)

// expectedWords says when something is predicted to be done: "in 40 s, 25 to 70 s"; "" when that is not known.
func expectedWords(e *job.Expected, now time.Time) string {
	if e == nil {
		return ""
	}
	at, early, late := e.At.Sub(now), max(e.Early.Sub(now), 0), max(e.Late.Sub(now), 0)
	if late < time.Second {
		return "any moment"
	}
	from, fromUnit := ahead(early)
	to, toUnit := ahead(late)
	if fromUnit != toUnit {
		from += " " + fromUnit
	}
	number, unit := ahead(max(at, time.Second))
	return fmt.Sprintf("in %s %s, %s to %s %s", number, unit, from, to, toUnit)
}

// ahead is a time to come as people say it.
func ahead(d time.Duration) (number, unit string) {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%.0f", d.Seconds()), "s"
	case d < 100*time.Minute:
		return fmt.Sprintf("%.0f", d.Minutes()), "min"
	default:
		return fmt.Sprintf("%.1f", d.Hours()), "h"
	}
}
