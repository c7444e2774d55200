package kernel

import (
	"path/filepath"
	"regexp"
	"slices"
)

// Vendors of PCI that make GPUs.
const (
	VendorAMD    = 0x1002
	VendorNVIDIA = 0x10de
	VendorIntel  = 0x8086
)

// PCIDevice is a graphics device on the PCI bus. Product is its PCI device id (Device is the number of its slot on the bus); ids
// that the kernel does not tell are 0.
type PCIDevice struct {
	Address
	Dir                   string // real path of its sysfs folder
	Driver                string // "" when none serves it
	Class                 uint64 // 24 bits: 0x030000 is a VGA controller
	Vendor, Product       uint64
	SubVendor, SubProduct uint64
	Revision              *uint64 // nil when the kernel doesn't tell: 0 is a revision too
}

// gpuDrivers serve nothing but GPUs, so that a card of theirs is one even where the kernel hides its class.
var gpuDrivers = []string{"amdgpu", "radeon", "i915", "xe", "nouveau", "nvidia"}

// display says whether it is a display controller, or one of AMD's accelerators without a display (class 0x12).
func (d PCIDevice) display() bool {
	return d.Class>>16 == 0x03 || d.Class>>16 == 0x12 && d.Vendor == VendorAMD || slices.Contains(gpuDrivers, d.Driver)
}

var cardName = regexp.MustCompile(`^card[0-9]+$`) // not card0-DP-1, a connector

// ScanPCI lists the graphics devices by address. It looks at the bus and at the DRM cards, because either can be hidden. It opens
// nothing that wakes a device.
func ScanPCI(t Tree) []PCIDevice {
	found := map[Address]PCIDevice{}
	add := func(dir string, err error) {
		if err != nil {
			return // gone since it was listed, or a link out of the root
		}
		d, ok := describe(t, dir)
		if _, have := found[d.Address]; ok && !have && d.display() {
			found[d.Address] = d
		}
	}
	for _, name := range t.List(t.Path("sys/bus/pci/devices")) {
		add(t.Resolve(filepath.Join("sys/bus/pci/devices", name)))
	}
	for _, name := range t.List(t.Path("sys/class/drm")) {
		if cardName.MatchString(name) {
			add(t.Resolve(filepath.Join("sys/class/drm", name, "device")))
		}
	}
	devices := make([]PCIDevice, 0, len(found))
	for _, d := range found {
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b PCIDevice) int { return a.Compare(b.Address) })
	return devices
}

// describe reads a device's identity: uevent has all but the revision, and some containers have nothing else; the single
// files fill what it lacks. False for a device that isn't on the PCI bus (a virtual or platform display).
func describe(t Tree, dir string) (PCIDevice, bool) {
	u := parseUevent(t.Word(dir, "uevent"))
	d := PCIDevice{Dir: dir, Driver: u.driver}
	var ok bool
	if d.Address, ok = ParseAddress(filepath.Base(dir)); !ok {
		if d.Address, ok = ParseAddress(u.slot); !ok {
			return d, false
		}
	}
	for _, part := range []struct {
		to   *uint64
		from *uint64
		file string
	}{
		{&d.Vendor, u.vendor, "vendor"}, {&d.Product, u.product, "device"}, {&d.Class, u.class, "class"},
		{&d.SubVendor, u.subVendor, "subsystem_vendor"}, {&d.SubProduct, u.subProduct, "subsystem_device"},
	} {
		if part.from != nil {
			*part.to = *part.from
		} else if v, ok := Hex(t.Word(dir, part.file)); ok {
			*part.to = v
		}
	}
	if d.Driver == "" {
		if driver, err := t.ResolveIn(dir, "driver"); err == nil {
			d.Driver = filepath.Base(driver)
		}
	}
	if !d.display() {
		return d, true
	}
	if v, ok := Hex(t.Word(dir, "revision")); ok {
		d.Revision = &v
	}
	return d, true
}
