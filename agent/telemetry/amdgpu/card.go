package amdgpu

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"muster/agent/telemetry"
	"muster/agent/telemetry/fdinfo"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// card is one physical device as the last Inventory saw it. Only the fields from sensors on change afterwards.
type card struct {
	tree                kernel.Tree
	device              gpu.Device
	unique              uint64 // 0 when the card has no unique id
	dir                 string // real path of its PCI folder; "" when only KFD shows it
	status              string // power/runtime_status; "" when the kernel has none
	graphics            graphics
	parts               []part   // what KFD knows of it; several on a divided card
	nodes               []string // its names in /dev/dri, those of its partitions left out
	vramTotal, gttTotal *uint64
	internalLink        bool // its own current_link_* don't show the slot's link
	scanner             *fdinfo.Scanner

	sensors        atomic.Pointer[sensors] // nil until the card was seen awake
	fromMetrics    atomic.Uint32           // bit by bit, which of metricsFields gpu_metrics ever filled
	tellsProcesses atomic.Bool             // KFD or /proc could be asked for them
	track          *track
	awake          bool // when it was listed
}

// part is a KFD node of a card: the whole card, or one of its partitions.
type part struct {
	id     string // of the partition; "" for the whole card
	number int    // of the partition on its card
	bank   string // KFD's used_memory; "" where the kernel has none
	gpuID  string
	node   string // its name in /dev/dri; "" when not known
	links  []gpu.Link
}

// track is what the Reads and Details of a card remember from one to the next, over inventories too. They never run at once; only the
// last two fields are for others too.
type track struct {
	absent    map[string]gpu.Absence // why the last Read had no value, by field
	residency residency              // of the last Read's gpu_metrics
	throttle  *gpu.Throttle          // what its counters told; nil before they told anything
	lively    [3]bool                // sensors of gpu.Sensors that ever said something else than 0 °C
	suspicion suspicion

	surveying, examining atomic.Bool // a goroutine is at it, and may never return
}

// asleep says whether reading the card would wake it, or be refused.
func (c *card) asleep(p *probe) bool {
	return p.Asleep(c.status, p.buf[:])
}

// absent says why a static field has no value.
func (c *card) absent(field string, why gpu.Absence) {
	if c.device.Absent == nil {
		c.device.Absent = map[string]gpu.Absence{}
	}
	c.device.Absent[field] = why
}

// measure reads everything once.
func (c *card) measure(ctx context.Context) (gpu.Reading, error) {
	r := gpu.Reading{MemoryTotalBytes: c.vramTotal, SharedMemoryTotalBytes: c.gttTotal}
	p := newProbe(c.tree)
	defer p.release()
	if c.asleep(p) {
		c.track.suspicion = suspicion{}
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
		s = c.resurvey()
		c.sample(p, s, &r)
	}
	c.track.absent = p.absences
	if p.answered > 0 && (p.absent == 0 || c.present()) { // KFD goes on to count the memory of a card that was taken out
		c.suspect(ctx, s, &r)
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
