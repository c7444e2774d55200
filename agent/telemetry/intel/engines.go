package intel

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"muster/agent/telemetry/fdinfo"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// The engines as i915 and xe name them.
var (
	mainEngines  = []string{"render", "compute", "rcs", "ccs"}
	mediaEngines = []string{"video", "video-enhance", "vcs", "vecs"}
)

const (
	// minLook is the least time between two looks at the engines: i915 counts a client's work when its turn ends, which in
	// shorter times would show as jumps. In between the last values stay.
	minLook = 900 * time.Millisecond
	// unseenPercent is how much work may be unseen for a share to be given all the same.
	unseenPercent = 10
)

// meter is what one device's counters were when they were last read.
type meter struct {
	energy counter
	looks  looks
	rest   rest
	// resting says that the device is left alone; Inventory looks at it too.
	resting atomic.Bool
	// unknown is why the last look gave no utilisation, for Examine beside Reads; "" when it gave one.
	unknown atomic.Pointer[gpu.Absence]
}

// looks is what the engines had done at the last look, and between it and the one before.
type looks struct {
	clients         fdinfo.Clients
	idle, mediaIdle *float64 // ms in which the engines were switched off; nil when not told
	busy, media     share
}

// share is a part of the time between two looks, in percent, or why there is none.
type share struct {
	percent *float64
	absent  gpu.Absence
}

// forget makes the next reading the first one: nobody knows what happened in between.
func (m *meter) forget() {
	m.energy, m.looks, m.rest = counter{}, looks{}, rest{}
	m.resting.Store(false)
}

// sampleEngines fills the utilisation. Engines' work is told by client, and of other users' clients nothing is told without
// CAP_SYS_PTRACE. So there are two bounds: they worked at least as long as for the clients that can be seen, and at most as long as
// they were not switched off. Where the two are close, the lower one is given, otherwise none: work that can't be seen is not idleness.
func (c *card) sampleEngines(ctx context.Context, p *probe, s *sensors, r *gpu.Reading) {
	last := c.meter.looks
	if since := time.Since(last.clients.Time); last.clients.Time.IsZero() || since >= minLook {
		last = c.lookAtEngines(ctx, p, s, last)
		c.meter.looks = last
		c.meter.unknown.Store(&last.busy.absent)
	}
	r.UtilizationPercent, r.MediaPercent = last.busy.percent, last.media.percent
	if len(last.clients.List) > 0 && last.busy.percent != nil {
		p.answered++ // without clients the driver was not asked
	}
}

func (c *card) lookAtEngines(ctx context.Context, p *probe, s *sensors, before looks) (after looks) {
	clients, err := c.scanner.Clients(ctx, c.nodes)
	if err != nil {
		late := share{absent: gpu.AbsentTimedOut}
		return looks{busy: late, media: late}
	}
	after.clients = clients
	ms, ok := p.number(s.idle, 1, 0, math.MaxFloat64)
	set(&after.idle, ms, ok)
	ms, ok = p.number(s.mediaIdle, 1, 0, math.MaxFloat64)
	set(&after.mediaIdle, ms, ok)
	elapsed := clients.Time.Sub(before.clients.Time)
	if before.clients.Time.IsZero() || elapsed <= 0 || elapsed > maxWindow {
		return after
	}
	complete := c.seesAll(before.clients) && c.seesAll(clients)
	busy := fdinfo.Busy(before.clients, clients)
	after.busy = judge(busy, mainEngines, clients, complete, awake(before.idle, after.idle, elapsed))
	after.media = judge(busy, mediaEngines, clients, complete, awake(before.mediaIdle, after.mediaIdle, elapsed))
	return after
}

// seesAll says whether the clients are all that the device has.
func (c *card) seesAll(clients fdinfo.Clients) bool {
	return clients.Hidden == 0 && !clients.HidesOthers && !clients.Cut && !c.divided && !enclosed(c.tree)
}

// awake gives the share of the time in which the engines were not switched off, in percent; nil when the counter does not tell.
func awake(before, after *float64, elapsed time.Duration) *float64 {
	if before == nil || after == nil || *after < *before {
		return nil
	}
	off := (*after - *before) / float64(elapsed.Milliseconds())
	if off > 1.05 { // more than there was: another counter than it seemed
		return nil
	}
	percent := max(0, 100-off*100)
	return &percent
}

// judge gives the share of the busiest of the engines.
func judge(busy map[string]float64, engines []string, clients fdinfo.Clients, complete bool, awake *float64) share {
	percent, told := 0.0, len(clients.List) == 0
	for _, engine := range engines {
		percent = max(percent, busy[engine])
	}
	for _, client := range clients.List {
		for _, e := range client.Engines {
			told = told || slices.Contains(engines, e.Name) && (e.BusyNanoseconds != nil || e.TotalCycles != nil)
		}
	}
	switch {
	case !told:
		return share{absent: gpu.AbsentUnsupported} // i915 before Linux 5.19, xe before 6.11, and virtual functions
	case complete, awake != nil && *awake-percent <= unseenPercent:
		return share{percent: &percent}
	default:
		return share{absent: gpu.AbsentNoPermission}
	}
}

// initialPIDNamespace is the kernel's PROC_PID_INIT_INO: the inode of the PID namespace that the machine started with.
const initialPIDNamespace = "pid:[4026531836]"

// enclosed says that this process has a PID namespace of its own, as in a container: /proc shows none of the other processes.
func enclosed(t kernel.Tree) bool {
	dir, err := t.Resolve("proc/self/ns")
	if err != nil {
		return false
	}
	namespace, err := os.Readlink(filepath.Join(dir, "pid"))
	return err == nil && namespace != initialPIDNamespace
}
