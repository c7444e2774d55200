//go:build cgo

package nvml

import "muster/shared/gpu"

// limits asks for the ends of the scales; nil when the device has none.
func (got *description) limits(lib *library) *gpu.Limits {
	h, l := got.readable.handle, gpu.Limits{}
	number := func(to **float64, get func(handle) (uint32, status), low, high uint32, unit float64) {
		v, s := get(h)
		got.keep(set(to, v, s, low, high, unit))
	}
	number(&l.SlowdownCelsius, lib.slowdownCelsius, 1, 150, 1)
	number(&l.ShutdownCelsius, lib.shutdownCelsius, 1, 150, 1)
	number(&l.MemoryCelsius, lib.memoryLimitCelsius, 1, 150, 1)
	number(&l.PowerDefaultWatts, lib.defaultMilliwatts, 1, maxMilliwatts, 1000)
	number(&l.CoreClockMHz, lib.maxCoreMHz, 1, maxMHz, 1)
	number(&l.MemoryClockMHz, lib.maxMemoryMHz, 1, maxMHz, 1)
	if low, high, s := lib.powerRange(h); got.keep(s) && low <= high {
		set(&l.PowerMinWatts, low, s, 0, maxMilliwatts, 1000)
		set(&l.PowerMaxWatts, high, s, 1, maxMilliwatts, 1000)
	}
	v, s := lib.maxGeneration(h)
	got.keep(setInt(&l.PCIeGeneration, v, s, 1, 8))
	v, s = lib.maxWidth(h)
	got.keep(setInt(&l.PCIeWidth, v, s, 1, 32))
	if l == (gpu.Limits{}) {
		return nil
	}
	return &l
}

// divide lists the MIG instances of a divided device.
func (got *description) divide(lib *library) {
	h, parent := got.readable.handle, &got.device
	split, s := lib.split(h)
	if !got.keep(s) || !split {
		return
	}
	parent.PartitionMode = "MIG"
	n, s := lib.maxInstances(h)
	if !got.keep(s) {
		return
	}
	for i := range min(n, 64) {
		instance, s := lib.instance(h, i)
		if s != success {
			continue // an empty place
		}
		if d, part, ok := describeInstance(lib, instance, parent); ok {
			parent.Partitions = append(parent.Partitions, d)
			got.readable.parts = append(got.readable.parts, part)
		}
	}
}

// describeInstance asks a MIG instance for what it has of its own.
func describeInstance(lib *library, h handle, parent *gpu.Device) (gpu.Device, part, bool) {
	uuid, s := lib.uuid(h)
	if s != success || uuid == "" {
		return gpu.Device{}, part{}, false
	}
	d := gpu.Device{ID: uuid, Vendor: gpu.NVIDIA, Name: parent.Name, PCIAddress: parent.PCIAddress, Arch: parent.Arch,
		ComputeCapability: parent.ComputeCapability, Sources: map[string]string{}}
	if name, s := lib.name(h); s == success && name != "" {
		d.Name, d.Sources["name"] = name, "nvmlDeviceGetName"
	}
	count, bytes, s := lib.attributes(h)
	if s == success && count > 0 {
		d.MultiprocessorCount, d.Sources["multi_processor_count"] = &count, "nvmlDeviceGetAttributes"
	}
	if s == success && bytes > 0 {
		d.MemoryBytes, d.Sources["memory_bytes"] = &bytes, "nvmlDeviceGetAttributes"
	}
	if m, s := cardMemory(lib, h); s == success {
		d.MemoryBytes, d.Sources["memory_bytes"] = &m.total, firstOf(lib, memoryFunctions)
	}
	p := part{handle: h, id: uuid, gpuInstance: -1, computeInstance: -1}
	if n, s := lib.instanceNumber(h); s == success {
		p.gpuInstance = n
	}
	if n, s := lib.computeInstanceNumber(h); s == success {
		p.computeInstance = n
	}
	return d, p, true
}
