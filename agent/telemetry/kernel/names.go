package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
)

// Names looks names of PCI devices up in pci.ids, which hwdata installs. It remembers what it found: the table is large, and what
// a card is called doesn't change. The zero value is ready; it is not for several goroutines at once.
type Names struct{ found map[nameKey]string }

type nameKey struct{ vendor, product, subVendor, subProduct uint64 }

var pciIDs = []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"}

// Lookup gives the name in pci.ids: of the board, else of the chip, of "Vega 10 [Radeon Instinct MI25]" the part in brackets; ""
// when the table or the device isn't there.
func (n *Names) Lookup(t Tree, d PCIDevice) string {
	key := nameKey{d.Vendor, d.Product, d.SubVendor, d.SubProduct}
	if known, ok := n.found[key]; ok {
		return known
	}
	text := ""
	for _, path := range pciIDs {
		if table, err := t.Big(path, 8<<20); err == nil && text == "" {
			text = lookupPCI(table, key)
		}
	}
	if n.found == nil {
		n.found = map[nameKey]string{}
	}
	n.found[key] = text
	return text
}

// Adapter names a display adapter of any maker: by pci.ids with the maker before it, else the maker and the ids.
func (n *Names) Adapter(t Tree, d PCIDevice) string {
	maker := makers[d.Vendor]
	switch text := n.Lookup(t, d); {
	case text == "":
		if maker == "" {
			maker = "PCI"
		}
		return fmt.Sprintf("%s display adapter %04x:%04x", maker, d.Vendor, d.Product)
	case strings.Contains(text, maker):
		return text
	default:
		return maker + " " + text
	}
}

// makers name who builds display adapters.
var makers = map[uint64]string{
	VendorAMD: "AMD", VendorNVIDIA: "NVIDIA", VendorIntel: "Intel", 0x1013: "Cirrus Logic", 0x102b: "Matrox", 0x1234: "QEMU",
	0x1414: "Microsoft", 0x15ad: "VMware", 0x1a03: "ASPEED", 0x1af4: "virtio", 0x1b36: "Red Hat",
}

// lookupPCI finds a name in pci.ids.
func lookupPCI(table []byte, key nameKey) string {
	lines := bufio.NewScanner(bytes.NewReader(table))
	inVendor, inDevice, chip := false, false, ""
	for lines.Scan() {
		line := lines.Text()
		depth := len(line) - len(strings.TrimLeft(line, "\t"))
		id, text, _ := strings.Cut(line[depth:], " ")
		switch {
		case line == "" || line[0] == '#':
		case depth == 0:
			if inVendor {
				return chip
			}
			inVendor = isHex(id, key.vendor)
		case !inVendor:
		case depth == 1:
			if inDevice {
				return chip
			}
			if inDevice = isHex(id, key.product); inDevice {
				chip = marketing(text)
			}
		case depth == 2 && inDevice && isHex(id, key.subVendor):
			board, text, _ := strings.Cut(text, " ")
			if isHex(board, key.subProduct) {
				return marketing(text)
			}
		}
	}
	return chip
}

func isHex(s string, want uint64) bool {
	v, ok := Hex(s)
	return ok && v == want
}

func marketing(text string) string {
	if _, rest, ok := strings.Cut(text, "["); ok {
		if inner, _, ok := strings.Cut(rest, "]"); ok && inner != "" {
			text = inner
		}
	}
	return strings.TrimSpace(text)
}
