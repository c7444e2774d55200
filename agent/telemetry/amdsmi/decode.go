package amdsmi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"muster/agent/telemetry/kernel"
)

// Decoders read the fields of a layout out of a buffer of any length. A value that the library marks as not available, that
// lies outside of the buffer or that can't be is nil or ""; an error says that the struct can't be the one of the layout.

// Bounds beyond which a value is a fault of the firmware, and not a measurement.
const (
	maxWatts   = 2500 // no card comes near it; APUs of which firmware tells milliwatts as watts go beyond
	maxCelsius = 200
	minCelsius = -60
	maxMHz     = 20_000
	maxRPM     = 100_000
	maxMiB     = 1 << 30
	maxPID     = 1 << 22 // of Linux
	maxUnits   = 2048    // compute units: MI300X has 304
)

// raw gives the bytes of the field; nil when it isn't there.
func (f field) raw(b []byte) []byte {
	if f.bytes <= 0 || f.offset < 0 || f.offset+f.bytes > len(b) {
		return nil
	}
	return b[f.offset : f.offset+f.bytes]
}

// number reads an unsigned number. With all bits set it is not available.
func (f field) number(b []byte) (uint64, bool) {
	var v, none uint64
	switch raw := f.raw(b); len(raw) {
	case 2:
		v, none = uint64(binary.LittleEndian.Uint16(raw)), 1<<16-1
	case 4:
		v, none = uint64(binary.LittleEndian.Uint32(raw)), 1<<32-1
	case 8:
		v, none = binary.LittleEndian.Uint64(raw), 1<<64-1
	default:
		return 0, false
	}
	return v, v != none
}

// upTo reads a number that counts only up to high.
func (f field) upTo(b []byte, high uint64) *float64 {
	v, ok := f.number(b)
	if !ok || v > high {
		return nil
	}
	float := float64(v)
	return &float
}

// text reads a string that ends with NUL. False when it doesn't, or holds what no text has.
func (f field) text(b []byte) (string, bool) {
	raw := f.raw(b)
	if raw == nil {
		return "", true
	}
	end := bytes.IndexByte(raw, 0)
	if end < 0 || !utf8.Valid(raw[:end]) {
		return "", false
	}
	text := string(raw[:end])
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) }) {
		return "", false
	}
	return strings.TrimSpace(text), true
}

// told gives the text unless it stands for none.
func told(text string) string {
	switch strings.ToUpper(text) {
	case "N/A", "NA", "NONE", "UNKNOWN", "NULL":
		return ""
	}
	return text
}

// asic is what the chip is.
type asic struct {
	name   string // as sold; "" when not told
	serial uint64 // the unique id; 0 when not told
	units  int    // compute units; 0 when not told
	target target // the compiler's; zero when not told
}

func (l asicLayout) decode(b []byte) (asic, error) {
	name, ok := l.name.text(b)
	if !ok {
		return asic{}, fmt.Errorf("the name of the card is no text")
	}
	serial, ok := l.serial.text(b)
	if !ok {
		return asic{}, fmt.Errorf("the serial number is no text")
	}
	if vendor, known := l.vendor.number(b); known && vendor != 0 && vendor != kernel.VendorAMD {
		return asic{}, fmt.Errorf("the vendor is %#x instead of AMD's %#x", vendor, kernel.VendorAMD)
	}
	units, known := l.units.number(b)
	if !known {
		units = 0
	}
	if units >= maxUnits {
		return asic{}, fmt.Errorf("%d compute units are too many", units)
	}
	code, _ := l.target.number(b)
	if name = told(name); strings.HasPrefix(name, "0x") { // the id of a card that the library can't name
		name = ""
	}
	return asic{name: name, serial: parseSerial(serial), units: int(units), target: parseTarget(code)}, nil
}

// parseSerial reads the unique id of a chip: hexadecimal as sysfs has it, with or without 0x; in ROCm up to 6.3 decimal where the
// render node can't be opened, which shows when it has more than 16 digits. 0 when there is none.
func parseSerial(text string) uint64 {
	digits := strings.TrimPrefix(strings.ToLower(text), "0x")
	base := 16
	if len(digits) > 16 && digits == text {
		base = 10
	}
	v, err := strconv.ParseUint(digits, base, 64)
	if err != nil || v == 1<<32-1 || v == 1<<64-1 {
		return 0
	}
	return v
}

// target is a compiler's target: gfx90a is 9, 0, 10.
type target struct{ major, minor, stepping uint64 }

// parseTarget reads a target in any of the three ways in which libraries wrote it: 942 (ROCm 6.3), 0x942 (since 6.4), and 90402 as
// KFD has it. No number can be read in two ways, since the targets that exist are gfx7 to gfx19. Zero when it is none.
func parseTarget(v uint64) target {
	var t target
	switch {
	case v >= 70_000 && v < 200_000:
		t = target{v / 10_000, v / 100 % 100, v % 100}
	case v >= 0x700 && v < 0xa00, v >= 0x1000 && v < 0x2000:
		t = target{v>>8/16*10 + v>>8%16, v >> 4 & 15, v & 15}
	case v >= 700 && v < 1700: // gfx90a is not written whole in this way, and comes as 90
		t = target{v / 100, v / 10 % 10, v % 10}
	}
	if t.major > 19 || t.minor > 9 || t.stepping > 15 {
		return target{}
	}
	return t
}

