//go:build cgo

package nvml

import (
	"fmt"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

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
			if got.readable = d.readable(got.device.ID); (!answered || got.status == asleep) && got.readable != nil {
				got.status = success // only late, or asleep: Read finds out by itself
			}
		}
		if devices[got.device.ID] != nil || refused[got.device.ID] != nil {
			got.device.ID = fmt.Sprintf("%s-%d", got.device.ID, i) // two of one UUID: a fault of the driver
		}
		if got.status == success {
			devices[got.device.ID] = got.readable
		} else {
			if got.status != asleep {
				got.device.Error = "this GPU can't be read: " + got.status.String()
			}
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
	for _, card := range served(bus) {
		if taken[card.address] || partial.PCIAddress != "" && partial.PCIAddress != card.address {
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
