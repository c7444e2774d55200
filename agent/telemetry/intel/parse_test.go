package intel

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

func TestParseThrottle(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]gpu.Throttle{
		"none\n": 0, "pl1 pl2\n": gpu.ThrottlePower, "soc_thermal prochot\n\x00": gpu.ThrottleThermal | gpu.ThrottleHardware,
		"iccmax": gpu.ThrottleCurrent, "p0_freq": gpu.ThrottleOther, "something-new pl4": gpu.ThrottleOther | gpu.ThrottleCurrent,
	} {
		if got, ok := parseThrottle([]byte(text)); got != want || !ok {
			t.Errorf("%q: got %v, %v, want %v", text, got.Reasons(), ok, want.Reasons())
		}
	}
	for _, text := range []string{"", "\n", "\x00none"} {
		if got, ok := parseThrottle([]byte(text)); ok {
			t.Errorf("%q: got %v", text, got.Reasons())
		}
	}
}

func FuzzParseThrottle(f *testing.F) {
	f.Add([]byte("pl1 thermal\n"))
	f.Add([]byte("none\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := parseThrottle(b)
		if !ok && got != 0 || got&(gpu.ThrottleIdle|gpu.ThrottleSync|gpu.ThrottleUser) != 0 {
			t.Errorf("%q: got %v, %v", b, got.Reasons(), ok)
		}
	})
}

