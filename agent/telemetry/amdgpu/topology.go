package amdgpu

import (
	"errors"
	"io/fs"
	"iter"
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
	memory uint64   // bytes of its memory banks; 0 when not reported
	used   string   // real path of the banks' used_memory; "" where the kernel has none
	gpuID  string   // the number by which KFD's list of processes names it; "" when not reported
	links  []ioLink // to other GPUs
}

// ioLink is a direct connection to the node of that id.
type ioLink struct {
	to        int
	enabled   bool
	gigabytes float64 // per second, in one direction; 0 when not reported
}

// properties is what muster uses of a node's properties file. Absent lines are 0.
type properties struct {
	cpuCores, simdCount, simdPerCU uint64
	target                         uint64 // gfx_target_version
	deviceID, location, domain     uint64
	hasDomain                      bool
	uniqueID                       uint64
	renderMinor                    uint64 // N of /dev/dri/renderDN
}

// parseProperties reads lines "name value" with decimal values.
func parseProperties(text string) properties {
	var p properties
	fields := map[string]*uint64{
		"cpu_cores_count": &p.cpuCores, "simd_count": &p.simdCount, "simd_per_cu": &p.simdPerCU, "gfx_target_version": &p.target,
		"device_id": &p.deviceID, "location_id": &p.location, "domain": &p.domain, "unique_id": &p.uniqueID, "drm_render_minor": &p.renderMinor,
	}
	for name, v := range namedNumbers(text) {
		if field, known := fields[name]; known {
			*field = v
			p.hasDomain = p.hasDomain || name == "domain"
		}
	}
	return p
}

// namedNumbers gives the lines "name value" whose values are decimal numbers.
func namedNumbers(text string) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if v, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil && !yield(name, v) {
				return
			}
		}
	}
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

// topology is what KFD shows of the machine.
type topology struct {
	nodes  []node // the GPUs in order of their ids
	hidden int    // nodes that this container may not read
}

// readTopology reads the GPU nodes. Nodes that can't be read are left out: in a container those are the devices of others, and
// the ROCm runtime leaves them out of its numbering too.
func readTopology(t kernel.Tree) topology {
	dir, err := t.Resolve("sys/class/kfd/kfd/topology/nodes")
	if err != nil {
		return topology{}
	}
	var ids []int
	for _, name := range t.List(dir) {
		if id, err := strconv.Atoi(name); err == nil && id >= 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var found topology
	for _, id := range ids {
		path, err := t.ResolveIn(dir, strconv.Itoa(id))
		if err != nil {
			continue
		}
		text, err := t.Text(filepath.Join(path, "properties"))
		if errors.Is(err, fs.ErrPermission) {
			found.hidden++
		}
		if err != nil {
			continue
		}
		p := parseProperties(text)
		if p.simdCount == 0 {
			continue // a processor
		}
		n := node{id: id, rank: len(found.nodes), properties: p, gpuID: t.Word(path, "gpu_id")}
		n.memory, n.used = readBanks(t, path)
		if len(ids) <= maxLinkedNodes {
			n.links = readLinks(t, path)
		}
		found.nodes = append(found.nodes, n)
	}
	return found
}

// maxLinkedNodes is up to how many nodes their links are read: each has one to every other, and of divided cards, which are many,
// gpu_metrics tells.
const maxLinkedNodes = 24

// linkXGMI is CRAT_IOLINK_TYPE_XGMI of the kernel's kfd_crat.h.
const linkXGMI = 11

// readLinks gives the node's XGMI links.
func readLinks(t kernel.Tree, dir string) []ioLink {
	parent, err := t.ResolveIn(dir, "io_links")
	if err != nil {
		return nil
	}
	var links []ioLink
	for _, name := range t.List(parent) {
		path, err := t.ResolveIn(parent, name)
		if err != nil {
			continue
		}
		numbers := map[string]uint64{}
		for name, v := range namedNumbers(t.Word(path, "properties")) {
			numbers[name] = v
		}
		if numbers["type"] == linkXGMI && numbers["node_to"] < 1<<16 {
			links = append(links, ioLink{int(numbers["node_to"]), numbers["flags"]&1 != 0, float64(numbers["max_bandwidth"]) / 1000})
		}
	}
	slices.SortFunc(links, func(a, b ioLink) int { return a.to - b.to })
	return links
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
		for name, v := range namedNumbers(t.Word(bank, "properties")) {
			switch name {
			case "heap_type":
				heap = v
			case "size_in_bytes":
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
