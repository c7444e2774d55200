//go:build cgo

package nvml

import (
	"context"
	"fmt"
	"sync"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// driver is the connection to NVML.
type driver struct {
	// Of Inventory, which never runs twice at once.
	known   map[string]gpu.Device // descriptions by PCI address
	pending map[int]bool          // indices whose describe hasn't returned; its goroutine reports to late
	late    chan description

	// Behind mu, which is never held during a call into the library.
	mu      sync.Mutex
	lib     *library
	ready   bool               // initialised
	broken  bool               // a Read saw that the connection is gone: the next Inventory makes a new one
	devices map[string]*device // by Device.ID
	refused map[string]error   // why a listed device can't be read
}

// device is one that can be read.
type device struct {
	handle
	address    string
	index      int
	total      *uint64
	integrated bool
}

// connect gives the library, initialised; anew after the driver was reloaded.
func (d *driver) connect(path string) (*library, status) {
	d.mu.Lock()
	lib, ready, broken := d.lib, d.ready, d.broken
	d.mu.Unlock()
	if lib == nil {
		if lib = load(path); lib == nil {
			return nil, libraryNotFound
		}
	}
	s := success
	if !ready || broken {
		s = lib.init(ready)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lib = lib
	if !ready || broken {
		d.ready, d.broken = s == success || s == inUse && ready, s == inUse && broken
		d.devices = nil // handles end with the connection
	}
	return lib, s
}

func (d *driver) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = true
}

func (d *driver) inventory(ctx context.Context, r *Reader, bus []busCard) telemetry.Found {
	lib, n, s := d.count(r.path)
	if s != success {
		found, refused := unread(bus, s, d.known)
		d.publish(nil, refused)
		return found
	}
	list := d.describeAll(ctx, r, lib, n)
	found, devices, refused := d.arrange(list, n, bus)
	found.Host = versions(lib)
	for i := range found.Devices {
		found.Devices[i].DriverVersion = found.Host.NVIDIADriver
		if a := found.Devices[i].PCIAddress; a != "" && found.Devices[i].Error == "" {
			d.remember(found.Devices[i])
		}
	}
	d.publish(devices, refused)
	return found
}

func (d *driver) remember(device gpu.Device) {
	if d.known == nil {
		d.known = map[string]gpu.Device{}
	}
	d.known[device.PCIAddress] = device
}

// count connects and counts the devices. A connection that has died since is made anew, once.
func (d *driver) count(path string) (lib *library, n int, s status) {
	for range 2 {
		if lib, s = d.connect(path); s != success {
			return lib, 0, s
		}
		if !lib.enter() {
			return lib, 0, inUse
		}
		n, s = lib.count()
		lib.leave()
		if s != uninitialized && s != driverNotLoaded && s != unknown {
			return lib, n, s
		}
		d.lose()
	}
	return lib, 0, s
}

func versions(lib *library) (h gpu.Host) {
	if !lib.enter() {
		return h
	}
	defer lib.leave()
	if v, s := lib.driverVersion(); s == success {
		h.NVIDIADriver = v
	}
	if v, s := lib.nvmlVersion(); s == success {
		h.NVMLVersion = v
	}
	if v, s := lib.cudaVersion(); s == success {
		h.CUDAVersion = cudaText(v)
	}
	return h
}

// arrange puts described devices and stand-ins for the others into NVML's order.
func (d *driver) arrange(list map[int]description, n int, bus []busCard) (telemetry.Found, map[string]*device, map[string]error) {
	var found telemetry.Found
	devices, refused := map[string]*device{}, map[string]error{}
	taken := map[string]bool{}
	for _, got := range list {
		if got.status == success {
			taken[got.device.PCIAddress] = true
		}
	}
	for i := range n {
		got, answered := list[i]
		if !answered {
			got.status = inUse
		}
		if got.status != success {
			got.device = d.standIn(i, got.device, bus, taken)
			taken[got.device.PCIAddress] = true
			if got.readable = d.readable(got.device.ID); !answered && got.readable != nil {
				got.status = success // only late: Read finds out by itself
			}
		}
		if devices[got.device.ID] != nil || refused[got.device.ID] != nil {
			got.device.ID = fmt.Sprintf("%s-%d", got.device.ID, i) // two of one UUID: a fault of the driver
		}
		if got.status == success {
			devices[got.device.ID] = got.readable
		} else {
			got.device.Error = "this GPU can't be read: " + got.status.String()
			refused[got.device.ID] = fmt.Errorf("%s: %w", got.status, got.status.state())
		}
		found.Devices = append(found.Devices, got.device)
	}
	return found, devices, refused
}

// readable gives a device as Read sees it now; nil when it doesn't.
func (d *driver) readable(id string) *device {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.devices[id]
}

// standIn describes a device that can't describe itself: as it was known, else by what it could say, else as one of the bus
// that nobody else is, else by its index alone.
func (d *driver) standIn(i int, partial gpu.Device, bus []busCard, taken map[string]bool) gpu.Device {
	if old, ok := d.known[partial.PCIAddress]; ok {
		return old
	}
	for address, old := range d.known {
		if partial.PCIAddress == "" && !taken[address] && old.VendorIndex != nil && *old.VendorIndex == i {
			return old
		}
	}
	for _, card := range bus {
		if card.foreign() || taken[card.address] || partial.PCIAddress != "" && partial.PCIAddress != card.address {
			continue
		}
		stand := card.device("")
		stand.VendorIndex = &i
		return stand
	}
	if partial.ID != "" {
		return partial
	}
	return gpu.Device{ID: fmt.Sprintf("nvml-%d", i), Vendor: gpu.NVIDIA, Name: "NVIDIA GPU", VendorIndex: &i}
}

// publish replaces what Read sees.
func (d *driver) publish(devices map[string]*device, refused map[string]error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.devices, d.refused = devices, refused
}
