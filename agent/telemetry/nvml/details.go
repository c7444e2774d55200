//go:build cgo

package nvml

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"muster/shared/gpu"
)

// details asks one device for what is dear, by the steps that it has.
func (d *driver) details(ctx context.Context, r *Reader, id string) (gpu.Details, error) {
	lib, dev, leave, err := d.visit(ctx, r, id)
	if err != nil {
		return gpu.Details{}, err
	}
	defer leave()
	s := &sample{reader: r, lib: lib, dev: dev}
	if err := s.run(ctx, d, id, &dev.dear, detailSteps); err != nil {
		return gpu.Details{}, err
	}
	s.partitions()
	s.details.Time = time.Now().UTC()
	d.complete(id, s)
	return s.details, nil
}

// complete adds what other goroutines learnt of the device.
func (d *driver) complete(id string, s *sample) {
	absent := d.absences(id)
	maps.Copy(absent, s.absent)
	s.absent = absent
	d.mu.Lock()
	defer d.mu.Unlock()
	s.details.Faults = slices.Clone(d.track(id).faults)
	if s.dev.deaf != success {
		s.absent["faults"] = s.dev.deaf.why()
	}
	s.details.Absent = s.absent
}

func (s *sample) energy() status {
	v, result := s.lib.millijoules(s.dev.handle)
	switch {
	case result != success:
		return result
	case v == math.MaxUint64:
		return nonsense
	}
	joules := float64(v) / 1000
	s.details.EnergyJoules = &joules
	return success
}

func (s *sample) replays() status {
	v, result := s.lib.replays(s.dev.handle)
	switch {
	case result != success:
		return result
	case v == math.MaxUint32:
		return nonsense
	}
	n := uint64(v)
	s.details.PCIeReplays = &n
	return success
}

func (s *sample) margin() status {
	v, result := s.lib.marginCelsius(s.dev.handle)
	switch {
	case result != success:
		return result
	case v < -100 || v > 200:
		return nonsense
	}
	celsius := float64(v)
	s.details.ThermalMarginCelsius = &celsius
	return success
}

// ecc asks for the counts only of memory that has them.
func (s *sample) ecc() status {
	enabled, result := s.lib.eccEnabled(s.dev.handle)
	if result != success {
		return result
	}
	e := &gpu.ECC{Enabled: &enabled}
	s.details.ECC = e
	if !enabled {
		return success
	}
	for _, count := range []struct {
		to                     **uint64
		uncorrected, aggregate bool
	}{{&e.CorrectedVolatile, false, false}, {&e.UncorrectedVolatile, true, false}, {&e.CorrectedAggregate, false, true}, {&e.UncorrectedAggregate, true, true}} {
		v, result := s.lib.eccErrors(s.dev.handle, count.uncorrected, count.aggregate)
		if result.fatal() {
			return result
		}
		if result == success && v != math.MaxUint64 {
			*count.to = &v
		}
	}
	return success
}

func (s *sample) remapped() status {
	rows, result := s.lib.remapped(s.dev.handle)
	if result == success {
		s.details.RemappedRows = &rows
	}
	return result
}

// wire lists the NVLinks, those that are down too, with what doesn't change about them.
func (s *sample) wire() status {
	h := s.dev.handle
	for i := range maxLinks {
		active, result := s.lib.linkActive(h, i)
		if result == functionNotFound || result.fatal() {
			return result
		}
		if result != success {
			continue
		}
		link := gpu.Link{Index: i, Kind: "NVLink", Active: active}
		if version, result := s.lib.linkVersion(h, i); result == success {
			link.Version = linkGeneration(version)
		}
		if peer, result := s.lib.linkPeer(h, i); result == success && active {
			link.PeerAddress = pciAddress(peer)
		}
		if megabytes, result := s.lib.linkMegabytes(h, i); result == success && megabytes > 0 && megabytes < 1e7 {
			gigabytes := megabytes / 1000
			link.GigabytesPerSecond = &gigabytes
		}
		s.dev.links = append(s.dev.links, link)
	}
	s.dev.wired = true
	return success
}

// links asks only for the state of each: the rest is asked once for every description of the device.
func (s *sample) links() status {
	if !s.dev.wired {
		s.dev.links = nil
		if result := s.wire(); result != success {
			return result
		}
	}
	if len(s.dev.links) == 0 {
		return notSupported
	}
	links := slices.Clone(s.dev.links)
	for i := range links {
		active, result := s.lib.linkActive(s.dev.handle, links[i].Index)
		if result.fatal() {
			return result
		}
		links[i].Active = active && result == success
	}
	s.details.Links = links
	return success
}

// partitions asks each MIG instance for its memory. NVML has no utilisation of one.
func (s *sample) partitions() {
	for _, p := range s.dev.parts {
		reading := gpu.PartitionReading{ID: p.id}
		if m, result := cardMemory(s.lib, p.handle); result == success {
			reading.MemoryTotalBytes, reading.MemoryUsedBytes = &m.total, &m.used
		}
		s.details.Partitions = append(s.details.Partitions, reading)
	}
}

// throughput measures for 20 ms in each direction.
func (d *driver) throughput(ctx context.Context, r *Reader, id string) (gpu.PCIeThroughput, error) {
	lib, dev, leave, err := d.visit(ctx, r, id)
	if err != nil {
		return gpu.PCIeThroughput{}, err
	}
	defer leave()
	s := &sample{reader: r, lib: lib, dev: dev}
	var t gpu.PCIeThroughput
	for _, step := range []*step{
		{take: func(s *sample) status { return perSecond(&t.ReceiveBytesPerSecond, s.lib.received, dev.handle) }},
		{take: func(s *sample) status { return perSecond(&t.TransmitBytesPerSecond, s.lib.transmitted, dev.handle) }},
	} {
		if s.measure(step); s.fatal != success || ctx.Err() != nil {
			break
		}
	}
	if err := s.err(d); err != nil {
		return t, err
	}
	return t, ctx.Err()
}

// perSecond turns KB/s into bytes per second.
func perSecond(to **float64, measure func(handle) (uint32, status), h handle) status {
	v, result := measure(h)
	return set(to, v, result, 0, math.MaxUint32-1, 1.0/1000)
}
