//go:build cgo

package nvml

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"

	"muster/shared/gpu"
)

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
