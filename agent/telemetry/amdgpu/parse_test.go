package amdgpu

import (
	"strings"
	"testing"

	"muster/agent/telemetry/kernel"
)

func TestParseStarredLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want link
		ok   bool
	}{
		{"0: 2.5GT/s, x1 310Mhz \n1: 16.0GT/s, x16 619Mhz *\n", link{16, 16}, true},
		{"0: 8.0GT/s, x16 *\n1: 8.0GT/s, x16 *\n", link{8, 16}, true},
		{"0: 8.0GT/s, x16 *\n1: 8.0GT/s, x8 *\n", link{}, false},
		{"0: 2.5GT/s, x8 \n", link{}, false},
		{"0: 2.5GT/s, x0 *\n", link{}, false},
		{"0: x16 *\n", link{}, false},
		{"", link{}, false},
	} {
		if got, ok := parseStarredLink([]byte(c.in)); got != c.want || ok != c.ok {
			t.Errorf("%q: got %+v, %v", c.in, got, ok)
		}
	}
}

func TestDecodeTarget(t *testing.T) { // trap 17
	t.Parallel()
	for in, want := range map[uint64][2]string{
		90000: {"gfx900", "9.0"}, 90006: {"gfx906", "9.0"}, 90010: {"gfx90a", "9.0"}, 90402: {"gfx942", "9.4"}, 100300: {"gfx1030", "10.3"},
		110000: {"gfx1100", "11.0"}, 110003: {"gfx1103", "11.0"}, 110500: {"gfx1150", "11.5"}, 110501: {"gfx1151", "11.5"}, 120001: {"gfx1201", "12.0"},
		0: {"", ""}, 9: {"", ""}, 1 << 60: {"", ""},
	} {
		if g := decodeTarget(in); g.arch() != want[0] || g.capability() != want[1] {
			t.Errorf("%d: got %s %s, want %v", in, g.arch(), g.capability(), want)
		}
	}
}

func TestMultiprocessors(t *testing.T) { // trap 19
	t.Parallel()
	for _, c := range []struct{ target, units, want int }{
		{90000, 64, 64}, {90402, 304, 304}, {110000, 96, 48}, {110003, 12, 6}, {100300, 80, 40}, {120001, 64, 32},
	} {
		if got := decodeTarget(uint64(c.target)).multiprocessors(c.units); got != c.want {
			t.Errorf("%d with %d units: got %d, want %d", c.target, c.units, got, c.want)
		}
	}
}

func FuzzStarred(f *testing.F) {
	for _, s := range []string{"0: 852Mhz *\n1: 991Mhz \n", "S: 19Mhz *", "0: 8.0GT/s, x16 619Mhz *", ": *", "1:*\n*", "0: 1.2.3Mhz *"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if mhz, ok := parseStarredClock(b); mhz < 0 || !ok && mhz != 0 {
			t.Errorf("%q: got clock %v, %v", b, mhz, ok)
		}
		if l, ok := parseStarredLink(b); ok && (l.width < 1 || l.width > 255) || !ok && l != (link{}) {
			t.Errorf("%q: got link %+v, %v", b, l, ok)
		}
		if first, highest, ok := clockLevels(b); ok != (highest > 0) || first > highest {
			t.Errorf("%q: got levels %v, %v, %v", b, first, highest, ok)
		}
		if l := fastestLevel(b); l != (link{}) && l.width < 1 {
			t.Errorf("%q: got fastest link %+v", b, l)
		}
	})
}

func TestClockLevels(t *testing.T) { // trap 26
	t.Parallel()
	for _, c := range []struct {
		in             string
		first, highest float64
		ok             bool
	}{
		{"0: 852Mhz *\n1: 991Mhz \n7: 1590Mhz \n", 852, 1590, true},
		{"S: 19Mhz *\n0: 500Mhz \n1: 2400Mhz \n", 500, 2400, true},
		{"0: 500Mhz\n1: 31Mhz *\n2: 2219Mhz\n", 500, 2219, true}, // the current clock stands between two levels
		{"0: 0Mhz *\n1: 0Mhz *\n", 0, 0, false},
		{"S: 19Mhz *\n", 0, 0, false},
		{"\n", 0, 0, false}, {"", 0, 0, false}, {"nonsense", 0, 0, false},
		{"0: 852Mhz\n\x001: 991Mhz", 852, 852, true},
	} {
		if first, highest, ok := clockLevels([]byte(c.in)); first != c.first || highest != c.highest || ok != c.ok {
			t.Errorf("%q: got %v, %v, %v", c.in, first, highest, ok)
		}
	}
}

func TestFastestLevel(t *testing.T) { // trap 26
	t.Parallel()
	for in, want := range map[string]link{
		"0: 2.5GT/s, x1 310Mhz \n1: 16.0GT/s, x16 619Mhz *\n": {16, 16},
		"0: 8.0GT/s, x16 *\n1: 8.0GT/s, x8 *\n":               {8, 16},
		"0: 8.0GT/s, x8\n1: 8.0GT/s, x16\n":                   {8, 16},
		"":                                                    {}, "\n": {}, "0: x16 *\n": {}, "0: 2.5GT/s, x0\n": {},
	} {
		if got := fastestLevel([]byte(in)); got != want {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	}
}

func FuzzErrorCounts(f *testing.F) {
	for _, s := range []string{"ue: 0\nce: 3\nde: 0\n", "feature mask: 0x1\numc: on", "ue:\nce: -1", "ue ce 5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uncorrected, corrected, ok := parseErrorCounts(text)
		if ok != (uncorrected != nil || corrected != nil) {
			t.Errorf("%q: got %v, %v, %v", text, uncorrected, corrected, ok)
		}
		if _, ok := parseFeatureMask(text); ok && !strings.HasPrefix(text, "feature mask:") {
			t.Errorf("%q: taken for a mask", text)
		}
	})
}

func FuzzProperties(f *testing.F) {
	f.Add("simd_count 256\nsimd_per_cu 4\nlocation_id 6400\nunique_id 14073402507705256556\n")
	f.Add("simd_per_cu 0\nsimd_count 18446744073709551615\ndomain -1\ngfx_target_version 110003")
	f.Fuzz(func(t *testing.T, text string) {
		p := parseProperties(text)
		if units := p.computeUnits(); units < 0 || units > 1<<20 {
			t.Errorf("%q: %d compute units", text, units)
		}
		if _, ok := kernel.ParseAddress(p.address().String()); !ok {
			t.Errorf("%q: address %s", text, p.address())
		}
		p.graphics().arch()
	})
}

func FuzzAMDLine(f *testing.F) {
	for _, s := range []string{"6860,\t00,\tAMD Radeon Instinct MI25", "# comment", "1.0.0", "6860,00,", ",,,", "zz,\t00,\tx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		device, revision, text, ok := parseAMDLine(line)
		if ok && (device > 0xffff || revision > 0xff || !printable(text)) {
			t.Errorf("%q: got %x %x %q", line, device, revision, text)
		}
		if ok && !strings.Contains(line, "\n") && lookupAMD([]byte(line), device, int(revision)) != text {
			t.Errorf("%q: not found by its own id", line)
		}
	})
}