// Newer kernels tell all reasons in one file, others by a file each.
func TestThrottle(t *testing.T) {
	t.Parallel()
	const dir = "tile0/gt0/freq0/throttle/"
	for name, c := range map[string]struct {
		files map[string]string
		want  *gpu.Throttle
	}{
		"none":                  {map[string]string{}, ptr(gpu.Throttle(0))},
		"one":                   {map[string]string{"status": "1\n", "reason_pl1": "1\n"}, ptr(gpu.ThrottlePower)},
		"a bit mask":            {map[string]string{"status": "2048\n", "reason_thermal": "2\n"}, ptr(gpu.ThrottleThermal)},
		"of no name":            {map[string]string{"status": "1\n"}, ptr(gpu.ThrottleOther)},
		"one file for all":      {map[string]string{"reasons": "pl1 thermal\n"}, ptr(gpu.ThrottlePower | gpu.ThrottleThermal)},
		"that file is empty":    {map[string]string{"reasons": "", "status": "1\n", "reason_thermal": "1\n"}, ptr(gpu.ThrottleThermal)},
		"no status can be read": {map[string]string{"status": "\n"}, nil},
	} {
		m := newMachine(t)
		arc := m.battlemage()
		m.files(arc+"/"+dir, c.files)
		r, _ := m.reader()
		if got := read(t, r, battlemage).Throttle; (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestParseLink(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"2.5 GT/s PCIe": 1, "5.0 GT/s PCIe": 2, "5 GT/s": 2, "8.0 GT/s PCIe": 3, "16.0 GT/s PCIe": 4, "32.0 GT/s PCIe": 5,
		"64.0 GT/s PCIe": 6, "Unknown": 0, "Unknown speed": 0, "": 0, "7 GT/s": 0, "16.0 MT/s": 0, "16.0": 0} {
		if got, ok := parseGeneration(text); got != want || ok != (want > 0) {
			t.Errorf("%q: got %d, %v, want %d", text, got, ok, want)
		}
	}
	for text, want := range map[string]int{"1": 1, "8": 8, "16": 16, "0": 0, "255": 0, "-1": 0, "": 0, "x8": 0} {
		if got, ok := parseWidth(text); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, ok, want)
		}
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add("16.0 GT/s PCIe")
	f.Add("255")
	f.Fuzz(func(t *testing.T, text string) {
		if got, ok := parseGeneration(text); ok != (got >= 1 && got <= 6) {
			t.Errorf("generation %q: %d, %v", text, got, ok)
		}
		if got, ok := parseWidth(text); ok && (got < 1 || got > 32) {
			t.Errorf("width %q: %d", text, got)
		}
	})
}

// The link that counts is the one between card and slot.
func TestLink(t *testing.T) {
	t.Parallel()
	upper := "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0"
	for name, c := range map[string]struct {
		set               func(m machine, arc string)
		generation, width int // 0 for none
		most              int // generation
	}{
		"behind its own switch": {func(machine, string) {}, 4, 8, 4},
		"in a slower slot": {func(m machine, _ string) {
			m.file("sys/devices/pci0000:00/0000:00:01.0/max_link_speed", "8.0 GT/s PCIe\n")
		}, 4, 8, 3},
		"asleep at both ends": {func(m machine, _ string) {
			m.file(upper+"/current_link_speed", "Unknown\n")
			m.file(upper+"/current_link_width", "0\n")
		}, 0, 0, 4},
		"its switch can't be seen": {func(m machine, _ string) { m.file(upper+"/device", "0x1234\n") }, 0, 0, 0},
		"another card, without switch": {func(m machine, arc string) {
			m.file(upper+"/device", "0x1234\n")
			m.file(arc+"/uevent", "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:FFFE\n")
			m.bridge(arc, "0xfffe", "32.0", "16")
			m.bridge(filepath.Dir(arc), "0x5678", "16.0", "8")
		}, 5, 16, 4},
		"another card, with a link inside it": {func(m machine, arc string) {
			m.file(upper+"/device", "0x1234\n")
			m.file(arc+"/uevent", "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:FFFE\n")
		}, 0, 0, 0},
	} {
		m := newMachine(t)
		arc := m.battlemage()
		c.set(m, arc)
		r, found := m.reader()
		got := read(t, r, battlemage)
		value := func(v *int) int {
			if v == nil {
				return 0
			}
			return *v
		}
		most := device(t, found, battlemage).Limits.PCIeGeneration
		if value(got.PCIeGeneration) != c.generation || value(got.PCIeWidth) != c.width || value(most) != c.most {
			t.Errorf("%s: got generation %d, %d lanes, at most %d", name, value(got.PCIeGeneration), value(got.PCIeWidth), value(most))
		}
	}
}

// No id is of two families, and every card with a name of its own is of one with memory of its own.
func TestFamilies(t *testing.T) {
	t.Parallel()
	seen := map[uint16]bool{}
	for _, f := range families {
		for _, id := range f.ids {
			if seen[id] {
				t.Errorf("%04x is there twice", id)
			}
			seen[id] = true
		}
	}
	for id, name := range cardNames {
		if f, ok := familyOf(id); !ok || !f.discrete {
			t.Errorf("%04x %s: family %+v", id, name, f)
		}
	}
	d := kernel.PCIDevice{Address: kernel.Address{Device: 2}, Dir: "/sys/devices/pci0000:00/0000:00:02.0"}
	if !onProcessor(d) {
		t.Error("an unknown device at 00:02.0 is not integrated")
	}
	d.Dir = "/sys/devices/pci0000:00/0000:00:1c.0/0000:00:02.0"
	if onProcessor(d) {
		t.Error("one behind a bridge is")
	}
}

// What doctor is told names the device, what it costs and what mends it.
func TestExamine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			id    string
			query error
			used  bool
			set   func(m machine, dir string)
			want  []string // a part of each finding's text and of its mend, "text | mend"
		}{
			"all well":         {id: battlemage, used: true, want: []string{"read through the driver xe (in-tree 6.17.0) | "}},
			"integrated":       {id: integrated, used: true, want: []string{"read through the driver i915 | "}},
			"asleep":           {id: battlemage, set: func(m machine, dir string) { m.file(dir+"/power/runtime_status", "suspended\n") }, want: []string{"asleep | "}},
			"not in the group": {id: battlemage, query: &fs.PathError{Err: syscall.EACCES}, want: []string{"xe | ", "may not open /dev/dri/renderD129 | sudo usermod -aG render,video"}},
			"in a container":   {id: battlemage, query: &fs.PathError{Err: syscall.ENOENT}, want: []string{"xe | ", "/dev/dri/renderD129 is not there | --device /dev/dri"}},
			"not privileged":   {id: battlemage, want: []string{"xe | ", "only to processes with CAP_PERFMON | setcap cap_perfmon"}},
			"old kernel": {id: battlemage, used: true, set: func(m machine, dir string) { m.remove(dir + "/hwmon") },
				want: []string{"xe | ", "no sensors | Linux 6.8 or newer"}},
			"no temperature": {id: alchemist, used: true, set: func(m machine, _ string) {
				m.remove("sys/devices/pci0000:00/0000:00:06.0/0000:08:00.0/0000:09:01.0/0000:0a:00.0/hwmon/hwmon9/temp1_input")
			}, want: []string{"i915 | ", "no temperature | Linux 6.12 or newer"}},
			"engines not told": {id: battlemage, used: true, set: func(m machine, _ string) { m.client("7", "5", "renderD129", "drm-driver:\txe\n") },
				want: []string{"xe | ", "doesn't tell | Linux 6.11 or newer"}},
			"others hidden": {id: battlemage, used: true, set: func(m machine, _ string) { m.link("proc/self/ns/pid", "pid:[1]") },
				want: []string{"xe | ", "other users can't be seen | cap_sys_ptrace"}},
		} {
			m := newMachine(t)
			dir := m.battlemage()
			m.alchemist()
			m.integrated()
			if c.set != nil {
				c.set(m, dir)
			}
			r := New(m.root)
			r.query = func(string, string) (memory, error) {
				return memory{total: 1 << 33, used: 1 << 20, counted: c.used, shared: 1 << 33}, c.query
			}
			m.inventory(r)
			r.Read(t.Context(), c.id)
			time.Sleep(time.Second)
			r.Read(t.Context(), c.id)
			findings := slices.DeleteFunc(r.Examine(t.Context()), func(f telemetry.Finding) bool {
				return !strings.HasSuffix(f.Subject, strings.TrimPrefix(c.id, "pci-"))
			})
			if len(findings) != len(c.want) {
				t.Errorf("%s: got %+v", name, findings)
				continue
			}
			for i, f := range findings {
				text, mend, _ := strings.Cut(c.want[i], " | ")
				if !strings.Contains(f.Text, text) || !strings.Contains(f.Mend, mend) || (f.Level == telemetry.LevelOK) != (f.Mend == "" && f.Costs == "") {
					t.Errorf("%s: got %+v, want %q", name, f, c.want[i])
				}
			}
		}
	})
}

// A context that is done ends what has steps.
func TestDoneContext(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.battlemage()
	r, _ := m.reader()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Inventory(ctx); err == nil {
		t.Error("inventory: no error")
	}
	if findings := r.Examine(ctx); len(findings) > 0 {
		t.Errorf("examine: %v", findings)
	}
	if len(r.known()) != 1 {
		t.Error("a late inventory took the devices away")
	}
	if _, err := New("/does/not/exist").Inventory(context.Background()); err == nil {
		t.Error("no root: no error")
	}
}
