package intel

import (
	"path/filepath"
	"testing"
)

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
