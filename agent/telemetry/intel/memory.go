package intel

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"muster/shared/gpu"
)

// size gives what is known of the device's memory: by the driver's answer, else by a file that Intel's own builds of the driver
// have.
func (c *card) size() static {
	known := static{source: "DRM memory regions"}
	m, err := c.ask()
	known.err, known.counted = err, m.counted
	set(&known.shared, m.shared, m.shared > 0 && c.device.Unified)
	set(&known.total, m.total, m.total > 0 && !c.device.Unified)
	if known.total == nil && !c.device.Unified {
		known.total, known.source = c.localMemory()
	}
	return known
}

var errNoNode = errors.New("it has no render node")

// ask asks the driver.
func (c *card) ask() (memory, error) {
	for _, node := range c.nodes {
		if c.query != nil && strings.HasPrefix(node, "renderD") {
			return c.query(filepath.Join("/dev/dri", node), c.driver)
		}
	}
	return memory{}, errNoNode
}

// localMemory sums what the files say: lmem_total_bytes of the DRM card, physical_vram_size_bytes of each tile.
func (c *card) localMemory() (*uint64, string) {
	for _, node := range c.nodes {
		if card, err := c.tree.ResolveIn(c.dir, filepath.Join("drm", node)); err == nil {
			if total := c.tree.Decimal(card, "lmem_total_bytes"); total != nil && *total > 0 && *total <= maxMemory {
				return total, "lmem_total_bytes"
			}
		}
	}
	sum := uint64(0)
	for _, tile := range []string{"tile0", "tile1"} {
		if dir, err := c.tree.ResolveIn(c.dir, tile); err == nil {
			if size := c.tree.Decimal(dir, "physical_vram_size_bytes"); size != nil && *size <= maxMemory {
				sum += *size
			}
		}
	}
	if sum == 0 {
		return nil, ""
	}
	return &sum, "physical_vram_size_bytes"
}

// sampleMemory asks for the memory in use, where the driver tells it to this user.
func (c *card) sampleMemory(p *probe, r *gpu.Reading) {
	if c.memory.err != nil || !c.memory.counted && c.memory.shared == nil {
		return
	}
	m, err := c.ask()
	if err != nil {
		return
	}
	p.answered++
	set(&r.MemoryUsedBytes, m.used, m.counted && c.memory.total != nil)
	set(&r.SharedMemoryUsedBytes, m.sharedUsed, m.sharedCounted && c.memory.shared != nil)
}

// describeAbsent says why the size of the memory is not known.
func (c *card) describeAbsent() {
	absent := map[string]gpu.Absence{}
	total, used := "memory_total_bytes", "memory_used_bytes"
	if c.device.Unified {
		total, used = "shared_memory_total_bytes", "shared_memory_used_bytes"
	}
	switch {
	case errors.Is(c.memory.err, fs.ErrPermission), c.query != nil && errors.Is(c.memory.err, fs.ErrNotExist):
		absent[total], absent[used] = gpu.AbsentNoPermission, gpu.AbsentNoPermission
		if !c.device.Unified {
			absent["memory_bytes"] = gpu.AbsentNoPermission
		}
	case c.memory.err == nil && c.memory.total != nil && !c.memory.counted:
		absent[used] = gpu.AbsentNoPermission
	}
	if c.memory.total != nil {
		delete(absent, "memory_bytes")
		delete(absent, "memory_total_bytes")
	}
	if len(absent) > 0 {
		c.device.Absent = absent
	}
}
