package telemetry

import (
	"cmp"
	"maps"
	"slices"

	"muster/shared/gpu"
)

// listing is what one reader lists, in the order of Config.Readers: the earlier reader's word counts more.
type listing struct {
	reader   string // its name
	devices  []gpu.Device
	adapters []gpu.Adapter
	host     gpu.Host
	problems []string
}

// origin is a device in the words of one reader: the position of its listing, and the ID that its Read takes.
type origin struct {
	listing int
	id      string
}

// joined is a device with everyone who can read it, best first. None can when two devices claim one ID.
type joined struct {
	device  gpu.Device
	origins []origin
}

// merge joins what the readers list. Devices of different readers are one when their PCI address is equal, or their ID where
// there is no address; within one reader all are different. Each field is the first valid one in the order of the listings
// (a name that is but a number gives way to any other; the ID is the first reader's, so that it does not change when a slower
// reader answers). The result is sorted by PCI address, devices without one last by ID,
// and numbered. Revision is left to the caller.
func merge(host gpu.Host, listings []listing) (gpu.Inventory, [][]origin) {
	var all []joined
	inv := gpu.Inventory{Host: host, Devices: []gpu.Device{}}
	for i, l := range listings {
		all = join(all, i, l)
		inv.Host = mergeHost(inv.Host, l.host)
		for _, problem := range l.problems {
			inv.Problems = appendNew(inv.Problems, l.reader+": "+problem)
		}
	}
	slices.SortStableFunc(all, compareDevices)
	distinguish(all)
	origins := make([][]origin, len(all))
	for i, j := range all {
		j.device.Index = gpu.Ref(i)
		inv.Devices = append(inv.Devices, j.device)
		origins[i] = j.origins
	}
	inv.OtherAdapters = mergeAdapters(listings, inv.Devices)
	return inv, origins
}

func join(all []joined, position int, l listing) []joined {
	known := len(all)
	taken := make(map[string]bool, len(l.devices))
	for _, d := range l.devices {
		d = normalise(d, l.reader)
		var origins []origin
		if !taken[d.ID] {
			origins = []origin{{position, d.ID}}
		} else if d.Error == "" {
			// Read could not tell the two apart: better no values than another device's.
			d.Error = "two devices report the ID " + d.ID + ", so this one can't be read: update the driver"
		}
		taken[d.ID] = true
		at := slices.IndexFunc(all[:known], func(j joined) bool { return sameDevice(j, d, position) })
		if at < 0 {
			all = append(all, joined{d, origins})
			continue
		}
		all[at] = joined{mergeDevice(all[at].device, d), append(all[at].origins, origins...)}
	}
	return all
}

// sameDevice says whether d of the reader at position is the known j. Each of a reader's devices takes one partner.
func sameDevice(j joined, d gpu.Device, position int) bool {
	if slices.ContainsFunc(j.origins, func(o origin) bool { return o.listing == position }) {
		return false
	}
	if j.device.PCIAddress != "" && d.PCIAddress != "" {
		return j.device.PCIAddress == d.PCIAddress
	}
	return j.device.ID == d.ID
}

// normalise writes the address as sysfs does, names a source for every static field, and lets no field have both a source and a
// reason to be absent. It copies what it changes.
func normalise(d gpu.Device, reader string) gpu.Device {
	if a, ok := parseAddress(d.PCIAddress); ok {
		d.PCIAddress = a.String()
	}
	if d.ID == "" {
		d.ID = "pci-" + d.PCIAddress
	}
	sources := maps.Clone(d.Sources)
	if sources == nil {
		sources = map[string]string{}
	}
	for field, has := range staticFields(&d) {
		switch {
		case !has:
			delete(sources, field)
		case sources[field] == "":
			sources[field] = reader
		}
	}
	absent := maps.Clone(d.Absent)
	for field := range absent {
		if sources[field] != "" && deviceFields.has(&d, field) {
			delete(absent, field)
		} else {
			delete(sources, field)
		}
	}
	d.Sources, d.Absent = sources, absent
	return d
}

// staticFields says by JSON name which static fields have a value.
func staticFields(d *gpu.Device) map[string]bool {
	return map[string]bool{
		"vendor_index": d.VendorIndex != nil, "name": d.Name != "", "arch": d.Arch != "", "compute_capability": d.ComputeCapability != "",
		"multi_processor_count": d.MultiprocessorCount != nil, "memory_bytes": d.MemoryBytes != nil, "driver_version": d.DriverVersion != "",
		"firmware_version": d.FirmwareVersion != "", "serial_number": d.SerialNumber != "", "partition_mode": d.PartitionMode != "", "limits": d.Limits != nil,
	}
}

