package kernel

import (
	"strings"
	"testing"
)

func TestNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want float64
		ok   bool
	}{
		{"24\n", 24, true}, {"-273150\n", -273150, true}, {"0", 0, true}, {" 7 \x00\x00garbage", 7, true}, {"9007199254740992", 1 << 53, true},
		{"9007199254740993", 0, false}, {"", 0, false}, {"\x005", 0, false}, {"0x10", 0, false}, {"1.5", 0, false}, {"N/A", 0, false}, {"99999999999999999999", 0, false},
	} {
		if got, ok := Number([]byte(c.in)); got != c.want || ok != c.ok {
			t.Errorf("%q: got %v, %v, want %v, %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

func TestParseAddress(t *testing.T) { // trap 9
	t.Parallel()
	for in, want := range map[string]string{"0000:1a:00.0": "0000:1a:00.0", "0000:C1:1F.7": "0000:c1:1f.7", "10000:e1:00.0": "10000:e1:00.0", "00000000:1A:00.0": "0000:1a:00.0"} {
		if got, ok := ParseAddress(in); !ok || got.String() != want {
			t.Errorf("%s: got %s, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "virtio0", "pci0000:00", "0000:1a:00", "0000:1a:20.0", "0000:1a:00.8", "zzzz:1a:00.0", "0000:1a:00.0x"} {
		if got, ok := ParseAddress(in); ok {
			t.Errorf("%q: got %s, want it refused", in, got)
		}
	}
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"24\n", "-1", "\x00", "1e9", strings.Repeat("9", 40)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, ok := Number(b); ok && (v > 1<<53 || v < -1<<53 || v != float64(int64(v))) {
			t.Errorf("%q: got %v", b, v)
		}
	})
}

func FuzzUevent(f *testing.F) {
	f.Add("DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\nPCI_SUBSYS_ID=1002:0C35\nPCI_SLOT_NAME=0000:1a:00.0\n")
	f.Add("PCI_ID=1002\nPCI_CLASS=zz\n=\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		u := parseUevent(text)
		if (u.vendor == nil) != (u.product == nil) || u.vendor != nil && (*u.vendor > 0xffff || *u.product > 0xffff) {
			t.Errorf("%q: got %v %v", text, u.vendor, u.product)
		}
	})
}

func FuzzPCINames(f *testing.F) {
	f.Add([]byte("1002  AMD\n\t6860  Vega 10 [Radeon Instinct MI25]\n\t\t1002 0c35  Board\n"))
	f.Add([]byte("\t\n\t\t\n1002\n\t6860\n\t\t1002"))
	f.Fuzz(func(t *testing.T, table []byte) {
		lookupPCI(table, nameKey{vendor: 0x1002, product: 0x6860, subVendor: 0x1002, subProduct: 0x0c35})
	})
}

func TestAddressOrder(t *testing.T) {
	t.Parallel()
	ordered := []string{"0000:1a:00.0", "0000:1a:00.1", "0000:1a:02.0", "0000:1b:00.0", "0001:00:00.0", "10000:00:00.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			x, _ := ParseAddress(a)
			y, _ := ParseAddress(b)
			if got := x.Compare(y); got != min(1, max(-1, i-j)) {
				t.Errorf("%s and %s: got %d", a, b, got)
			}
		}
	}
}
