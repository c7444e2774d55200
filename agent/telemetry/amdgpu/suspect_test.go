package amdgpu

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestContradiction(t *testing.T) { // trap 30
	t.Parallel()
	stuck := observation{busy: 100, watts: 12, limit: 220, idle: 11, clock: 852, lowest: 852, clockKnown: true}
	with := func(change func(*observation)) observation {
		o := stuck
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		o    observation
		row  int // readings before that looked the same
		want bool
	}{
		"stuck":                       {stuck, 2, true},
		"for longer":                  {stuck, 50, true},
		"not for long enough":         {stuck, 1, false},
		"first":                       {stuck, 0, false},
		"core asleep":                 {with(func(o *observation) { o.clock = 26 }), 2, true},
		"core off":                    {with(func(o *observation) { o.clock = 0 }), 2, true},
		"busy 99":                     {with(func(o *observation) { o.busy = 99 }), 2, true},
		"busy 98":                     {with(func(o *observation) { o.busy = 98 }), 2, false},
		"engines move":                {with(func(o *observation) { o.moved = true }), 2, false},
		"clock above the lowest":      {with(func(o *observation) { o.clock = 991 }), 2, false},
		"clock not known":             {with(func(o *observation) { o.clockKnown = false }), 2, false},
		"lowest clock not known":      {with(func(o *observation) { o.lowest = 0 }), 2, false},
		"power not known":             {with(func(o *observation) { o.watts = 0 }), 2, false},
		"half the limit":              {with(func(o *observation) { o.watts = 110 }), 2, false},
		"below a quarter, above idle": {with(func(o *observation) { o.watts = 54 }), 2, true},
		"just a quarter":              {with(func(o *observation) { o.watts = 55 }), 2, false},
		"no limit, idle power":        {with(func(o *observation) { o.limit = 0 }), 2, true},
		"no limit, more than idle":    {with(func(o *observation) { o.limit, o.watts = 0, 14 }), 2, false},
		"never seen idle, no limit":   {with(func(o *observation) { o.limit, o.idle = 0, 0 }), 2, false},
		"never seen idle, limit":      {with(func(o *observation) { o.idle = 0 }), 2, true},
	} {
		if got := c.o.contradicts(c.row); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestStuckUtilisationIsSuspect(t *testing.T) { // trap 30
	t.Parallel()
	m, dir := detailed(t)
	m.file(dir+"/pp_dpm_sclk", "0: 852Mhz *\n1: 991Mhz \n")
	r := newReader(t, m)
	work := func(ns int) { m.opens("9", "3", "renderD128", fdinfoText("1", "1", fmt.Sprint(ns), "0")) }
	suspect := []string{"utilization_percent"}
	for i, step := range []struct {
		busy, watts, clock string
		do                 func()
		want               []string
	}{
		{"0", "8000000", "26000000", func() {}, nil},
		{"100", "8000000", "26000000", func() { work(1000) }, nil},
		{"100", "8000000", "26000000", func() {}, nil},
		{"100", "8000000", "26000000", func() {}, suspect},
		{"100", "8000000", "26000000", func() { inventory(t, r) }, suspect},
		{"100", "8000000", "26000000", func() { work(2000) }, nil}, // an engine works: it may be true
		{"100", "8000000", "26000000", func() {}, nil},
		{"100", "8000000", "26000000", func() {}, nil},
		{"100", "8000000", "26000000", func() {}, suspect},
		{"100", "180000000", "991000000", func() {}, nil},
		{"100", "8000000", "26000000", func() {}, nil},
	} {
		m.file(dir+"/gpu_busy_percent", step.busy+"\n")
		m.file(dir+"/hwmon/hwmon4/power1_average", step.watts+"\n")
		m.file(dir+"/hwmon/hwmon4/freq1_input", step.clock+"\n")
		step.do()
		reading := read(t, r, mi25ID)
		if diff := cmp.Diff(step.want, reading.Suspect); diff != "" || reading.UtilizationPercent == nil {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

// A sensor that once said something else is believed at 0 °C; one that never did is none.
func TestZeroDegrees(t *testing.T) { // trap 28
	t.Parallel()
	m := newMachine(t)
	dir := m.plain(mi25, "0")
	m.file(dir+"/hwmon/hwmon4/temp3_input", "0\n")
	r := newReader(t, m)
	for i, step := range []struct {
		edge, memory string
		want         string
	}{
		{"38000", "0", "[{edge 38} {junction 41}]"}, {"0", "0", "[{edge 0} {junction 41}]"}, {"38000", "1000", "[{edge 38} {junction 41} {memory 1}]"},
		{"38000", "0", "[{edge 38} {junction 41} {memory 0}]"},
	} {
		m.file(dir+"/hwmon/hwmon4/temp1_input", step.edge+"\n")
		m.file(dir+"/hwmon/hwmon4/temp3_input", step.memory+"\n")
		if got := fmt.Sprint(read(t, r, mi25ID).Temperatures); got != step.want {
			t.Errorf("step %d: got %s, want %s", i, got, step.want)
		}
	}
	cold := newMachine(t)
	dir = cold.plain(mi25, "0")
	for _, name := range []string{"temp1_input", "temp2_input", "temp3_input"} {
		cold.file(dir+"/hwmon/hwmon4/"+name, "0\n")
	}
	if _, reading := cold.only(); len(reading.Temperatures) != 3 {
		t.Errorf("all at 0 °C: got %v, want them believed", reading.Temperatures)
	}
}
