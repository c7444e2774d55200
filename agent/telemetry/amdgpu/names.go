package amdgpu

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// names looks marketing names up in the tables that libdrm and hwdata install. It remembers what it found: the tables are
// large, and what a card is called doesn't change.
type names struct {
	t     tree
	found map[nameKey]name
}

type nameKey struct {
	vendor, device, subVendor, subDevice uint64
	revision                             int // -1 when not known
}

type name struct{ text, source string }

var (
	amdgpuIDs = []string{"usr/share/libdrm/amdgpu.ids", "opt/amdgpu/share/libdrm/amdgpu.ids", "usr/local/share/libdrm/amdgpu.ids"}
	pciIDs    = []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"}
)

// card names an AMD card: product_name of its board, amdgpu.ids by device and revision, pci.ids, else its number.
func (n *names) card(d pciDevice) name {
	if d.dir != "" {
		if product := n.t.word(d.dir, "product_name"); printable(product) {
			return name{product, "product_name"}
		}
	}
	key := nameKey{d.vendor, d.device, d.subVendor, d.subDevice, -1}
	if d.revision != nil {
		key.revision = int(*d.revision)
	}
	if known, ok := n.found[key]; ok {
		return known
	}
	found := n.lookupCard(key)
	n.found[key] = found
	return found
}

func (n *names) lookupCard(key nameKey) name {
	for _, path := range amdgpuIDs {
		if b, err := n.t.big(path, 1<<20); err == nil {
			if text := lookupAMD(b, key.device, key.revision); text != "" {
				return name{text, "amdgpu.ids"}
			}
		}
	}
	if text := n.lookupPCI(key); text != "" {
		if !strings.HasPrefix(text, "AMD ") {
			text = "AMD " + text
		}
		return name{text, "pci.ids"}
	}
	return name{fmt.Sprintf("AMD GPU 0x%04X", key.device), "PCI device id"}
}

// adapter names a display adapter of any maker.
func (n *names) adapter(d pciDevice) string {
	if d.vendor == vendorAMD {
		return n.card(d).text
	}
	key := nameKey{d.vendor, d.device, d.subVendor, d.subDevice, -1}
	if known, ok := n.found[key]; ok {
		return known.text
	}
	text := n.lookupPCI(key)
	if text == "" {
		text = d.fallbackName()
	} else if maker := makers[d.vendor]; !strings.Contains(text, maker) {
		text = maker + " " + text
	}
	n.found[key] = name{text, "pci.ids"}
	return text
}

func (n *names) lookupPCI(key nameKey) string {
	for _, path := range pciIDs {
		if b, err := n.t.big(path, 8<<20); err == nil {
			if text := lookupPCI(b, key); text != "" {
				return text
			}
		}
	}
	return ""
}

func printable(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// lookupAMD finds a name in amdgpu.ids. Without a revision (-1) a name counts only when all revisions share it.
func lookupAMD(table []byte, device uint64, revision int) string {
	common := ""
	for line := range bytes.Lines(table) {
		id, rev, text, ok := parseAMDLine(string(line))
		switch {
		case !ok || id != device:
		case rev == uint64(revision):
			return text
		case common == "" || common == text:
			common = text
		default:
			common = "\n" // revisions differ; no name is ever equal to this
		}
	}
	if revision >= 0 || common == "\n" {
		return ""
	}
	return common
}

// parseAMDLine reads "6860,	00,	AMD Radeon Instinct MI25"; false for comments, the version line and anything else.
func parseAMDLine(line string) (device, revision uint64, text string, ok bool) {
	line, _, _ = strings.Cut(line, "#")
	id, rest, ok1 := strings.Cut(line, ",")
	rev, text, ok2 := strings.Cut(rest, ",")
	device, ok3 := parseHex(id)
	revision, ok4 := parseHex(rev)
	text = strings.TrimSpace(text)
	return device, revision, text, ok1 && ok2 && ok3 && ok4 && device <= 0xffff && revision <= 0xff && printable(text)
}

// lookupPCI finds a name in pci.ids: of the board, else of the chip; of "Vega 10 [Radeon Instinct MI25]" the part in brackets.
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
			if inDevice = isHex(id, key.device); inDevice {
				chip = marketing(text)
			}
		case depth == 2 && inDevice && isHex(id, key.subVendor):
			board, text, _ := strings.Cut(text, " ")
			if isHex(board, key.subDevice) {
				return marketing(text)
			}
		}
	}
	return chip
}

func isHex(s string, want uint64) bool {
	v, ok := parseHex(s)
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
