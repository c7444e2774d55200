package pool

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Hours are times of day. Each is half open: its start is in it, its end is not. One that ends before it starts goes over midnight.
type Hours []Span

// Span is one time of day, in minutes after midnight.
type Span struct{ From, To int }

const (
	day      = 24 * 60
	maxSpans = 8
)

// ParseHours reads "22:00-08:00" or "12:00-13:30, 22:00-08:00". "" is nil, which is always.
func ParseHours(text string) (Hours, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	parts := strings.SplitN(text, ",", maxSpans+1)
	if len(parts) > maxSpans {
		return nil, fmt.Errorf("at most %d times of day are allowed", maxSpans)
	}
	var hours Hours
	for _, part := range parts {
		from, to, ok := strings.Cut(strings.TrimSpace(part), "-")
		start, startErr := minutes(from)
		end, endErr := minutes(to)
		if !ok || startErr != nil || endErr != nil || start == day || start == end {
			return nil, fmt.Errorf("%.20q is no time of day: want 22:00-08:00, or several with commas", part)
		}
		hours = append(hours, Span{start, end})
	}
	return hours, nil
}

func minutes(text string) (int, error) {
	text = strings.TrimSpace(text)
	if text == "24:00" {
		return day, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, errors.New("no time of day")
	}
	return 60*t.Hour() + t.Minute(), nil
}

// Open says whether a time, in its own zone, lies within. nil is always open.
func (h Hours) Open(t time.Time) bool {
	if h == nil {
		return true
	}
	now := 60*t.Hour() + t.Minute()
	for _, s := range h {
		if s.From < s.To && now >= s.From && now < s.To || s.From > s.To && (now >= s.From || now < s.To) {
			return true
		}
	}
	return false
}

// Next gives the time after t, in its own zone, at which Open may change; the zero time when it never does.
func (h Hours) Next(t time.Time) time.Time {
	var next time.Time
	for _, s := range h {
		for _, edge := range []int{s.From, s.To} {
			for ahead := range 3 { // a day with a change of clocks may leave one out
				at := time.Date(t.Year(), t.Month(), t.Day()+ahead, edge/60, edge%60, 0, 0, t.Location())
				if at.After(t) && (next.IsZero() || at.Before(next)) {
					next = at
				}
			}
		}
	}
	return next
}
