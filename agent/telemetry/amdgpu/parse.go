package amdgpu

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseNumber reads the decimal whole number of a sysfs or hwmon file, padding and white space allowed. Beyond ±2⁵³ it is
// refused, since no sensor counts so far.
func parseNumber(b []byte) (float64, bool) {
	v, err := strconv.ParseInt(string(trim(b)), 10, 64)
	if err != nil || v > 1<<53 || v < -1<<53 {
		return 0, false
	}
	return float64(v), true
}

// parseHex reads "0x1002", "1002" or "0x030000" of at most 64 bits.
func parseHex(s string) (uint64, bool) {
	v, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x"), 16, 64)
	return v, err == nil
}

// address is a PCI address.
type address struct {
	domain           uint32
	bus, dev, number uint8 // number is the function
}

// String gives "0000:1a:00.0".
func (a address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%d", a.domain, a.bus, a.dev, a.number)
}

// parseAddress takes "0000:1a:00.0"; the domain may have up to 8 digits.
func parseAddress(s string) (address, bool) {
	domain, rest, ok1 := strings.Cut(s, ":")
	bus, rest, ok2 := strings.Cut(rest, ":")
	dev, fn, ok3 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || !ok3 || len(domain) < 4 || len(bus) != 2 || len(dev) != 2 || len(fn) != 1 {
		return address{}, false
	}
	d, err1 := strconv.ParseUint(domain, 16, 32)
	b, err2 := strconv.ParseUint(bus, 16, 8)
	v, err3 := strconv.ParseUint(dev, 16, 5)
	f, err4 := strconv.ParseUint(fn, 8, 3)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return address{}, false
	}
	return address{uint32(d), uint8(b), uint8(v), uint8(f)}, true
}

// compare orders by domain, bus, device, function.
func (a address) compare(b address) int {
	key := func(x address) uint64 {
		return uint64(x.domain)<<24 | uint64(x.bus)<<16 | uint64(x.dev)<<8 | uint64(x.number)
	}
	switch ka, kb := key(a), key(b); {
	case ka < kb:
		return -1
	case ka > kb:
		return 1
	default:
		return 0
	}
}

// uevent is what a PCI device's uevent file says. Numbers are nil and texts "" where it doesn't.
type uevent struct {
	driver, slot                                string
	class, vendor, device, subVendor, subDevice *uint64
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
			if v, ok := parseHex(value); ok {
				u.class = &v
			}
		case "PCI_ID":
			u.vendor, u.device = parsePair(value)
		case "PCI_SUBSYS_ID":
			u.subVendor, u.subDevice = parsePair(value)
		}
	}
	return u
}

// parsePair reads "1002:6860".
func parsePair(s string) (vendor, device *uint64) {
	a, b, _ := strings.Cut(s, ":")
	v, ok1 := parseHex(a)
	d, ok2 := parseHex(b)
	if !ok1 || !ok2 || v > math.MaxUint16 || d > math.MaxUint16 {
		return nil, nil
	}
	return &v, &d
}

// parseStarredClock gives the current level of a pp_dpm_sclk or pp_dpm_mclk table in MHz: of the line that ends in "*",
// which may be the deep-sleep level "S:". No star, or stars on different clocks, give false.
func parseStarredClock(b []byte) (mhz float64, ok bool) {
	return agreed(b, func(level []byte) (float64, bool) {
		return leadingNumber(level, "mhz")
	})
}

type link struct {
	gigatransfers float64 // per second and lane
	width         int
}

// parseStarredLink gives the current level of a pp_dpm_pcie table, whose lines read "1: 8.0GT/s, x16 619Mhz *".
func parseStarredLink(b []byte) (link, bool) {
	return agreed(b, func(level []byte) (link, bool) {
		speed, rest, _ := bytes.Cut(level, []byte(","))
		rate, ok := leadingNumber(bytes.TrimSpace(speed), "gt/s")
		rest, hasX := bytes.CutPrefix(bytes.TrimSpace(rest), []byte("x"))
		if end := bytes.IndexByte(rest, ' '); end >= 0 {
			rest = rest[:end]
		}
		width, err := strconv.ParseUint(string(rest), 10, 8)
		return link{rate, int(width)}, ok && hasX && err == nil && width > 0
	})
}

// agreed parses every starred line of a pp_dpm table. Drivers star each level that equals the current value, so several stars
// are usual; when their values differ, none can be believed.
func agreed[T comparable](b []byte, parse func(level []byte) (T, bool)) (value T, ok bool) {
	for line := range bytes.Lines(trim(b)) {
		level, starred := bytes.CutSuffix(bytes.TrimSpace(line), []byte("*"))
		_, level, numbered := bytes.Cut(level, []byte(":"))
		if !starred || !numbered {
			continue
		}
		v, valid := parse(bytes.TrimSpace(level))
		if !valid || ok && v != value {
			return *new(T), false
		}
		value, ok = v, true
	}
	return value, ok
}

// leadingNumber reads "900Mhz" or "8.0GT/s": a number of at least 0 directly before the unit, in any case.
func leadingNumber(b []byte, unit string) (float64, bool) {
	end := 0
	for end < len(b) && (b[end] >= '0' && b[end] <= '9' || b[end] == '.') {
		end++
	}
	if len(b)-end < len(unit) || !bytes.EqualFold(b[end:end+len(unit)], []byte(unit)) {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(b[:end]), 64)
	return v, err == nil
}

// parseLinkSpeed reads current_link_speed: "16.0 GT/s PCIe".
func parseLinkSpeed(s string) (gigatransfers float64, ok bool) {
	number, unit, _ := strings.Cut(s, " ")
	v, err := strconv.ParseFloat(number, 64)
	return v, err == nil && strings.HasPrefix(unit, "GT/s")
}

// generation gives the PCI Express generation of a rate; 0 for a rate that none has.
func generation(gigatransfers float64) int {
	switch gigatransfers {
	case 2.5:
		return 1
	case 5:
		return 2
	case 8:
		return 3
	case 16:
		return 4
	case 32:
		return 5
	case 64:
		return 6
	default:
		return 0
	}
}
