package server

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// getPool answers GET /api/v1/pool.
func (s *Server) getPool(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	answer, err := s.pool(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// putPool answers PUT /api/v1/pool: a limit that is not given is none.
func (s *Server) putPool(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	var settings pool.Settings
	if err := decodeBody(w, r, &settings); err != nil {
		return err
	}
	if err := settings.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	if err := s.config.SteerPool(ctx, settings); err != nil {
		return err
	}
	return s.getPool(w, r)
}

// pool shows every device of the inventory, and the processor where it generates or people decided about it.
func (s *Server) pool(ctx context.Context) (wire.Pool, error) {
	inventory := s.awaitInventory(ctx)
	if inventory == nil {
		return wire.Pool{}, errNotMeasured
	}
	capacity, steering := s.capacity(ctx), s.config.Steering()
	devices := slices.Clone(inventory.Devices)
	_, decided := steering.Devices[gpu.CPU.String()]
	if _, ok := slotOf(capacity, gpu.CPU); ok || decided {
		devices = append(devices, gpu.Device{ID: gpu.CPU.String(), Index: gpu.CPU, Name: inventory.Host.CPUModel})
	}
	running := map[string][]string{}
	for _, j := range s.config.Queue.Active() {
		if j.State == job.Running {
			running[j.DeviceKey] = append(running[j.DeviceKey], j.ID)
		}
	}
	answer := wire.Pool{Pool: steering.Pool, Devices: []wire.PoolDevice{}}
	for _, d := range devices {
		shown := wire.PoolDevice{Steered: steeredNow(capacity, d.Index, d.ID, s.control(d.ID)), Name: d.Name, Loaded: []string{}, Running: append([]string{}, running[d.ID]...)}
		for _, slot := range capacity.Slots {
			if slot.Device == d.Index && slot.Loaded != "" {
				shown.Loaded = append(shown.Loaded, slot.Loaded)
			}
		}
		if shown.Words == "" {
			shown.Words = idleBecause(capacity, d.Index)
		}
		answer.Devices = append(answer.Devices, shown)
	}
	return answer, nil
}

// idleBecause says why a device that nobody keeps from work takes none; "" when it does.
func idleBecause(capacity wire.Capacity, ref gpu.Ref) string {
	why := "has no generator"
	for _, slot := range capacity.Slots {
		switch {
		case slot.Device != ref:
		case slot.Problem == "":
			return ""
		default:
			why = slot.Problem
		}
	}
	return why
}

// steeredNow is a device's control with what it means: what the scheduler says, or, of a decision that it has not looked at yet,
// what comes first.
func steeredNow(capacity wire.Capacity, ref gpu.Ref, key string, control pool.Control) wire.Steered {
	for _, d := range capacity.Devices {
		if d.Key == key && sameControl(d.Control, control) {
			return wire.Steered{Device: ref, Key: key, Control: control, Phase: d.Phase, Words: d.Words}
		}
	}
	_, generates := slotOf(capacity, ref)
	return wire.Steered{Device: ref, Key: key, Control: control, Phase: firstPhase(control.Mode, generates)}
}

// firstPhase is what a mode begins with.
func firstPhase(mode pool.Mode, generates bool) wire.Phase {
	switch mode {
	case pool.Paused:
		return wire.PhasePaused
	case pool.Draining:
		if generates {
			return wire.PhaseDraining
		}
		return wire.PhaseDrained // there is nothing to wait for
	case pool.Reserved:
		if generates {
			return wire.PhaseDraining
		}
		return wire.PhaseReserved
	default:
		return wire.PhaseActive
	}
}

func sameControl(a, b pool.Control) bool {
	now := time.Now()
	a, b = a.At(now), b.At(now)
	ends := a.Until == b.Until || a.Until != nil && b.Until != nil && a.Until.Equal(*b.Until)
	a.Until, b.Until = nil, nil
	return ends && reflect.DeepEqual(a, b)
}

// phases lists every phase.
var phases = []wire.Phase{wire.PhaseActive, wire.PhasePaused, wire.PhaseDraining, wire.PhaseDrained, wire.PhaseReserved, wire.PhaseYielding, wire.PhaseLimited}

// phaseOf is what the scheduler says of a device; it does not name those that just take work.
func phaseOf(capacity wire.Capacity, ref gpu.Ref) wire.Phase {
	for _, d := range capacity.Devices {
		if d.Device == ref {
			return d.Phase
		}
	}
	return wire.PhaseActive
}
