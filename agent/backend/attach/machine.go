package attach

import (
	"sync/atomic"

	"muster/agent/process"
	"muster/shared/gpu"
)

// Machine is what attached servers know of the machine they run on: its devices, and which process holds memory of which. Its methods
// may be called from any goroutine.
type Machine struct {
	// CanTell says that drivers number processes as this program does: not so in some containers. Set before the first use.
	CanTell bool
	// Memory is what the servers had before this agent was started; nil for nothing. Set before the first use.
	Memory *Memory

	inventory atomic.Pointer[gpu.Inventory]
	report    atomic.Pointer[gpu.Report]
}

// See takes the newest inventory and report; nil keeps what was known.
func (m *Machine) See(inventory *gpu.Inventory, report *gpu.Report) {
	if inventory != nil {
		m.inventory.Store(inventory)
	}
	if report != nil {
		m.report.Store(report)
	}
}

// Inventory gives the devices as they were seen last; nil until they are known.
func (m *Machine) Inventory() *gpu.Inventory { return m.inventory.Load() }

// known is what was seen last; nil for what never was.
type known struct {
	inventory *gpu.Inventory
	report    *gpu.Report
}

func (m *Machine) latest() known { return known{m.inventory.Load(), m.report.Load()} }

// holders gives the IDs of the devices on which a process, or one that it started, has memory. known is false when that can't be
// told.
func (m *Machine) holders(pid int) (ids []string, known bool) {
	inventory, report := m.inventory.Load(), m.report.Load()
	if !m.CanTell || pid == 0 || inventory == nil || report == nil || report.Revision != inventory.Revision || len(report.Devices) != len(inventory.Devices) {
		return nil, false
	}
	for i, details := range report.Devices {
		for _, p := range details.Processes {
			if process.Descends(p.PID, pid) {
				ids = append(ids, inventory.Devices[i].ID)
				break
			}
		}
	}
	return ids, len(ids) > 0
}
