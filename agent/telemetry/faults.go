package telemetry

import (
	"slices"
	"time"

	"muster/shared/gpu"
)

// faultSlack is how far apart two drivers may date one fault.
const faultSlack = 2 * time.Second

// addFaults keeps the faults that the worker's reader did not report before: a reader that begins anew has forgotten them, or
// reports them again. One that no other reader of the device reported either is logged, and in a report at once.
func (s *Sampler) addFaults(w *worker, faults []gpu.Fault) {
	d := w.details
	for _, f := range faults {
		if len(d.faults) == gpu.MaxFaults && f.Time.Before(d.faults[0].Time) || slices.ContainsFunc(d.faults, func(g gpu.Fault) bool { return sameFault(f, g, 0) }) {
			continue
		}
		known := s.knownToOthers(w, f)
		d.faults = newestFaults(append(slices.Clone(d.faults), f))
		d.fresh = true
		if known {
			continue
		}
		s.rounds.urgent = true
		device, id := s.identity(w)
		s.log.Warn("the driver reports a fault", "device", device, "id", id, "kind", f.Kind, "code", f.Code, "text", f.Text)
	}
}

// identity gives the device that the worker reads, as people know it; none once it is no longer listed.
func (s *Sampler) identity(w *worker) (gpu.Ref, string) {
	inv := s.inventory.Load()
	if inv == nil || w.position >= len(inv.Devices) || !slices.Contains(s.devices[w.position], w) {
		return gpu.Ref(w.position), ""
	}
	return inv.Devices[w.position].Index, inv.Devices[w.position].ID
}

func (s *Sampler) knownToOthers(w *worker, f gpu.Fault) bool {
	if w.position >= len(s.devices) {
		return false
	}
	return slices.ContainsFunc(s.devices[w.position], func(other *worker) bool {
		return other != w && other.details != nil && slices.ContainsFunc(other.details.faults, func(g gpu.Fault) bool { return sameFault(f, g, faultSlack) })
	})
}

func sameFault(a, b gpu.Fault, slack time.Duration) bool {
	return a.Kind == b.Kind && a.Code == b.Code && a.Time.Sub(b.Time).Abs() <= slack
}

// mergeFaults adds to a what another reader of the same device reported, and a has not.
func mergeFaults(a, b []gpu.Fault) []gpu.Fault {
	merged := slices.Clone(a)
	for _, f := range b {
		if !slices.ContainsFunc(a, func(g gpu.Fault) bool { return sameFault(f, g, faultSlack) }) {
			merged = append(merged, f)
		}
	}
	return newestFaults(merged)
}

// newestFaults sorts by time, and keeps the newest MaxFaults.
func newestFaults(faults []gpu.Fault) []gpu.Fault {
	slices.SortStableFunc(faults, func(a, b gpu.Fault) int { return a.Time.Compare(b.Time) })
	return faults[max(0, len(faults)-gpu.MaxFaults):]
}
