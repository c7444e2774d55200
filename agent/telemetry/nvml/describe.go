//go:build cgo

package nvml

import (
	"context"
	"time"

	"muster/shared/gpu"
)

// description is what one index of NVML's list is.
type description struct {
	index    int
	epoch    int        // of the library when it was asked
	device   gpu.Device // ID "" when nothing could be asked
	readable *device
	status   status // why it can't be read, or success
}

// describeAll asks every device, each from its own goroutine, and waits for those that answer. An index that has not answered
// the last time is not asked again before it has: so a GPU that hangs for ever costs one thread.
func (d *driver) describeAll(ctx context.Context, r *Reader, lib *library, n int) map[int]description {
	if d.late == nil {
		d.late, d.pending = make(chan description, 128), map[int]bool{}
	}
	results := map[int]description{}
	wanted := 0
	for i := range n {
		wanted++
		if d.pending[i] {
			continue
		}
		d.pending[i] = true
		go func() { d.late <- r.describe(lib, i) }()
	}
	timeout := time.NewTimer(r.describeWait)
	defer timeout.Stop()
	for len(results) < wanted {
		select {
		case got := <-d.late:
			delete(d.pending, got.index)
			if got.index < n && got.epoch == lib.current() {
				results[got.index] = got
			} else {
				wanted-- // of an older connection: it is asked again the next time
			}
		case <-timeout.C:
			return results
		case <-ctx.Done():
			return results
		}
	}
	return results
}

// describe asks one device for what doesn't change.
func (r *Reader) describe(lib *library, i int) description {
	got := description{index: i, status: inUse}
	if !lib.enter() {
		return got
	}
	defer lib.leave()
	got.epoch = lib.current()
	h, s := lib.byIndex(i)
	if got.status = s; s != success {
		return got
	}
	d := &got.device
	d.Vendor, d.VendorIndex, d.Name = gpu.NVIDIA, &i, "NVIDIA GPU"
	got.readable = &device{handle: h, index: i}
	if busID, s := lib.busID(h); got.keep(s) {
		d.PCIAddress = pciAddress(busID)
		got.readable.address = d.PCIAddress
	}
	if uuid, s := lib.uuid(h); got.keep(s) && uuid != "" {
		d.ID = uuid
	} else if d.PCIAddress != "" {
		d.ID = "pci-" + d.PCIAddress
	}
	if name, s := lib.name(h); got.keep(s) && name != "" {
		d.Name = name
	}
	c, s := lib.computeCapability(h)
	if got.keep(s) {
		d.ComputeCapability, d.Arch = c.text(), c.arch()
	}
	if cores, s := lib.cores(h); got.keep(s) {
		d.MultiprocessorCount = multiprocessors(cores, c)
	}
	got.readable.integrated = integrated(d.Name, c)
	if m, s := r.memory(lib, got.readable); got.keep(s) {
		d.MemoryBytes, got.readable.total = &m.total, &m.total
	}
	d.Unified = got.readable.integrated
	d.Sources = sources(lib, d)
	if split, s := lib.split(h); got.keep(s) && split {
		d.Partitions = instances(lib, h, d)
	}
	return got
}

// keep says whether a getter gave its value, and notes when the device can't be read at all.
func (got *description) keep(s status) bool {
	if s == gpuIsLost || s == resetRequired || s == uninitialized || s == driverNotLoaded {
		got.status = s
	}
	return s == success
}

// instances lists the MIG instances of a divided device.
func instances(lib *library, h handle, parent *gpu.Device) (list []gpu.Device) {
	n, s := lib.maxInstances(h)
	if s != success {
		return nil
	}
	for i := range n {
		part, s := lib.instance(h, i)
		if s != success {
			continue // an empty place
		}
		uuid, s := lib.uuid(part)
		if s != success || uuid == "" {
			continue
		}
		d := gpu.Device{ID: uuid, Vendor: gpu.NVIDIA, Name: parent.Name, PCIAddress: parent.PCIAddress, Arch: parent.Arch,
			ComputeCapability: parent.ComputeCapability}
		if name, s := lib.name(part); s == success && name != "" {
			d.Name = name
		}
		count, bytes, s := lib.attributes(part)
		if s == success && count > 0 {
			d.MultiprocessorCount = &count
		}
		if s == success && bytes > 0 {
			d.MemoryBytes = &bytes
		}
		if m, s := cardMemory(lib, part); s == success {
			d.MemoryBytes = &m.total
		}
		list = append(list, d)
	}
	return list
}

// sources names by field the function that its value comes from.
func sources(lib *library, d *gpu.Device) map[string]string {
	m := map[string]string{}
	for field, functions := range map[string][]string{
		"name": {"nvmlDeviceGetName"}, "arch": {"nvmlDeviceGetCudaComputeCapability"}, "compute_capability": {"nvmlDeviceGetCudaComputeCapability"},
		"multi_processor_count": {"nvmlDeviceGetNumGpuCores"}, "driver_version": {"nvmlSystemGetDriverVersion"},
		"memory_bytes": memoryFunctions, "memory_total_bytes": memoryFunctions, "memory_used_bytes": memoryFunctions,
		"memory_reserved_bytes": {"nvmlDeviceGetMemoryInfo_v2"},
		"utilization_percent":   {"nvmlDeviceGetUtilizationRates"}, "memory_utilization_percent": {"nvmlDeviceGetUtilizationRates"},
		"temperatures": {"nvmlDeviceGetTemperature"}, "power_watts": {"nvmlDeviceGetPowerUsage"},
		"power_limit_watts": {"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit"},
		"core_clock_mhz":    {"nvmlDeviceGetClockInfo"}, "memory_clock_mhz": {"nvmlDeviceGetClockInfo"}, "fan_percent": {"nvmlDeviceGetFanSpeed"},
		"pcie_generation": {"nvmlDeviceGetCurrPcieLinkGeneration"}, "pcie_width": {"nvmlDeviceGetCurrPcieLinkWidth"},
		"throttle_reasons": {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"},
	} {
		for _, function := range functions {
			if lib.has(function) {
				m[field] = function
				break
			}
		}
	}
	if d.Unified {
		for _, field := range []string{"memory_bytes", "memory_total_bytes", "memory_used_bytes"} {
			m[field] = "/proc/meminfo"
		}
		delete(m, "memory_reserved_bytes")
	}
	if d.MultiprocessorCount == nil {
		delete(m, "multi_processor_count")
	}
	return m
}

var memoryFunctions = []string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo"}
