//go:build cgo

package nvml

import (
	"context"
	"maps"
	"slices"
	"strings"

	"muster/shared/gpu"
)

// repertoire is which steps a device has. A getter is never tried in Inventory: one that ends the process would take every
// device with it, and nobody could tell whose it was.
type repertoire struct {
	tried bool
	kept  []*step
}

// run takes the steps that the device has; the first time every one, to find out which those are.
func (s *sample) run(ctx context.Context, d *driver, id string, has *repertoire, all []*step) error {
	steps := has.kept
	if !has.tried {
		steps = all
	}
	results := make([]status, len(steps))
	for i, step := range steps {
		if results[i] = s.measure(step); s.fatal != success {
			return s.err(d)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if has.tried {
		return nil
	}
	*has = repertoire{tried: true}
	for i, step := range steps {
		if !results[i].absent() {
			has.kept = append(has.kept, step)
		}
	}
	d.learn(id, s, steps, results)
	return nil
}

// learn keeps, for the next Inventory, what a device lacks and where the rest comes from.
func (d *driver) learn(id string, s *sample, steps []*step, results []status) {
	lacks, sources := map[string]gpu.Absence{}, map[string]string{}
	for i, step := range steps {
		for _, field := range step.fields {
			if results[i].absent() || results[i] == noPermission {
				lacks[field] = results[i].why()
			} else {
				sources[field] = s.source(field, step)
			}
		}
	}
	if _, measured := sources["memory_used_bytes"]; measured && s.reading.MemoryReservedBytes != nil {
		sources["memory_reserved_bytes"] = memoryFunctions[0]
	} else if measured {
		lacks["memory_reserved_bytes"] = gpu.AbsentUnsupported
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.track(id)
	if t.lacks == nil {
		t.lacks, t.sources = map[string]gpu.Absence{}, map[string]string{}
	}
	for field, why := range lacks {
		t.lacks[field] = why
		delete(t.sources, field)
	}
	for field, source := range sources {
		t.sources[field] = source
		delete(t.lacks, field)
	}
}

// source names the function or file that a field came from.
func (s *sample) source(field string, step *step) string {
	switch {
	case !strings.HasPrefix(field, "memory_") || !slices.Equal(step.functions, memoryFunctions):
		return firstOf(s.lib, step.functions)
	case s.dev.integrated:
		return "/proc/meminfo"
	case s.reading.MemoryReservedBytes != nil:
		return memoryFunctions[0]
	default:
		return memoryFunctions[1]
	}
}

// tell adds to a description what was learnt of the device.
func (d *driver) tell(device *gpu.Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.track(device.ID)
	if device.Sources = maps.Clone(device.Sources); device.Sources == nil {
		device.Sources = map[string]string{}
	}
	if device.Absent = maps.Clone(device.Absent); device.Absent == nil {
		device.Absent = map[string]gpu.Absence{}
	}
	maps.Copy(device.Sources, t.sources)
	maps.Copy(device.Absent, t.lacks)
	if source := t.sources["memory_total_bytes"]; source != "" && device.MemoryBytes != nil {
		device.Sources["memory_bytes"] = source
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
