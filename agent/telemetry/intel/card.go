package intel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"muster/agent/telemetry"
	"muster/agent/telemetry/fdinfo"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// card is one device as the last Inventory saw it. Only what the last two fields lead to changes afterwards.
type card struct {
	tree      kernel.Tree
	scanner   *fdinfo.Scanner
	device    gpu.Device
	dir       string // real path of its PCI folder
	driver    string // "i915" or "xe"
	status    string // power/runtime_status; "" when the kernel has none
	nodes     []string
	ownSwitch bool
	divided   bool // virtual functions are handed out, whose work is no process's of this machine
	query     func(path, driver string) (memory, error)
	memory    static

	sensors atomic.Pointer[sensors] // nil until the device was seen awake
	// meter belongs to Read and Details, of which there is never more than one for a device. It outlives the card: the next
	// Inventory's card of the same device has the same one.
	meter *meter
}

// static is the size of the device's memory as far as it is known, by Inventory.
type static struct {
	total, shared *uint64 // bytes; of the device's own memory and of main memory that it can address
	source        string
	counted       bool // the driver tells this user how much is in use
	err           error
}

// asleep says whether reading the device would wake it.
func (c *card) asleep(p *probe) bool { return p.Asleep(c.status, p.buf[:]) }

// look finds what an awake device has; of one that sleeps or is about to, what was known stays.
func (c *card) look() {
	p := newProbe(c.tree)
	defer p.release()
	if c.asleep(p) || c.meter.resting.Load() {
		return
	}
	c.sensors.Store(survey(c.tree, c))
	if c.memory.total == nil && c.memory.shared == nil || c.memory.err != nil {
		c.memory = c.size()
	}
}

// measure reads everything once.
func (c *card) measure(ctx context.Context) (gpu.Reading, error) {
	r := gpu.Reading{MemoryTotalBytes: c.memory.total, SharedMemoryTotalBytes: c.memory.shared}
	p := newProbe(c.tree)
	defer p.release()
	if c.asleep(p) {
		c.meter.forget()
		return r, fmt.Errorf("%s device %s: %w", c.driver, c.device.PCIAddress, telemetry.ErrSuspended)
	}
	if last, ok := c.resting(ctx); ok {
		return last, nil
	}
	s := c.sensors.Load()
	if s == nil || c.moved(s) {
		s = survey(c.tree, c)
		c.sensors.Store(s)
	}
	s.sample(p, c.meter, &r)
	c.sampleMemory(p, &r)
	c.sampleEngines(ctx, p, s, &r)
	if p.answered > 0 {
		c.leave(s, r)
		return r, nil
	}
	c.meter.forget()
	r = gpu.Reading{MemoryTotalBytes: c.memory.total, SharedMemoryTotalBytes: c.memory.shared}
	return r, fmt.Errorf("%s device %s: %w", c.driver, c.device.PCIAddress, c.silence(p))
}

// moved says whether the files went elsewhere: hwmon's number changes when the driver is loaded again.
func (c *card) moved(s *sensors) bool {
	for _, path := range []string{s.energy, s.clock} {
		if path != "" {
			_, err := os.Lstat(path)
			return err != nil && c.present()
		}
	}
	return false
}

func (c *card) present() bool {
	_, err := os.Lstat(c.dir)
	return err == nil
}

// silence says why not one value could be read.
func (c *card) silence(p *probe) error {
	_, err := os.Lstat(filepath.Join(c.dir, "driver"))
	switch {
	case !c.present() || p.gone > 0:
		return telemetry.ErrLost
	case p.denied > 0:
		return telemetry.ErrNoPermission
	case errors.Is(err, fs.ErrNotExist):
		return telemetry.ErrNoDriver
	default:
		return telemetry.ErrUnsupported
	}
}
