package amdgpu

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"muster/agent/telemetry/kernel"
)

// node is one GPU of the KFD topology (/sys/class/kfd/kfd/topology/nodes/N): a whole card, or one partition of it.
type node struct {
	id   int // N
	rank int // among the GPU nodes by id: the index that HIP gives it
	properties
	memory uint64 // bytes of its memory banks; 0 when not reported
	used   string // real path of the banks' used_memory; "" where the kernel has none
}

// properties is what muster uses of a node's properties file. Absent lines are 0.
type properties struct {
	cpuCores, simdCount, simdPerCU uint64
	target                         uint64 // gfx_target_version
	deviceID, location, domain     uint64
	hasDomain                      bool
	uniqueID                       uint64
}

// parseProperties reads lines "name value" with decimal values.
func parseProperties(text string) properties {
	var p properties
	fields := map[string]*uint64{
		"cpu_cores_count": &p.cpuCores, "simd_count": &p.simdCount, "simd_per_cu": &p.simdPerCU, "gfx_target_version": &p.target,
		"device_id": &p.deviceID, "location_id": &p.location, "domain": &p.domain, "unique_id": &p.uniqueID,
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		field, known := fields[name]
		if !known {
			continue
		}
		v, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if err != nil {
			continue
		}
		*field = v
		p.hasDomain = p.hasDomain || name == "domain"
	}
	return p
}

// address is where the node's card stands on the PCI bus. On partitioned cards the function number is the partition's, and no
// such PCI function exists.
func (p properties) address() kernel.Address {
	return kernel.Address{
		Domain: uint32(p.domain), Bus: uint8(p.location >> 8), Device: uint8(p.location >> 3 & 31), Function: uint8(p.location & 7),
	}
}

// computeUnits is 0 when not reported.
func (p properties) computeUnits() int {
	if p.simdPerCU == 0 || p.simdCount > 1<<20 {
		return 0
	}
	return int(p.simdCount / p.simdPerCU)
}

// graphics is what the kernel says, else what the device id tells.
func (p properties) graphics() graphics {
	if g := decodeTarget(p.target); g != (graphics{}) {
		return g
	}
	return chips[p.deviceID]
}

// readTopology gives the GPU nodes in order of their ids. Nodes that can't be read are left out: in a container those are the
// devices of others, and the ROCm runtime leaves them out of its numbering too.
func readTopology(t kernel.Tree) []node {
	dir, err := t.Resolve("sys/class/kfd/kfd/topology/nodes")
	if err != nil {
		return nil
	}
	var ids []int
	for _, name := range t.List(dir) {
		if id, err := strconv.Atoi(name); err == nil && id >= 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var nodes []node
	for _, id := range ids {
		path, err := t.ResolveIn(dir, strconv.Itoa(id))
		if err != nil {
			continue
		}
		text, err := t.Text(filepath.Join(path, "properties"))
		if err != nil {
			continue
		}
		p := parseProperties(text)
		if p.simdCount == 0 {
			continue // a processor
		}
		n := node{id: id, rank: len(nodes), properties: p}
		n.memory, n.used = readBanks(t, path)
		nodes = append(nodes, n)
	}
	return nodes
}

// readBanks sums the node's own memory: heaps of type 1 (seen by the processor) and 2 (not).
func readBanks(t kernel.Tree, dir string) (bytes uint64, used string) {
	banks, err := t.ResolveIn(dir, "mem_banks")
	if err != nil {
		return 0, ""
	}
	names := t.List(banks)
	slices.Sort(names)
	for _, name := range names {
		bank, err := t.ResolveIn(banks, name)
		if err != nil {
			continue
		}
		var heap, size uint64
		for line := range strings.Lines(t.Word(bank, "properties")) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			v, err := strconv.ParseUint(value, 10, 64)
			switch {
			case err != nil:
			case key == "heap_type":
				heap = v
			case key == "size_in_bytes":
				size = v
			}
		}
		if heap != 1 && heap != 2 || size > 1<<50 {
			continue
		}
		bytes += size
		if used == "" && slices.Contains(t.List(bank), "used_memory") {
			used = filepath.Join(bank, "used_memory")
		}
	}
	return bytes, used
}
