//go:build cgo

package nvml

import (
	"slices"

	"muster/shared/gpu"
)

// try takes every step once: what the device lacks becomes its Absent, the rest has its Sources.
func (got *description) try(r *Reader, lib *library) {
	if got.status != success {
		return
	}
	d, dev := &got.device, got.readable
	d.Absent = map[string]gpu.Absence{}
	d.Sources = identitySources(lib, d)
	s := &sample{reader: r, lib: lib, dev: dev}
	worth := func(steps []*step) (kept []*step) {
		for _, step := range steps {
			result := s.measure(step)
			if !got.keep(result) && result.fatal() {
				return kept
			}
			if result.absent() || result == noPermission {
				for _, field := range step.fields {
					d.Absent[field] = result.why()
				}
			}
			if !result.absent() {
				kept = append(kept, step)
				for _, field := range step.fields {
					d.Sources[field] = firstOf(lib, step.functions)
				}
			}
		}
		return kept
	}
	dev.steps = worth(tickSteps)
	if dev.detailSteps = worth(detailSteps); len(dev.links) == 0 {
		delete(d.Sources, "links")
	}
	got.finishSources(lib, s)
}

// finishSources says what comes from somewhere else, or not at all.
func (got *description) finishSources(lib *library, s *sample) {
	d := &got.device
	if s.reading.MemoryReservedBytes != nil {
		d.Sources["memory_reserved_bytes"] = "nvmlDeviceGetMemoryInfo_v2"
	} else {
		d.Absent["memory_reserved_bytes"] = gpu.AbsentUnsupported
	}
	if s.reading.MemoryReservedBytes == nil && d.Sources["memory_used_bytes"] != "" && lib.has("nvmlDeviceGetMemoryInfo") {
		d.Sources["memory_used_bytes"], d.Sources["memory_total_bytes"], d.Sources["memory_bytes"] = "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo"
	}
	if d.Unified {
		for _, field := range []string{"memory_bytes", "memory_total_bytes", "memory_used_bytes"} {
			if _, ok := d.Sources[field]; ok {
				d.Sources[field] = "/proc/meminfo"
			}
		}
	}
}

// identitySources names by field of Device and its Limits what has a value, and notes what has none.
func identitySources(lib *library, d *gpu.Device) map[string]string {
	sources := map[string]string{}
	for field, has := range map[string]bool{
		"name": true, "arch": d.Arch != "", "compute_capability": d.ComputeCapability != "", "multi_processor_count": d.MultiprocessorCount != nil,
		"memory_bytes": d.MemoryBytes != nil, "driver_version": true, "firmware_version": d.FirmwareVersion != "", "serial_number": d.SerialNumber != "",
		"partition_mode": d.PartitionMode != "",
	} {
		if has && lib.has(identityFunctions[field]...) {
			sources[field] = firstOf(lib, identityFunctions[field])
		} else if field != "partition_mode" && !has {
			d.Absent[field] = gpu.AbsentUnsupported
		}
	}
	l := d.Limits
	if l == nil {
		l = &gpu.Limits{}
	}
	for field, has := range map[string]bool{
		"limits.slowdown_celsius": l.SlowdownCelsius != nil, "limits.shutdown_celsius": l.ShutdownCelsius != nil, "limits.memory_celsius": l.MemoryCelsius != nil,
		"limits.power_min_watts": l.PowerMinWatts != nil, "limits.power_max_watts": l.PowerMaxWatts != nil, "limits.power_default_watts": l.PowerDefaultWatts != nil,
		"limits.core_clock_mhz": l.CoreClockMHz != nil, "limits.memory_clock_mhz": l.MemoryClockMHz != nil,
		"limits.pcie_generation": l.PCIeGeneration != nil, "limits.pcie_width": l.PCIeWidth != nil,
	} {
		if has {
			sources[field] = limitFunctions[field]
		} else {
			d.Absent[field] = gpu.AbsentUnsupported
		}
	}
	if lib.has(faultFunction) {
		sources["faults"] = faultFunction
	}
	return sources
}

// firstOf gives the first of the functions that the library has; the last when it has none.
func firstOf(lib *library, functions []string) string {
	i := slices.IndexFunc(functions, func(f string) bool { return lib.has(f) })
	if i < 0 {
		return functions[len(functions)-1]
	}
	return functions[i]
}
