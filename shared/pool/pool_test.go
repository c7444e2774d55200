package pool

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestHours(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		parsed, err := time.Parse("2006-01-02 15:04", "2026-11-23 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for _, tt := range []struct {
		hours, now string
		open       bool
		next       string // of the same day or the one after
	}{
		{"22:00-08:00", "23:30", true, "08:00"},
		{"22:00-08:00", "00:00", true, "08:00"},
		{"22:00-08:00", "08:00", false, "22:00"},
		{"22:00-08:00", "22:00", true, "08:00"},
		{"12:00-13:30, 22:00-24:00", "13:29", true, "13:30"},
		{"12:00-13:30,22:00-24:00", "13:30", false, "22:00"},
		{"12:00-13:30,22:00-24:00", "23:59", true, "00:00"},
		{"00:00-24:00", "00:00", true, "00:00"},
	} {
		hours, err := ParseHours(tt.hours)
		if err != nil {
			t.Errorf("%q: %v", tt.hours, err)
			continue
		}
		if got := hours.Open(at(tt.now)); got != tt.open {
			t.Errorf("%q at %s: open is %v", tt.hours, tt.now, got)
		}
		if got := hours.Next(at(tt.now)).Format("15:04"); got != tt.next {
			t.Errorf("%q at %s: changes next at %s, want %s", tt.hours, tt.now, got, tt.next)
		}
	}
	if hours, err := ParseHours(" "); err != nil || !hours.Open(at("12:00")) || !hours.Next(at("12:00")).IsZero() {
		t.Errorf("no hours are %v, %v: want always", hours, err)
	}
	for _, wrong := range []string{"22", "22:00", "8:00-9:00", "22:00-22:00", "24:00-08:00", "25:00-26:00", "22:00-08:00,", "x-y", strings.Repeat("01:00-02:00,", 8) + "01:00-02:00"} {
		if hours, err := ParseHours(wrong); err == nil {
			t.Errorf("%q is read as %v", wrong, hours)
		}
	}
}

// A day on which clocks are put forward has no 02:30: the next change is still found.
func TestHoursOverAChangeOfClocks(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zones here: %v", err)
	}
	hours, err := ParseHours("02:30-03:30")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Date(2026, 3, 29, 1, 0, 0, 0, zone)
	if next := hours.Next(before); !next.After(before) || next.Sub(before) > 3*time.Hour {
		t.Errorf("next change after %s is %s", before, next)
	}
}

func FuzzParseHours(f *testing.F) {
	for _, seed := range []string{"", "22:00-08:00", "00:00-24:00,01:00-02:00", "-", "24:00-24:00"} {
		f.Add(seed, int64(1790000000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		hours, err := ParseHours(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of %q has lines", text)
			}
			return
		}
		now := time.Unix(unix%(1<<33), 0).UTC()
		if next := hours.Next(now); hours != nil && (!next.After(now) || next.Sub(now) > 49*time.Hour) {
			t.Errorf("%q at %s: next is %s", text, now, next)
		}
		hours.Open(now)
	})
}

func TestControlIsChecked(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name    string
		control Control
		field   string // "" is valid
	}{
		{"nothing decided", Control{}, ""},
		{"everything", Control{Mode: Reserved, Until: &soon, Yield: true, MaxCelsius: new(80.0), MaxWatts: new(250.0), Hours: "22:00-08:00"}, ""},
		{"mode", Control{Mode: "asleep"}, "mode"},
		{"until without a mode", Control{Until: &soon}, "until"},
		{"cold", Control{MaxCelsius: new(29.0)}, "max_celsius"},
		{"not a number", Control{MaxCelsius: new(math.NaN())}, "max_celsius"},
		{"no power", Control{MaxWatts: new(0.0)}, "max_watts"},
		{"endless power", Control{MaxWatts: new(math.Inf(1))}, "max_watts"},
		{"hours", Control{Hours: "at night"}, "hours"},
	} {
		err := tt.control.Validate()
		var wrong *FieldError
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.field != "" && (!errors.As(err, &wrong) || wrong.Field != tt.field):
			t.Errorf("%s: got %v, want an error of field %s", tt.name, err, tt.field)
		}
	}
	if err := (Settings{MaxWatts: new(-1.0)}).Validate(); err == nil {
		t.Error("a negative budget of power is accepted")
	}
}

func TestControlEndsByItself(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	until := now.Add(time.Minute)
	c := Control{Mode: Reserved, Until: &until, Yield: true}
	if got := c.At(now); got.Mode != Reserved {
		t.Errorf("before its end it is %s", got.Mode)
	}
	if got := c.At(until); got.Mode != Active || got.Until != nil || !got.Yield {
		t.Errorf("at its end it is %+v", got)
	}
	if got := (Control{}).At(now); got.Mode != Active || !(Control{Mode: Active}).IsZero() || c.IsZero() {
		t.Errorf("the zero control is %+v", got)
	}
}
