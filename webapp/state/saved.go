package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// SavedJobs is how many jobs are kept for the next start; the gallery needs the newest, the rest comes with the connection.
const SavedJobs = 60

// saved is the last known state as the events that lead to it, so that there is one way in, Apply.
type saved struct {
	Version int          `json:"version"` // wire.Version
	At      time.Time    `json:"at"`
	Events  []wire.Event `json:"events"`
}

// Save gives the last known state as JSON, for Restore. at is when its last frame arrived.
func (s State) Save(at time.Time) ([]byte, error) {
	keep := saved{Version: wire.Version, At: at}
	if s.Inventory != nil {
		keep.Events = append(keep.Events, wire.Event{Inventory: s.Inventory})
	}
	if s.Snapshot != nil {
		keep.Events = append(keep.Events, wire.Event{Snapshot: s.Snapshot})
	}
	if s.Report != nil {
		keep.Events = append(keep.Events, wire.Event{Details: discreet(s.Report)})
	}
	if s.Capacity != nil {
		keep.Events = append(keep.Events, wire.Event{Capacity: s.Capacity})
	}
	if s.Library != nil {
		keep.Events = append(keep.Events, wire.Event{Library: s.Library})
	}
	for i, j := range s.Jobs {
		if i < SavedJobs || j.State == job.Running {
			keep.Events = append(keep.Events, wire.Event{Job: j})
		}
	}
	b, err := json.Marshal(keep)
	if err != nil {
		return nil, fmt.Errorf("last known state: %w", err)
	}
	return b, nil
}

// discreet gives the report without command lines: they may hold secrets, which are not for the browser's store.
func discreet(report *gpu.Report) *gpu.Report {
	kept := *report
	kept.Devices = slices.Clone(report.Devices)
	for i := range kept.Devices {
		kept.Devices[i].Processes = slices.Clone(kept.Devices[i].Processes)
		for j := range kept.Devices[i].Processes {
			kept.Devices[i].Processes[j].Command = ""
		}
	}
	return &kept
}

// Restore gives what Save kept, as not yet connected, and when its last frame arrived. What another version of the app kept
// is an error.
func Restore(b []byte) (State, error) {
	var keep saved
	if err := json.Unmarshal(b, &keep); err != nil {
		return State{}, fmt.Errorf("last known state: %w", err)
	}
	if keep.Version != wire.Version {
		return State{}, fmt.Errorf("last known state: version %d, want %d", keep.Version, wire.Version)
	}
	s := State{}
	for _, e := range keep.Events {
		s = s.Apply(e)
	}
	s.LastSeq, s.fresh, s.Trends = 0, false, Trends{}
	return s.Linked(Connecting, keep.At), nil
}
