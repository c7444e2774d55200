package intel

import (
	"path/filepath"
	"strconv"
	"strings"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// upstreamPorts are the switches on Arc cards, towards the slot: 4fa0 and 4fa1 of the A series, e2ff of the B series. Between
// them and the GPU there is one downstream port. The GPU's own link and the downstream port's are inside the chip and always
// say 2.5 GT/s, 1 lane.
var upstreamPorts = map[uint64]bool{0x4fa0: true, 0x4fa1: true, 0xe2ff: true}

// surveyLink finds the files of the link between card and slot. A card with a switch of its own shows none where that switch
// can't be seen, as in a virtual machine.
func (s *sensors) surveyLink(t kernel.Tree, dir string, ownSwitch bool, limits *gpu.Limits) {
	port := dir
	if upper := filepath.Dir(filepath.Dir(dir)); isUpstreamPort(t, upper) {
		port = upper
	} else if ownSwitch {
		return
	}
	have := open(t, port)
	generation, width := linkEnd(t, port)
	if port == dir && generation == 1 && width == 1 {
		return // no graphics card is that slow: it is a link inside the chip
	}
	s.linkSpeed, s.linkWidth = have("current_link_speed"), have("current_link_width")
	if g, w := linkEnd(t, filepath.Dir(port)); g > 0 && w > 0 {
		generation, width = min(generation, g), min(width, w)
	}
	set(&limits.PCIeGeneration, generation, generation > 0)
	set(&limits.PCIeWidth, width, width > 0)
}

func isUpstreamPort(t kernel.Tree, dir string) bool {
	if _, ok := kernel.ParseAddress(filepath.Base(dir)); !ok {
		return false
	}
	vendor, _ := kernel.Hex(t.Word(dir, "vendor"))
	product, _ := kernel.Hex(t.Word(dir, "device"))
	return vendor == kernel.VendorIntel && upstreamPorts[product]
}

// linkEnd gives the fastest link of one end; 0 for what it doesn't tell.
func linkEnd(t kernel.Tree, dir string) (generation, width int) {
	generation, _ = parseGeneration(t.Word(dir, "max_link_speed"))
	width, _ = parseWidth(t.Word(dir, "max_link_width"))
	return generation, width
}

// parseGeneration reads "16.0 GT/s PCIe" as PCI Express 4; false for "Unknown" and for rates that no generation has.
func parseGeneration(text string) (int, bool) {
	rate, unit, _ := strings.Cut(text, " ")
	if !strings.HasPrefix(unit, "GT/s") {
		return 0, false
	}
	generation, ok := map[string]int{"2.5": 1, "5.0": 2, "5": 2, "8.0": 3, "8": 3, "16.0": 4, "16": 4, "32.0": 5, "32": 5, "64.0": 6, "64": 6}[rate]
	return generation, ok
}

// parseWidth reads the number of lanes; false for 0 and for 255, which stand for no link.
func parseWidth(text string) (int, bool) {
	width, err := strconv.Atoi(text)
	return width, err == nil && width > 0 && width <= 32
}
