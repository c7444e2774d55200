package amdgpu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// card is one physical device as the last Inventory saw it. Only the last two fields change afterwards.
type card struct {
	tree                kernel.Tree
	device              gpu.Device
	unique              uint64   // 0 when the card has no unique id
	dir                 string   // real path of its PCI folder; "" when only KFD shows it
	status              string   // power/runtime_status; "" when the kernel has none
	banks               []string // KFD's used_memory
	vramTotal, gttTotal *uint64
	internalLink        bool // its own current_link_* don't show the slot's link

	sensors     atomic.Pointer[sensors] // nil until the card was seen awake
	fromMetrics atomic.Uint32           // bit by bit, which of metricsFields gpu_metrics ever filled
}

// asleep says whether reading the card would wake it, or be refused.
func (c *card) asleep(p *probe) bool {
	return p.Asleep(c.status, p.buf[:])
}

// carryOver surveys the card, or keeps what was known of it while it sleeps.
func (c *card) carryOver(old *card) {
	p := newProbe(c.tree)
	defer p.release()
	if old != nil {
		c.fromMetrics.Store(old.fromMetrics.Load())
	}
	switch {
	case c.dir == "":
	case !c.asleep(p):
		c.sensors.Store(survey(c.tree, c.dir, c.internalLink, c.device.Unified))
	case old != nil && old.dir == c.dir:
		c.sensors.Store(old.sensors.Load())
	}
}

// measure reads everything once.
func (c *card) measure(ctx context.Context) (gpu.Reading, error) {
	r := gpu.Reading{MemoryTotalBytes: c.vramTotal, SharedMemoryTotalBytes: c.gttTotal}
	p := newProbe(c.tree)
	defer p.release()
	if c.asleep(p) {
		return r, fmt.Errorf("AMD card %s: %w", c.device.PCIAddress, telemetry.ErrSuspended)
	}
	s := c.sensors.Load()
	surveyed := s == nil
	if surveyed {
		s = c.resurvey()
	}
	c.sample(p, s, &r)
	if p.absent > 0 && !surveyed && ctx.Err() == nil && c.present() {
		// hwmon's number changes when the driver is loaded again
		p.reset()
		r = gpu.Reading{MemoryTotalBytes: c.vramTotal, SharedMemoryTotalBytes: c.gttTotal}
		c.sample(p, c.resurvey(), &r)
	}
	if p.answered > 0 {
		return r, nil
	}
	return r, fmt.Errorf("AMD card %s: %w", c.device.PCIAddress, c.silence(p))
}

func (c *card) resurvey() *sensors {
	if c.dir == "" {
		return &sensors{}
	}
	s := survey(c.tree, c.dir, c.internalLink, c.device.Unified)
	c.sensors.Store(s)
	return s
}

func (c *card) present() bool {
	if c.dir == "" {
		return true
	}
	_, err := os.Lstat(c.dir)
	return err == nil
}

// silence says why not one file could be read.
func (c *card) silence(p *probe) error {
	switch {
	case !c.present() || p.gone > 0:
		return telemetry.ErrLost
	case p.denied > 0:
		return telemetry.ErrNoPermission
	case p.refused > 0:
		return telemetry.ErrSuspended // since Linux 6.15 the answer of a sleeping card, and of one that is being reset
	default:
		return telemetry.ErrUnsupported
	}
}

// probe reads the files of one card once, and counts how they failed.
type probe struct {
	kernel.Tree
	buf *[kernel.PageSize]byte

	answered int // gave a value
	absent   int // ENOENT
	gone     int // ENODEV: the device was taken away
	refused  int // EPERM: the driver doesn't want to
	denied   int // EACCES: this user may not
}

func (p *probe) reset() { *p = probe{Tree: p.Tree, buf: p.buf} }

// bytes gives what is in the file, in a buffer that the next call overwrites; none when there is no path or it can't be read.
func (p *probe) bytes(path string) []byte {
	if path == "" {
		return nil
	}
	n, err := p.Read(path, p.buf[:])
	switch {
	case err == nil:
		return p.buf[:n]
	case isAbsent(err):
		p.absent++
	case errors.Is(err, syscall.ENODEV):
		p.gone++
	case errors.Is(err, syscall.EACCES):
		p.denied++
	case errors.Is(err, fs.ErrPermission):
		p.refused++
	}
	return nil
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// number reads a value and scales it to the unit; it counts only between low and high.
func (p *probe) number(path string, unit, low, high float64) (float64, bool) {
	b := p.bytes(path)
	if b == nil {
		return 0, false
	}
	v, ok := kernel.Number(b)
	if v /= unit; !ok || v < low || v > high {
		return 0, false
	}
	p.answered++
	return v, true
}
