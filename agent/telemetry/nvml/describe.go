//go:build cgo

package nvml

import (
	"context"
	"slices"
	"strings"
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
// the last time is not asked again before it has: so a GPU that hangs for ever costs one thread. One that sleeps is not asked.
func (d *driver) describeAll(ctx context.Context, r *Reader, lib *library, n int, bus []busCard) map[int]description {
	if d.late == nil {
		d.late, d.pending = make(chan description, 128), map[int]bool{}
	}
	results := map[int]description{}
	wanted := 0
	for i := range n {
		if got, sleeps := d.sleeper(r, i, n, bus); sleeps {
			results[i] = got
		}
	}
	for i := range n {
		if _, done := results[i]; done {
			continue
		}
		wanted++
		if d.pending[i] {
			continue
		}
		d.pending[i] = true
		go func() { d.late <- r.describe(lib, i, bus) }()
	}
	wanted += len(results)
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

// sleeper describes a card that sleeps from the bus alone. NVML lists the cards in the bus's order, as long as it has them all.
func (d *driver) sleeper(r *Reader, i, n int, bus []busCard) (description, bool) {
	cards := served(bus)
	if len(cards) != n || d.pending[i] || !r.asleep(cards[i].statusFile) {
		return description{}, false
	}
	got := description{index: i, status: asleep, device: cards[i].device("")}
	got.device.VendorIndex = &i
	return got, true
}

// describe asks one device for what doesn't change, and tries every getter once: those that it lacks aren't asked again before
// the next description.
func (r *Reader) describe(lib *library, i int, bus []busCard) description {
	got := description{index: i, status: inUse}
	v := lib.enter()
	if v == 0 {
		return got
	}
	defer lib.leave(v)
	got.epoch = lib.current()
	h, s := lib.byIndex(i)
	if got.status = s; s != success {
		return got
	}
	d := &got.device
	d.Vendor, d.VendorIndex, d.Name = gpu.NVIDIA, &i, "NVIDIA GPU"
	got.readable = &device{handle: h, epoch: got.epoch, index: i}
	got.identify(lib, bus)
	if m, s := r.memory(lib, got.readable); got.keep(s) {
		d.MemoryBytes, got.readable.total = &m.total, &m.total
	}
	d.Limits = got.limits(lib)
	got.divide(lib)
	got.wire(lib)
	got.try(r, lib)
	if got.status == success {
		got.readable.deaf = lib.listen(h, d.ID)
	}
	return got
}

// keep says whether a getter gave its value, and notes when the device can't be read at all.
func (got *description) keep(s status) bool {
	if s.fatal() {
		got.status = s
	}
	return s == success
}

// identify asks for names and numbers.
func (got *description) identify(lib *library, bus []busCard) {
	d, h := &got.device, got.readable.handle
	if busID, s := lib.busID(h); got.keep(s) {
		d.PCIAddress = pciAddress(busID)
		got.readable.address = d.PCIAddress
		for _, card := range bus {
			if card.address == d.PCIAddress {
				got.readable.statusFile, got.readable.maySleep = card.statusFile, card.maySleep
			}
		}
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
	if firmware, s := lib.firmware(h); got.keep(s) {
		d.FirmwareVersion = reported(firmware)
	}
	if serial, s := lib.serial(h); got.keep(s) {
		d.SerialNumber = reported(serial)
	}
	d.Unified = integrated(d.Name, c)
	got.readable.integrated = d.Unified
	if persistent, s := lib.persistent(h); got.keep(s) {
		got.readable.persistent = &persistent
	}
	if n, s := lib.fans(h); got.keep(s) {
		got.readable.fans = min(max(n, 0), 16)
	}
}

// reported leaves out what drivers write where they have nothing, such as N/A, and numbers of zeros alone.
func reported(text string) string {
	text = strings.TrimSpace(text)
	if strings.Contains(text, "N/A") || strings.Trim(text, "0") == "" {
		return ""
	}
	return text
}

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

// wire lists the NVLinks, those that are down too, with what doesn't change about them.
func (got *description) wire(lib *library) {
	h := got.readable.handle
	for i := range maxLinks {
		active, s := lib.linkActive(h, i)
		if s == functionNotFound || !got.keep(s) && s.fatal() {
			return
		}
		if s != success {
			continue
		}
		link := gpu.Link{Index: i, Kind: "NVLink", Active: active}
		if version, s := lib.linkVersion(h, i); got.keep(s) {
			link.Version = linkGeneration(version)
		}
		if peer, s := lib.linkPeer(h, i); active && got.keep(s) {
			link.PeerAddress = pciAddress(peer)
		}
		if megabytes, s := lib.linkMegabytes(h, i); got.keep(s) && megabytes > 0 && megabytes < 1e7 {
			gigabytes := megabytes / 1000
			link.GigabytesPerSecond = &gigabytes
		}
		got.readable.links = append(got.readable.links, link)
	}
}

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
