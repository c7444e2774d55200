package intel

import (
	"testing"

	"muster/agent/telemetry/kernel"
)

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
