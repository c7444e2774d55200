package amdsmi

import (
	"bytes"
	"encoding/binary"
	"testing"

	"muster/agent/telemetry/kernel"
)

func TestParseVersion(t *testing.T) { // trap 39: the first number is a year or a major number
	t.Parallel()
	for _, c := range []struct {
		first, second uint32
		want          string // release of the layout; "" for none
		newer         bool
	}{
		{23, 1, "", false}, {23, 2, "ROCm 5.7", false}, {23, 3, "ROCm 5.7", false}, {23, 4, "ROCm 6.0", false}, {24, 5, "ROCm 6.1", false}, {24, 6, "ROCm 6.2", false},
		{24, 7, "ROCm 6.3", false}, {24, 9, "ROCm 6.3", false}, {25, 0, "ROCm 6.4", false}, {25, 5, "ROCm 6.4", false}, {26, 0, "ROCm 7.0 to 7.2", false},
		{26, 2, "ROCm 7.0 to 7.2", false}, {26, 3, "ROCm 7.12", false}, {26, 4, "ROCm 7.13 and later", false}, {26, 5, "ROCm 7.13 and later", false},
		{26, 6, "ROCm 7.13 and later", true}, {27, 0, "ROCm 7.13 and later", true},
	} {
		b := binary.LittleEndian.AppendUint32(nil, c.first)
		b = append(binary.LittleEndian.AppendUint32(b, c.second), make([]byte, 16)...)
		v, ok := parseVersion(b)
		l, newer := layoutFor(v)
		if !ok || newer != c.newer || (l == nil) != (c.want == "") || l != nil && l.rocm != c.want {
			t.Errorf("%d.%d: got %v, %v, %+v, newer %v", c.first, c.second, v, ok, l, newer)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 23), make([]byte, 24), bytes.Repeat([]byte{0xff}, 24)} {
		if v, ok := parseVersion(b); ok {
			t.Errorf("%x: got %v", b, v)
		}
	}
}

