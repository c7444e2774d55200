// Package state is what the app knows, and the only way in which it learns: State.Apply. It is pure: no go-app, no browser, no
// clock. Every value it hands out is never changed afterwards, so views may keep pointers and compare them.
package state

import (
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// Link says how the app is connected to its agent.
type Link string

// The states of the link. Each constant's comment says what the page shows in it.
const (
	Connecting Link = "connecting" // first attempt: the last known state, if any
	Connected  Link = "connected"  // snapshots arrive
	Stale      Link = "stale"      // the socket is open, but nothing came for several intervals
	Offline    Link = "offline"    // the agent can't be reached: the last known state, and commands wait
	Unpaired   Link = "unpaired"   // the agent wants a one-time link first
)

// State is everything that the app shows. The zero value knows nothing. Values are immutable: Apply gives a new one.
type State struct {
	Link Link
	// Since is when the link came to this state; for Stale and Offline when the last frame arrived (zero: never).
	Since time.Time

	Hello     wire.Hello     // of the newest connection; zero before the first
	Inventory *gpu.Inventory // nil before the first
	Snapshot  *gpu.Snapshot  // belongs to Inventory; nil before the first
	Report    *gpu.Report    // belongs to Inventory; nil before the first
	Capacity  *wire.Capacity // nil before the first
	Library   *model.Library // nil before the first
	Trends    Trends         // the last minutes
	Jobs      []*job.Job     // newest set first, within a set by ordinal
	LastSeq   uint64         // of the newest job event: where a new connection resumes
	fresh     bool           // Snapshot came after Hello, so that its Seq can be compared
}

// MaxJobs bounds how many jobs the app remembers; the oldest that have ended go first.
const MaxJobs = 1000

// Apply gives the state after an event. An event that is late, foreign or empty gives the same state.
func (s State) Apply(e wire.Event) State {
	switch {
	case e.Hello != nil:
		return s.greet(*e.Hello)
	case e.Inventory != nil:
		return s.survey(e.Inventory)
	case e.Snapshot != nil:
		return s.measure(e.Snapshot)
	case e.Details != nil:
		if s.Inventory != nil && describes(e.Details, s.Inventory) {
			s.Report = e.Details
		}
	case e.History != nil:
		s.Trends = s.Trends.recall(e.History, s.Inventory)
	case e.Capacity != nil:
		s.Capacity = e.Capacity
	case e.Library != nil:
		s.Library = e.Library
	case e.Job != nil:
		return s.record(e.Job)
	}
	return s
}

// Linked gives the state after the link changed; at is the time of the change, or of the last frame.
func (s State) Linked(link Link, at time.Time) State {
	s.Link, s.Since = link, at
	return s
}

// Live says whether the readings on the page are of now.
func (s State) Live() bool { return s.Link == Connected && s.Snapshot != nil && s.fresh }

// Reading gives the newest reading of a device; false when there is none.
func (s State) Reading(ref gpu.Ref) (gpu.Reading, bool) {
	if s.Snapshot == nil || ref < 0 || int(ref) >= len(s.Snapshot.GPUs) {
		return gpu.Reading{}, false
	}
	return s.Snapshot.GPUs[ref], true
}

// Details gives what a device reported last beside its readings; zero when nothing has arrived.
func (s State) Details(ref gpu.Ref) gpu.Details {
	if s.Report == nil || ref < 0 || int(ref) >= len(s.Report.Devices) {
		return gpu.Details{}
	}
	return s.Report.Devices[ref]
}

// Simulated says whether anything on the page was not measured on a real device.
func (s State) Simulated() bool { return s.Inventory != nil && s.Inventory.Simulated() }

func (s State) greet(h wire.Hello) State {
	if h.Complete {
		s.Jobs, s.LastSeq = nil, 0
	}
	step := max(TrendStep, time.Duration(h.IntervalMilliseconds)*time.Millisecond)
	if s.Trends.Step != step {
		s.Trends = Trends{Step: step}
	}
	if s.Inventory != nil {
		s.Trends = s.Trends.fit(s.Inventory.Devices)
	}
	s.Hello, s.fresh = h, false
	return s
}

// survey takes an inventory, and drops what was measured on other devices. What was measured on the same ones stands until there
// is something newer, so that a driver that was updated or a problem that ended does not empty every card for a moment.
func (s State) survey(inventory *gpu.Inventory) State {
	same := s.Inventory != nil && slices.EqualFunc(s.Inventory.Devices, inventory.Devices, func(a, b gpu.Device) bool { return a.ID == b.ID })
	if !same {
		s.Snapshot, s.Report = nil, nil
	}
	if s.Snapshot != nil {
		kept := *s.Snapshot
		kept.Revision, s.Snapshot = inventory.Revision, &kept
	}
	if s.Report != nil {
		kept := *s.Report
		kept.Revision, s.Report = inventory.Revision, &kept
	}
	s.Inventory = inventory
	s.Trends = s.Trends.fit(inventory.Devices)
	return s
}

func (s State) measure(snapshot *gpu.Snapshot) State {
	if s.Inventory == nil || !belongs(snapshot, s.Inventory) {
		return s
	}
	if s.fresh && s.Snapshot != nil && snapshot.Seq <= s.Snapshot.Seq {
		return s
	}
	s.Snapshot, s.fresh = snapshot, true
	s.Trends = s.Trends.add(snapshot)
	return s
}

// belongs says whether the snapshot's readings stand at the positions of the inventory's devices.
func belongs(snapshot *gpu.Snapshot, inventory *gpu.Inventory) bool {
	return snapshot.Revision == inventory.Revision && len(snapshot.GPUs) == len(inventory.Devices)
}

// describes says whether the report's details stand at the positions of the inventory's devices.
func describes(report *gpu.Report, inventory *gpu.Inventory) bool {
	return report.Revision == inventory.Revision && len(report.Devices) == len(inventory.Devices)
}
