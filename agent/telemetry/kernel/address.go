package kernel

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Address is where a device stands on the PCI bus. It is comparable; its zero value is an address too.
type Address struct {
	Domain                uint32
	Bus, Device, Function uint8
}

// String gives "0000:1a:00.0", as sysfs writes it.
func (a Address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%d", a.Domain, a.Bus, a.Device, a.Function)
}

// Compare orders by domain, bus, device, function.
func (a Address) Compare(b Address) int {
	return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Bus, b.Bus), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Function, b.Function))
}

// ParseAddress takes "0000:1a:00.0" in either case; the domain may have up to 8 digits.
func ParseAddress(s string) (Address, bool) {
	domain, rest, ok1 := strings.Cut(s, ":")
	bus, rest, ok2 := strings.Cut(rest, ":")
	device, function, ok3 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || !ok3 || len(domain) < 4 || len(bus) != 2 || len(device) != 2 || len(function) != 1 {
		return Address{}, false
	}
	d, err1 := strconv.ParseUint(domain, 16, 32)
	b, err2 := strconv.ParseUint(bus, 16, 8)
	v, err3 := strconv.ParseUint(device, 16, 5)
	f, err4 := strconv.ParseUint(function, 8, 3)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return Address{}, false
	}
	return Address{uint32(d), uint8(b), uint8(v), uint8(f)}, true
}
