package amdgpu

import (
	"bytes"
	"strconv"
	"strings"

	"muster/agent/telemetry/kernel"
)

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
	return agreed(b, parseLink)
}

// parseLink reads "8.0GT/s, x16 619Mhz".
func parseLink(level []byte) (link, bool) {
	speed, rest, _ := bytes.Cut(level, []byte(","))
	rate, ok := leadingNumber(bytes.TrimSpace(speed), "gt/s")
	rest, hasX := bytes.CutPrefix(bytes.TrimSpace(rest), []byte("x"))
	if end := bytes.IndexByte(rest, ' '); end >= 0 {
		rest = rest[:end]
	}
	width, err := strconv.ParseUint(string(rest), 10, 8)
	if !ok || !hasX || err != nil || width == 0 {
		return link{}, false
	}
	return link{rate, int(width)}, true
}

// clockLevels gives the first level, which is the lowest that work is done at, and the highest of a pp_dpm_sclk or pp_dpm_mclk
// table in MHz. The deep-sleep level "S:" is none. false when no level is above 0.
func clockLevels(b []byte) (first, highest float64, ok bool) {
	for line := range bytes.Lines(kernel.Trim(b)) {
		number, level, numbered := bytes.Cut(line, []byte(":"))
		mhz, valid := leadingNumber(bytes.TrimSpace(level), "mhz")
		if !numbered || !valid || bytes.EqualFold(bytes.TrimSpace(number), []byte("s")) {
			continue
		}
		if string(bytes.TrimSpace(number)) == "0" {
			first = mhz
		}
		highest = max(highest, mhz)
	}
	return first, highest, highest > 0
}

// fastestLevel gives the fastest level of a pp_dpm_pcie table, and of equally fast ones the widest; zero when it has none.
func fastestLevel(b []byte) (best link) {
	for line := range bytes.Lines(kernel.Trim(b)) {
		_, level, _ := bytes.Cut(bytes.TrimSpace(bytes.TrimRight(line, "* \n")), []byte(":"))
		l, ok := parseLink(bytes.TrimSpace(level))
		if ok && (l.gigatransfers > best.gigatransfers || l.gigatransfers == best.gigatransfers && l.width > best.width) {
			best = l
		}
	}
	return best
}

// agreed parses every starred line of a pp_dpm table. Drivers star each level that equals the current value, so several stars
// are usual; when their values differ, none can be believed.
func agreed[T comparable](b []byte, parse func(level []byte) (T, bool)) (value T, ok bool) {
	for line := range bytes.Lines(kernel.Trim(b)) {
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
