package amdsmi

import (
	"context"
	"fmt"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// details asks for what is dear.
func (d *device) details(ctx context.Context, c *connection) (gpu.Details, error) {
	s := &survey{sample: sample{device: d, absent: d.absences()}}
	if s.absent == nil {
		s.absent = map[string]gpu.Absence{}
	}
	s.details.Time = time.Now().UTC()
	for _, step := range []func(){s.processes, s.energy, s.ecc, s.replays} {
		if step(); s.fatal != success {
			c.end()
			return gpu.Details{}, fmt.Errorf("%w: %w", whyNot(s.fatal), telemetry.ErrNoDriver)
		}
		if err := ctx.Err(); err != nil {
			return gpu.Details{}, err
		}
	}
	if len(s.absent) > 0 {
		s.details.Absent = s.absent
	}
	return s.details, s.err()
}

// survey is one Details under way.
type survey struct {
	sample
	details gpu.Details
}

func (s *survey) processes() {
	list, result := s.session.processes(s.handle)
	if s.got(result, "processes") {
		s.details.Processes = list
	}
	if result == noPermission {
		s.details.ProcessesHidden = "this user may not see the processes of others: " + mendGroups
	}
}

// energy counts in steps of microjoules times a resolution of the device's.
func (s *survey) energy() {
	var counter, nanoseconds uint64
	var resolution float32
	if !s.got(s.getEnergy(s.handle, &counter, &resolution, &nanoseconds), "energy_joules") {
		return
	}
	// A counter that stands at 0 is that of a device that doesn't count.
	if counter != 0 && counter != 1<<64-1 && resolution > 0 && resolution < 1e6 {
		s.details.EnergyJoules = new(float64(counter) * float64(resolution) / 1e6)
	}
}

// ecc leaves the counts out where no part of the device counts: then they are 0 without meaning it.
func (s *survey) ecc() {
	var blocks uint64
	if !s.got(s.getECCEnabled(s.handle, &blocks), "ecc") {
		return
	}
	enabled := blocks != 0
	s.details.ECC = &gpu.ECC{Enabled: &enabled}
	if !enabled {
		return
	}
	counts, result := s.errorCounts(s.handle)
	if s.got(result) {
		s.details.ECC.CorrectedVolatile, s.details.ECC.UncorrectedVolatile = counts.corrected, counts.uncorrected
	}
}

func (s *survey) replays() {
	l, result := s.session.link(s.handle)
	if s.got(result, "pcie_replays") {
		s.details.PCIeReplays = l.replays
	}
}
