package state

import (
	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
)

// Steered gives what people decided about a device and what it does about that; an active one without decisions when the agent
// has said nothing of it. Its control always has a mode.
func (s State) Steered(ref gpu.Ref) wire.Steered {
	out := wire.Steered{Device: ref, Phase: wire.PhaseActive}
	if s.Capacity != nil {
		for _, d := range s.Capacity.Devices {
			if d.Device == ref {
				out = d
			}
		}
	}
	if out.Control.Mode == "" {
		out.Control.Mode = pool.Active
	}
	return out
}

// Budget is what people decided about all devices together.
func (s State) Budget() pool.Settings {
	if s.Capacity == nil {
		return pool.Settings{}
	}
	return s.Capacity.Pool
}
