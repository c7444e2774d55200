package telemetry

import (
	"fmt"
	"strconv"
	"strings"
)

// address is a PCI address as one number: domain, bus (8 bits), device (5 bits), function (3 bits). Its order is the numbering
// of devices.
type address uint64

// parseAddress reads "domain:bus:device.function" in hex of either case: sysfs writes a domain of 4 digits, NVML one of 8
// ("00000000:1A:00.0"). false for everything else.
func parseAddress(s string) (address, bool) {
	domain, rest, ok := strings.Cut(s, ":")
	bus, rest, ok2 := strings.Cut(rest, ":")
	device, function, ok3 := strings.Cut(rest, ".")
	if !ok || !ok2 || !ok3 {
		return 0, false
	}
	value := uint64(0)
	for _, part := range []struct {
		digits string
		bits   int
	}{{domain, 32}, {bus, 8}, {device, 5}, {function, 3}} {
		n, err := strconv.ParseUint(part.digits, 16, part.bits)
		if err != nil {
			return 0, false
		}
		value = value<<part.bits | n
	}
	return address(value), true
}

// String writes the address as sysfs does.
func (a address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", uint64(a)>>16, uint64(a)>>8&0xff, uint64(a)>>3&0x1f, uint64(a)&7)
}
