package amdgpu

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
)

// names looks marketing names up in the tables that libdrm and hwdata install. It remembers what it found: the tables are
// large, and what a card is called doesn't change.
type names struct {
	found map[model]string
	pci   kernel.Names
}

// model is what amdgpu.ids tells cards apart by.
type model struct {
	product  uint64
	revision int // -1 when not known
}

type name struct{ text, source string }

var amdgpuIDs = []string{"usr/share/libdrm/amdgpu.ids", "opt/amdgpu/share/libdrm/amdgpu.ids", "usr/local/share/libdrm/amdgpu.ids"}

// card names an AMD card: product_name of its board, amdgpu.ids by device and revision, pci.ids, else its number.
func (n *names) card(t kernel.Tree, d kernel.PCIDevice) name {
	if d.Dir != "" {
		if product := t.Word(d.Dir, "product_name"); printable(product) {
			return name{product, "product_name"}
		}
	}
	if text := n.libdrm(t, d); text != "" {
		return name{text, "amdgpu.ids"}
	}
	if text := n.pci.Lookup(t, d); text != "" {
		if !strings.HasPrefix(text, "AMD ") {
			text = "AMD " + text
		}
		return name{text, "pci.ids"}
	}
	return name{fmt.Sprintf("AMD GPU 0x%04X", d.Product), telemetry.SourceDeviceNumber}
}

// libdrm gives the name in amdgpu.ids; "" when it has none.
func (n *names) libdrm(t kernel.Tree, d kernel.PCIDevice) string {
	key := model{d.Product, -1}
	if d.Revision != nil {
		key.revision = int(*d.Revision)
	}
	text, known := n.found[key]
	for i := 0; !known && text == "" && i < len(amdgpuIDs); i++ {
		if table, err := t.Big(amdgpuIDs[i], 1<<20); err == nil {
			text = lookupAMD(table, key.product, key.revision)
		}
	}
	n.found[key] = text
	return text
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
	device, ok3 := kernel.Hex(id)
	revision, ok4 := kernel.Hex(rev)
	text = strings.TrimSpace(text)
	return device, revision, text, ok1 && ok2 && ok3 && ok4 && device <= 0xffff && revision <= 0xff && printable(text)
}