// Every field of every layout must lie inside its struct, and inside of what a call gives room for.
func TestLayoutsFit(t *testing.T) {
	t.Parallel()
	for i, l := range layouts {
		if i > 0 && layouts[i-1].since.compare(l.since) >= 0 {
			t.Errorf("%s does not come after %s", l.since, layouts[i-1].since)
		}
		for size, fields := range map[int][]field{
			l.asic.bytes: {l.asic.name, l.asic.vendor, l.asic.serial, l.asic.units, l.asic.target}, l.power.bytes: {l.power.socket, l.power.current, l.power.average},
			l.powerCap.bytes: {l.powerCap.limit, l.powerCap.standard, l.powerCap.lowest, l.powerCap.highest}, l.pcie.bytes: {l.pcie.width, l.pcie.speed, l.pcie.replays},
			l.driver.bytes: {l.driver.version}, l.enumeration.bytes: {l.enumeration.hip, l.enumeration.uuid}, l.process.bytes: {l.process.name, l.process.pid, l.process.memory},
		} {
			for _, f := range fields {
				if f.offset+f.bytes > size || size > bufferBytes-4096 {
					t.Errorf("%s: field %+v does not fit into %d bytes", l.since, f, size)
				}
			}
		}
		if l.process.bytes > processSlack {
			t.Errorf("%s: processes are longer than their room", l.since)
		}
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for v, want := range map[uint64]string{
		0x900: "gfx900 9.0", 0x90a: "gfx90a 9.0", 0x942: "gfx942 9.4", 0x950: "gfx950 9.5", 0x1030: "gfx1030 10.3", 0x1100: "gfx1100 11.0", 0x1151: "gfx1151 11.5", 0x1201: "gfx1201 12.0",
		900: "gfx900 9.0", 942: "gfx942 9.4", 1030: "gfx1030 10.3", 1100: "gfx1100 11.0", 1201: "gfx1201 12.0", 803: "gfx803 8.0",
		90402: "gfx942 9.4", 90010: "gfx90a 9.0", 110003: "gfx1103 11.0", 120001: "gfx1201 12.0",
		0: " ", 90: " ", 1<<64 - 1: " ", 1 << 32: " ", 0xa00: " ", 209999: " ",
	} {
		if got := parseTarget(v); got.arch()+" "+got.capability() != want {
			t.Errorf("%d: got %q %q, want %q", v, got.arch(), got.capability(), want)
		}
	}
}

func TestParseSerial(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{
		"": 0, "N/A": 0, "0": 0, "0x0": 0, "02150e7d042a1124": 0x2150e7d042a1124, "2150e7d042a1124": 0x2150e7d042a1124, "0x2150E7D042A1124": 0x2150e7d042a1124,
		"15709783402117693723": 15709783402117693723, "0xFFFFFFFF": 0, "ffffffffffffffff": 0, "0xFFFFFFFFFFFFFFFF": 0, "0x12345678901234567": 0, "99999999999999999999": 0, "-1": 0,
	} {
		if got := parseSerial(text); got != want {
			t.Errorf("%q: got %x, want %x", text, got, want)
		}
	}
}

func TestParseBDF(t *testing.T) {
	t.Parallel()
	for v, want := range map[uint64]string{0: "0000:00:00.0", 0x300: "0000:03:00.0", 0x1c703: "0001:c7:00.3", 0x100000007f9: "1000000:07:1f.1"} {
		if got := parseBDF(v).String(); got != want {
			t.Errorf("%#x: got %s, want %s", v, got, want)
		}
	}
}

// ROCm 6.0 gives a limit in watts where all others give it in microwatts.
func TestWatts(t *testing.T) {
	t.Parallel()
	for v, want := range map[uint64]float64{220: 220, 220_000_000: 220, 1_400_000_000: 1400, 8_500_000: 8.5, 0: -1, 2501: -1, 900_000: -1, 1<<64 - 1: -1} {
		got := watts(field{0, 8}, binary.LittleEndian.AppendUint64(nil, v))
		if (got == nil) != (want < 0) || got != nil && *got != want {
			t.Errorf("%d: got %v, want %v", v, got, want)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"N/A": "", "0x6860": "", " AMD Instinct MI300X ": "AMD Instinct MI300X", "unknown": ""} {
		b := make([]byte, 896)
		copy(b, text)
		if got, err := asic64.decode(b); err != nil || got.name != want {
			t.Errorf("%q: got %q, %v", text, got.name, err)
		}
	}
	if _, err := asic64.decode(bytes.Repeat([]byte{'x'}, 896)); err == nil {
		t.Error("a name that doesn't end is taken")
	}
}

// Whatever the library writes, a decoder gives what can be, or an error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("AMD Radeon Instinct MI25\x00"), uint8(6), uint8(2))
	f.Add(bytes.Repeat([]byte{0xff}, 1024), uint8(0), uint8(1))
	f.Add(bytes.Repeat([]byte{0}, 904), uint8(7), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, which, n uint8) {
		l := layouts[int(which)%len(layouts)]
		between := func(what string, v *float64, low, high float64) {
			if v != nil && !(*v >= low && *v <= high) {
				t.Errorf("%s: %v", what, *v)
			}
		}
		if a, err := l.asic.decode(b); err == nil && (a.units >= maxUnits || len(a.name) > 256 || a.multiprocessors() != nil && *a.multiprocessors() > maxUnits) {
			t.Errorf("asic: %+v", a)
		}
		power, _ := l.power.decode(b)
		between("power", power, 0, maxWatts)
		limits, _ := l.powerCap.decode(b)
		for _, limit := range []*float64{limits.limit, limits.standard, limits.lowest, limits.highest} {
			between("limit", limit, 1, maxWatts)
		}
		if link, _ := l.pcie.decode(b); link.width != nil && (*link.width < 1 || *link.width > 32) || link.generation != nil && (*link.generation < 1 || *link.generation > 6) {
			t.Errorf("link: %+v", link)
		}
		busy, _ := l.activity.decode(b)
		between("activity", busy.graphics, 0, 100)
		between("activity", busy.memory, 0, 100)
		clocks, _ := l.clock.decode(b)
		between("clock", clocks.current, 0, maxMHz)
		if m, err := l.memory.decode(b); err == nil && m.used != nil && *m.used > *m.total {
			t.Errorf("memory: %+v", m)
		}
		l.errors.decode(b)
		l.driver.decode(b)
		if e, err := l.enumeration.decode(b); err == nil && e.hip != nil && (*e.hip < 0 || *e.hip >= 1024) {
			t.Errorf("enumeration: %+v", e)
		}
		if list, err := l.process.decode(b, int(n)); err == nil {
			for _, p := range list {
				if p.PID <= 0 || p.PID > maxPID {
					t.Errorf("process: %+v", p)
				}
			}
		}
		parseVersion(b)
		if len(b) >= 8 {
			if a := parseBDF(binary.LittleEndian.Uint64(b)); a.Device > 31 || a.Function > 7 {
				t.Errorf("address: %+v", a)
			} else if back, ok := kernel.ParseAddress(a.String()); !ok || back != a {
				t.Errorf("address %s is not what kernel writes", a)
			}
		}
	})
}
