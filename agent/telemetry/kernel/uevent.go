package kernel

import (
	"math"
	"strings"
)

// uevent is what a PCI device's uevent file says. Numbers are nil and texts "" where it doesn't.
type uevent struct {
	driver, slot                                  string
	class, vendor, product, subVendor, subProduct *uint64
}

// parseUevent reads lines KEY=value.
func parseUevent(text string) uevent {
	var u uevent
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "DRIVER":
			u.driver = value
		case "PCI_SLOT_NAME":
			u.slot = value
		case "PCI_CLASS":
			if v, ok := Hex(value); ok {
				u.class = &v
			}
		case "PCI_ID":
			u.vendor, u.product = parsePair(value)
		case "PCI_SUBSYS_ID":
			u.subVendor, u.subProduct = parsePair(value)
		}
	}
	return u
}

// parsePair reads "1002:6860".
func parsePair(s string) (vendor, product *uint64) {
	a, b, _ := strings.Cut(s, ":")
	v, ok1 := Hex(a)
	p, ok2 := Hex(b)
	if !ok1 || !ok2 || v > math.MaxUint16 || p > math.MaxUint16 {
		return nil, nil
	}
	return &v, &p
}