// mergeDevice fills the holes of a from b. Both are normalised.
func mergeDevice(a, b gpu.Device) gpu.Device {
	sources := maps.Clone(b.Sources)
	maps.Copy(sources, a.Sources)
	d := a
	d.Sources, d.Absent = sources, lackedByBoth(mergeAbsent(a.Absent, b.Absent), sources)
	if a.Sources["name"] == SourceDeviceNumber && b.Name != "" && b.Sources["name"] != SourceDeviceNumber {
		d.Name, d.Sources["name"] = b.Name, b.Sources["name"]
	}
	fill(&d.PCIAddress, b.PCIAddress)
	fill(&d.VendorIndex, b.VendorIndex)
	fill(&d.Vendor, b.Vendor)
	fill(&d.Name, b.Name)
	fill(&d.Arch, b.Arch)
	fill(&d.ComputeCapability, b.ComputeCapability)
	fill(&d.MultiprocessorCount, b.MultiprocessorCount)
	fill(&d.MemoryBytes, b.MemoryBytes)
	fill(&d.DriverVersion, b.DriverVersion)
	fill(&d.FirmwareVersion, b.FirmwareVersion)
	fill(&d.SerialNumber, b.SerialNumber)
	fill(&d.PartitionMode, b.PartitionMode)
	fillPointed(&d.Limits, b.Limits)
	d.Unified = a.Unified || b.Unified
	d.Simulated = a.Simulated || b.Simulated
	if b.Error == "" {
		d.Error = ""
	}
	d.Partitions = slices.Clone(a.Partitions)
	for _, p := range b.Partitions {
		if !slices.ContainsFunc(a.Partitions, func(q gpu.Device) bool { return q.ID == p.ID }) {
			d.Partitions = append(d.Partitions, p)
		}
	}
	return d
}

// lackedByBoth leaves of the reasons those whose fields have no source.
func lackedByBoth(absent map[string]gpu.Absence, sources map[string]string) map[string]gpu.Absence {
	left := maps.Clone(absent)
	maps.DeleteFunc(left, func(field string, _ gpu.Absence) bool { return sources[field] != "" })
	if len(left) == 0 {
		return nil
	}
	return left
}

// distinguish makes IDs unique: the second of equal ones gets its address behind it, or a number.
func distinguish(all []joined) {
	taken := map[string]bool{}
	for i := range all {
		d := &all[i].device
		for n := 2; taken[d.ID]; n++ {
			if n == 2 && d.PCIAddress != "" {
				d.ID += "@" + d.PCIAddress
				continue
			}
			d.ID += "+"
		}
		taken[d.ID] = true
	}
}

func compareDevices(a, b joined) int {
	addressA, okA := parseAddress(a.device.PCIAddress)
	addressB, okB := parseAddress(b.device.PCIAddress)
	switch {
	case okA && okB:
		return cmp.Compare(addressA, addressB)
	case okA:
		return -1
	case okB:
		return 1
	default:
		return cmp.Compare(a.device.ID, b.device.ID)
	}
}

// mergeAdapters lists each adapter once, by address, without those that some reader serves as a device.
func mergeAdapters(listings []listing, devices []gpu.Device) []gpu.Adapter {
	seen := map[string]bool{}
	for _, d := range devices {
		seen[d.PCIAddress] = true
	}
	var adapters []gpu.Adapter
	for _, l := range listings {
		for _, adapter := range l.adapters {
			if a, ok := parseAddress(adapter.PCIAddress); ok {
				adapter.PCIAddress = a.String()
			}
			if seen[adapter.PCIAddress] {
				continue
			}
			seen[adapter.PCIAddress] = true
			adapters = append(adapters, adapter)
		}
	}
	slices.SortStableFunc(adapters, func(a, b gpu.Adapter) int {
		return compareDevices(joined{device: gpu.Device{PCIAddress: a.PCIAddress}}, joined{device: gpu.Device{PCIAddress: b.PCIAddress}})
	})
	return adapters
}

func mergeHost(a, b gpu.Host) gpu.Host {
	fill(&a.Name, b.Name)
	fill(&a.Platform, b.Platform)
	fill(&a.CPUModel, b.CPUModel)
	fill(&a.CPUCount, b.CPUCount)
	fill(&a.MemoryBytes, b.MemoryBytes)
	fill(&a.ROCmVersion, b.ROCmVersion)
	fill(&a.HIPVersion, b.HIPVersion)
	fill(&a.CUDAVersion, b.CUDAVersion)
	fill(&a.NVMLVersion, b.NVMLVersion)
	fill(&a.NVIDIADriver, b.NVIDIADriver)
	fill(&a.AMDGPUDriver, b.AMDGPUDriver)
	fill(&a.KernelVersion, b.KernelVersion)
	fill(&a.Torch, b.Torch)
	return a
}

// fill sets a value that is not reported yet.
func fill[T comparable](to *T, from T) {
	var none T
	if *to == none {
		*to = from
	}
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