// arch gives "gfx90a"; "" when not told.
func (t target) arch() string {
	if t == (target{}) {
		return ""
	}
	return fmt.Sprintf("gfx%d%x%x", t.major, t.minor, t.stepping)
}

// capability gives "9.0" as PyTorch shows it; "" when not told.
func (t target) capability() string {
	if t == (target{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d", t.major, t.minor)
}

// multiprocessors counts as PyTorch does: compute units, of RDNA (gfx10 and later) pairs of them. nil when it can't be told.
func (a asic) multiprocessors() *int {
	if a.units == 0 || a.target == (target{}) {
		return nil
	}
	count := a.units
	if a.target.major >= 10 {
		count /= 2
	}
	return &count
}

// decode gives watts: of the socket, else what is drawn now (Instinct MI300), else the mean of the last moments.
func (l powerLayout) decode(b []byte) (*float64, error) {
	for _, f := range []field{l.socket, l.current, l.average} {
		if watts := f.upTo(b, maxWatts); watts != nil {
			return watts, nil
		}
	}
	return nil, nil
}

// powerCap are the limits of the power in watts; nil when not told.
type powerCap struct{ limit, standard, lowest, highest *float64 }

func (l powerCapLayout) decode(b []byte) (powerCap, error) {
	return powerCap{watts(l.limit, b), watts(l.standard, b), watts(l.lowest, b), watts(l.highest, b)}, nil
}

// watts reads a limit in microwatts, or, as ROCm 6.0 has it, in watts: none is as low as maxWatts microwatts. 0 stands for none.
func watts(f field, b []byte) *float64 {
	v, ok := f.number(b)
	w := float64(v)
	if v > maxWatts {
		w /= 1e6
	}
	if !ok || w < 1 || w > maxWatts {
		return nil
	}
	return &w
}

// link is the connection to the host.
type link struct {
	generation, width *int
	replays           *uint64
}

func (l pcieLayout) decode(b []byte) (link, error) {
	var found link
	if width, ok := l.width.number(b); ok && width >= 1 && width <= 32 {
		found.width = new(int(width))
	}
	speed, _ := l.speed.number(b)
	for i, megatransfers := range []uint64{2500, 5000, 8000, 16000, 32000, 64000} {
		if speed == megatransfers {
			found.generation = new(i + 1)
		}
	}
	if replays, ok := l.replays.number(b); ok && replays != 1<<32-1 {
		found.replays = &replays
	}
	return found, nil
}

// activity is how busy the device was, in percent.
type activity struct{ graphics, memory *float64 }

func (l activityLayout) decode(b []byte) (activity, error) {
	return activity{l.graphics.upTo(b, 100), l.memory.upTo(b, 100)}, nil
}

// clock is in megahertz.
type clock struct{ current, highest *float64 }

func (l clockLayout) decode(b []byte) (clock, error) {
	highest := l.highest.upTo(b, maxMHz)
	if highest != nil && *highest == 0 {
		highest = nil
	}
	return clock{l.current.upTo(b, maxMHz), highest}, nil
}

// memory is the device's own, in bytes.
type memory struct{ total, used *uint64 }

func (l memoryLayout) decode(b []byte) (memory, error) {
	total, ok := l.total.number(b)
	if !ok || total == 0 {
		return memory{}, nil
	}
	used, ok := l.used.number(b)
	if total > maxMiB || ok && used > total {
		return memory{}, fmt.Errorf("%d MiB of %d MiB of memory can't be in use", used, total)
	}
	m := memory{total: new(total << 20)}
	if ok {
		m.used = new(used << 20)
	}
	return m, nil
}

// errorCounts are since the driver was loaded.
type errorCounts struct{ corrected, uncorrected *uint64 }

func (l errorsLayout) decode(b []byte) (errorCounts, error) {
	var counts errorCounts
	if v, ok := l.corrected.number(b); ok {
		counts.corrected = &v
	}
	if v, ok := l.uncorrected.number(b); ok {
		counts.uncorrected = &v
	}
	return counts, nil
}

func (l driverLayout) decode(b []byte) (string, error) {
	text, ok := l.version.text(b)
	if !ok {
		return "", fmt.Errorf("the version of the driver is no text")
	}
	return told(text), nil
}

// enumeration is where HIP has the device.
type enumeration struct {
	hip  *int   // its index
	uuid uint64 // 0 when not told: HIP writes "GPU-XX" for a card without one
}

func (l enumerationLayout) decode(b []byte) (enumeration, error) {
	var e enumeration
	text, ok := l.uuid.text(b)
	if !ok {
		return e, fmt.Errorf("the UUID of HIP is no text")
	}
	if id, ok := strings.CutPrefix(text, "GPU-"); ok && len(id) == 16 {
		e.uuid = parseSerial(id)
	}
	if hip, ok := l.hip.number(b); ok && hip < 1024 {
		e.hip = new(int(hip))
	}
	return e, nil
}
