package amdgpu

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
)

// Vendors of PCI.
const (
	vendorAMD    = 0x1002
	vendorNVIDIA = 0x10de
)

// pciDevice is a graphics device on the PCI bus.
type pciDevice struct {
	address
	dir                  string // real path of its sysfs folder
	driver               string // "" when none serves it
	class                uint64
	vendor, device       uint64
	subVendor, subDevice uint64
	revision             *uint64
}

// served says whether it is a card of this package's.
func (d pciDevice) served() bool { return d.vendor == vendorAMD && d.driver == "amdgpu" }

// graphicsClass says whether it is a display controller, or one of AMD's accelerators without a display (class 0x12).
func (d pciDevice) graphicsClass() bool {
	return d.class>>16 == 0x03 || d.class>>16 == 0x12 && d.vendor == vendorAMD
}

var cardName = regexp.MustCompile(`^card[0-9]+$`) // not card0-DP-1, a connector

// scanPCI lists the graphics devices by address. It looks at the bus and at the DRM cards, because either can be hidden.
func scanPCI(t tree) []pciDevice {
	found := map[address]pciDevice{}
	add := func(dir string, err error) {
		if err != nil {
			return // gone since it was listed, or a link out of the root
		}
		d, ok := describe(t, dir)
		if _, have := found[d.address]; ok && !have && (d.served() || d.graphicsClass()) {
			found[d.address] = d
		}
	}
	for _, name := range t.list(filepath.Join(t.root, "sys/bus/pci/devices")) {
		add(t.resolve(filepath.Join("sys/bus/pci/devices", name)))
	}
	for _, name := range t.list(filepath.Join(t.root, "sys/class/drm")) {
		if cardName.MatchString(name) {
			add(t.resolve(filepath.Join("sys/class/drm", name, "device")))
		}
	}
	devices := make([]pciDevice, 0, len(found))
	for _, d := range found {
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b pciDevice) int { return a.address.compare(b.address) })
	return devices
}

// describe reads a device's identity: uevent has all but the revision, and some containers have nothing else; the single
// files fill what it lacks. False for a device that isn't on the PCI bus (a virtual or platform display).
func describe(t tree, dir string) (pciDevice, bool) {
	u := parseUevent(t.word(dir, "uevent"))
	d := pciDevice{dir: dir, driver: u.driver}
	var ok bool
	if d.address, ok = parseAddress(filepath.Base(dir)); !ok {
		if d.address, ok = parseAddress(u.slot); !ok {
			return d, false
		}
	}
	for _, part := range []struct {
		to   *uint64
		from *uint64
		file string
	}{
		{&d.vendor, u.vendor, "vendor"}, {&d.device, u.device, "device"}, {&d.class, u.class, "class"},
		{&d.subVendor, u.subVendor, "subsystem_vendor"}, {&d.subDevice, u.subDevice, "subsystem_device"},
	} {
		if part.from != nil {
			*part.to = *part.from
		} else if v, ok := parseHex(t.word(dir, part.file)); ok {
			*part.to = v
		}
	}
	if d.driver == "" {
		if driver, err := t.resolveIn(dir, "driver"); err == nil {
			d.driver = filepath.Base(driver)
		}
	}
	if d.vendor == vendorAMD {
		if v, ok := parseHex(t.word(dir, "revision")); ok {
			d.revision = &v
		}
	}
	return d, true
}

// makers name who builds the display adapters that are found beside GPUs, for machines without pci.ids.
var makers = map[uint64]string{
	0x1002: "AMD", 0x1013: "Cirrus Logic", 0x102b: "Matrox", 0x1234: "QEMU", 0x1414: "Microsoft", 0x15ad: "VMware",
	0x1a03: "ASPEED", 0x1af4: "virtio", 0x1b36: "Red Hat", 0x8086: "Intel",
}

// fallbackName describes an adapter that pci.ids doesn't know.
func (d pciDevice) fallbackName() string {
	maker := makers[d.vendor]
	if maker == "" {
		maker = "PCI"
	}
	return fmt.Sprintf("%s display adapter %04x:%04x", maker, d.vendor, d.device)
}
