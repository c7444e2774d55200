package intel

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/fdinfo"
	"muster/shared/gpu"
)

// details reads what is dear. It obeys measure's rules.
func (c *card) details(ctx context.Context) (gpu.Details, error) {
	p := newProbe(c.tree)
	defer p.release()
	if c.asleep(p) {
		return gpu.Details{}, fmt.Errorf("%s device %s: %w", c.driver, c.device.PCIAddress, telemetry.ErrSuspended)
	}
	if !c.present() {
		return gpu.Details{}, fmt.Errorf("%s device %s: %w", c.driver, c.device.PCIAddress, telemetry.ErrLost)
	}
	clients, err := c.scanner.Clients(ctx, c.nodes)
	if err != nil {
		return gpu.Details{}, fmt.Errorf("processes on %s device %s: %w", c.driver, c.device.PCIAddress, err)
	}
	d := gpu.Details{
		Time: time.Now().UTC(), Processes: processes(clients, c.device.Unified), ProcessesHidden: c.hides(clients),
		Absent: map[string]gpu.Absence{},
	}
	if c.meter.resting.Load() {
		set(&d.EnergyJoules, c.meter.energy.value, !c.meter.energy.at.IsZero())
	} else if s := c.sensors.Load(); s != nil {
		joules, ok := p.number(s.energy, 1e6, 0, 1<<53)
		set(&d.EnergyJoules, joules, ok && joules > 0)
	}
	for field, share := range map[string]share{"utilization_percent": c.meter.looks.busy, "media_percent": c.meter.looks.media} {
		if share.absent != "" {
			d.Absent[field] = share.absent
		}
	}
	return d, nil
}

// hides says why there may be processes that are not seen; "" when there are none.
func (c *card) hides(clients fdinfo.Clients) string {
	switch {
	case enclosed(c.tree):
		return "muster runs in a container and sees only its processes: start it with --pid=host"
	case clients.HidesOthers:
		return "/proc hides the processes of other users: sudo mount -o remount,hidepid=0 /proc"
	case clients.Hidden > 0:
		return fmt.Sprintf("%d processes of other users can't be looked into: give muster the capability CAP_SYS_PTRACE", clients.Hidden)
	case clients.Cut:
		return "there are more processes or open files than muster looks at"
	case c.divided:
		return "virtual machines use parts of the device (SR-IOV), and their processes are theirs alone"
	default:
		return ""
	}
}

// processes joins the clients by process, most memory first.
func processes(clients fdinfo.Clients, unified bool) []gpu.Process {
	byPID := map[int]*gpu.Process{}
	worked := map[int]kinds{}
	for _, client := range clients.List {
		p := byPID[client.PID]
		if p == nil {
			p = &gpu.Process{PID: client.PID}
			byPID[client.PID] = p
		}
		if bytes, told := held(client, unified); told {
			if p.MemoryBytes != nil {
				bytes += *p.MemoryBytes
			}
			p.MemoryBytes = &bytes
		}
		worked[client.PID] = worked[client.PID].with(client)
	}
	list := make([]gpu.Process, 0, len(byPID))
	for pid, p := range byPID {
		if k := worked[pid]; k.compute && !k.other {
			p.Type = gpu.ProcessCompute
		}
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b gpu.Process) int { return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.PID, b.PID)) })
	return list
}

func size(p gpu.Process) uint64 {
	if p.MemoryBytes == nil {
		return 0
	}
	return *p.MemoryBytes
}

// held sums a client's memory on the device: "local0" of i915 and "vram0" of xe; of an integrated GPU main memory, "system0"
// of i915, "gtt" and "system" of xe. Stolen memory is the driver's own.
func held(c fdinfo.Client, unified bool) (bytes uint64, told bool) {
	for _, r := range c.Regions {
		own := strings.HasPrefix(r.Name, "local") || strings.HasPrefix(r.Name, "vram")
		if unified {
			own = strings.HasPrefix(r.Name, "system") || r.Name == "gtt"
		}
		if own && r.ResidentBytes != nil {
			bytes, told = bytes+*r.ResidentBytes, true
		}
	}
	return bytes, told
}

// kinds are the kinds of engines that worked for a process. The compute engines do nothing but compute; all others, the render
// engine among them, may have drawn.
type kinds struct{ compute, other bool }

func (k kinds) with(c fdinfo.Client) kinds {
	for _, e := range c.Engines {
		worked := e.BusyNanoseconds != nil && *e.BusyNanoseconds > 0 || e.Cycles != nil && *e.Cycles > 0
		switch {
		case !worked || e.Name == "copy" || e.Name == "bcs":
		case e.Name == "compute" || e.Name == "ccs":
			k.compute = true
		default:
			k.other = true
		}
	}
	return k
}
