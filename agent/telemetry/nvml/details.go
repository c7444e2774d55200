//go:build cgo

package nvml

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"muster/shared/gpu"
)

// details asks one device for what is dear, by the steps that it has.
func (d *driver) details(ctx context.Context, r *Reader, id string) (gpu.Details, error) {
	lib, dev, v, err := d.visit(r, id)
	if err != nil {
		return gpu.Details{}, err
	}
	defer lib.leave(v)
	s := &sample{reader: r, lib: lib, dev: dev}
	for _, step := range dev.detailSteps {
		if s.measure(step); s.fatal != success {
			return gpu.Details{}, s.err(d)
		}
		if err := ctx.Err(); err != nil {
			return gpu.Details{}, err
		}
	}
	s.partitions()
	s.details.Time = time.Now().UTC()
	d.complete(id, s)
	return s.details, nil
}

// complete adds what other goroutines learnt of the device.
func (d *driver) complete(id string, s *sample) {
	if s.absent == nil {
		s.absent = map[string]gpu.Absence{}
	}
	maps.Copy(s.absent, d.absences(id))
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

// links asks only for the state of each: the rest was asked when the device was described.
func (s *sample) links() status {
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

// processes merges the three lists of NVML.
func (s *sample) processes() status {
	merged := merging{}
	result := notSupported
	for _, list := range []struct {
		kind gpu.ProcessType
		take func(handle) ([]process, status)
	}{{gpu.ProcessCompute, s.lib.computing}, {gpu.ProcessGraphics, s.lib.drawing}, {gpu.ProcessCompute, s.lib.sharing}} {
		processes, one := list.take(s.dev.handle)
		switch {
		case one.fatal():
			return one
		case one == success:
			result = success
			merged.add(processes, list.kind)
		case !one.absent() && result != success:
			result = one
		}
	}
	if result == success {
		s.details.Processes = merged.list(s.dev.partition)
		s.details.ProcessesHidden = s.reader.hidden(s.details.Processes)
	}
	return result
}

// merging collects processes of several lists, one for each number and partition.
type merging map[processKey]*gpu.Process

type processKey struct {
	pid                          uint32
	gpuInstance, computeInstance uint32
}

// add takes the larger of two numbers for one process: the lists tell the same memory, not parts of it.
func (m merging) add(list []process, kind gpu.ProcessType) {
	for _, p := range list {
		key := processKey{p.pid, p.gpuInstance, p.computeInstance}
		merged, known := m[key]
		if !known {
			merged = &gpu.Process{PID: int(p.pid), Type: kind}
			m[key] = merged
		} else if merged.Type != kind {
			merged.Type = gpu.ProcessBoth
		}
		if p.memory > 1<<50 { // NVML_VALUE_NOT_AVAILABLE, or nonsense
			continue
		}
		if merged.MemoryBytes == nil || *merged.MemoryBytes < p.memory {
			merged.MemoryBytes = &p.memory
		}
	}
}

// list gives the processes, most memory first. partition names a partition by the numbers of its instances.
func (m merging) list(partition func(gpuInstance, computeInstance uint32) string) []gpu.Process {
	list := make([]gpu.Process, 0, len(m))
	for key, p := range m {
		p.Partition = partition(key.gpuInstance, key.computeInstance)
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b gpu.Process) int {
		return cmp.Or(cmp.Compare(bytesOf(b), bytesOf(a)), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Partition, b.Partition))
	})
	return list
}

func bytesOf(p gpu.Process) uint64 {
	if p.MemoryBytes == nil {
		return 0
	}
	return *p.MemoryBytes
}

// ownPIDNamespace says whether this process has numbers of processes of its own, as in a container.
// Source: PROC_PID_INIT_INO of the kernel, the namespace that the machine started with.
func (r *Reader) ownPIDNamespace() bool {
	name, err := os.Readlink(r.tree.Path("proc/self/ns/pid"))
	return err == nil && name != "pid:[4026531836]"
}

// hidden says for people which processes can't be shown.
func (r *Reader) hidden(list []gpu.Process) string {
	unknown := 0
	for _, p := range list {
		if _, err := os.Lstat(r.tree.Path("proc/" + strconv.Itoa(p.PID))); err != nil {
			unknown++
		}
	}
	switch {
	case unknown == 0 && len(list) > 0, !r.ownPIDNamespace():
		return ""
	case len(list) == 0:
		return "muster runs in a container of its own, to which the driver may not show the processes of others: start it with --pid=host"
	default:
		return fmt.Sprintf("%d of these processes run outside of muster's container, so that their names are not known: start it with --pid=host", unknown)
	}
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
	lib, dev, v, err := d.visit(r, id)
	if err != nil {
		return gpu.PCIeThroughput{}, err
	}
	defer lib.leave(v)
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
