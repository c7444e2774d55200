package amdgpu

import (
	"context"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"strings"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// details reads everything that is dear.
func (c *card) details(ctx context.Context) (gpu.Details, error) {
	p := newProbe(c.tree)
	defer p.release()
	if c.asleep(p) {
		return gpu.Details{}, fmt.Errorf("AMD card %s: %w", c.device.PCIAddress, telemetry.ErrSuspended)
	}
	s := c.sensors.Load()
	if s == nil {
		s = c.resurvey()
	}
	d := gpu.Details{Time: time.Now().UTC()}
	p.absences = maps.Clone(c.track.absent)
	m, decoded := decodeMetrics(p.blob(s.metrics))
	metricsCause := p.cause
	if decoded {
		p.answered++
	}
	c.detailCounters(p, s, m, metricsCause, &d)
	d.Links = c.links(m)
	d.Partitions = c.partitionReadings(p, m)
	d.Disagreements = c.disagreements(p, s, m)
	if !c.present() || p.gone > 0 || p.answered == 0 && p.denied+p.refused > 0 {
		return gpu.Details{}, fmt.Errorf("AMD card %s: %w", c.device.PCIAddress, c.silence(p))
	}
	if err := c.processes(ctx, p, &d); err != nil {
		return gpu.Details{}, fmt.Errorf("processes on AMD card %s: %w", c.device.PCIAddress, err)
	}
	d.Absent = p.absences
	return d, nil
}

// detailCounters reads what counts up: energy, packets sent again, errors of the memory. metricsCause is why gpu_metrics could not
// be read; "" when it could, or there is none.
func (c *card) detailCounters(p *probe, s *sensors, m metrics, metricsCause gpu.Absence, d *gpu.Details) {
	if joules, ok := p.field("energy_joules", s.energy, 1e6, 0, math.MaxFloat64); ok {
		d.EnergyJoules = &joules
	} else if e := m.joules(c.graphics); e.known {
		d.EnergyJoules = &e.value
		p.filled("energy_joules")
		c.fromMetrics.Or(energyBit)
	} else if metricsCause != "" {
		p.cause = metricsCause
		p.note("energy_joules")
	}
	if count, ok := p.field("pcie_replays", s.replays, 1, 0, 1<<53); ok {
		n := uint64(count)
		d.PCIeReplays = &n
	} else if m.replays.known {
		n := uint64(m.replays.value)
		d.PCIeReplays = &n
		p.filled("pcie_replays")
		c.fromMetrics.Or(replaysBit)
	}
	d.ECC = readECC(p, s)
}

// readECC reads the errors of the memory since the driver was loaded; nil when the card doesn't count them.
func readECC(p *probe, s *sensors) *gpu.ECC {
	if s.ecc == "" {
		return nil
	}
	b := p.bytes(s.ecc)
	uncorrected, corrected, ok := parseErrorCounts(string(kernel.Trim(b)))
	if !ok {
		if b != nil {
			p.cause = gpu.AbsentFailed
		}
		p.note("ecc")
		return nil
	}
	p.answered++
	ecc := &gpu.ECC{CorrectedVolatile: corrected, UncorrectedVolatile: uncorrected}
	if mask, ok := parseFeatureMask(string(kernel.Trim(p.bytes(s.rasFeatures)))); ok {
		enabled := mask&1 != 0 // AMDGPU_RAS_BLOCK__UMC
		ecc.Enabled = &enabled
	}
	return ecc
}

// parseErrorCounts reads ras/umc_err_count: lines "ue: 0", "ce: 3" and, on newer kernels, "de: 0".
func parseErrorCounts(text string) (uncorrected, corrected *uint64, ok bool) {
	for name, v := range namedNumbers(strings.ReplaceAll(text, ":", "")) {
		switch name {
		case "ue":
			uncorrected = &v
		case "ce":
			corrected = &v
		}
	}
	return uncorrected, corrected, uncorrected != nil || corrected != nil
}

// parseFeatureMask reads ras/features: "feature mask: 0x1".
func parseFeatureMask(text string) (uint64, bool) {
	line, _, _ := strings.Cut(text, "\n")
	mask, ok := strings.CutPrefix(line, "feature mask:")
	v, valid := kernel.Hex(mask)
	return v, ok && valid
}

// links gives the XGMI links: their state by gpu_metrics, where it tells that, else those that KFD shows, with their peers.
func (c *card) links(m metrics) []gpu.Link {
	if m.xgmi.status == ([maxLinks]linkStatus{}) && len(c.parts) == 1 {
		return c.parts[0].links
	}
	var links []gpu.Link
	for i, status := range m.xgmi.status {
		if status == linkAbsent {
			continue
		}
		l := gpu.Link{Index: i, Kind: "XGMI", Active: status == linkUp}
		if speed := m.xgmi.lanes.value * m.xgmi.gigabits.value / 8; m.xgmi.lanes.known && m.xgmi.gigabits.known && speed > 0 {
			l.GigabytesPerSecond = &speed
		}
		links = append(links, l)
		c.fromMetrics.Or(xgmiBit)
	}
	return links
}

// partitionReadings tells of the partitions in the order of Device.Partitions; nil of an undivided card.
func (c *card) partitionReadings(p *probe, m metrics) []gpu.PartitionReading {
	var readings []gpu.PartitionReading
	for i, part := range c.parts {
		if part.id == "" {
			continue
		}
		r := gpu.PartitionReading{ID: part.id, MemoryTotalBytes: c.device.Partitions[i].MemoryBytes}
		if used, ok := p.field("partitions", part.bank, 1, 0, maxMemory); ok {
			n := uint64(used)
			r.MemoryUsedBytes = &n
		} else if used, ok := p.number(c.ownDRM(part), 1, 0, maxMemory); ok {
			n := uint64(used)
			r.MemoryUsedBytes = &n
		}
		if part.number < maxPartitions && m.partitions[part.number].known {
			busy := m.partitions[part.number].value
			r.UtilizationPercent = &busy
		}
		readings = append(readings, r)
	}
	return readings
}

// ownDRM gives the file in which a partition's own DRM device counts its memory; "" when it has none but the card's.
func (c *card) ownDRM(part part) string {
	if part.node == "" {
		return ""
	}
	dir, err := c.tree.Resolve(filepath.Join("sys/class/drm", part.node, "device"))
	if err != nil || dir == c.dir {
		return ""
	}
	return filepath.Join(dir, "mem_info_vram_used")
}

// disagreements compares what two sources say of one value. The second readings are made right after each other, since both
// change.
func (c *card) disagreements(p *probe, s *sensors, m metrics) []gpu.Disagreement {
	var list []gpu.Disagreement
	compare := func(field string, tolerance float64, first, second gpu.Sourced) {
		apart := math.Abs(first.Value - second.Value)
		if apart > tolerance && apart > gpu.DisagreementShare*math.Max(math.Abs(first.Value), math.Abs(second.Value)) {
			list = append(list, gpu.Disagreement{Field: field, Values: []gpu.Sourced{first, second}})
		}
	}
	// The tolerances are what rounding and one update of the firmware in between explain.
	if watts, ok := p.number(s.power, 1e6, 0, maxWatts); ok && m.watts.known && m.watts.value <= maxWatts {
		compare("power_watts", 3, gpu.Sourced{Source: "hwmon " + base(s.power), Value: watts}, gpu.Sourced{Source: "gpu_metrics", Value: m.watts.value})
	}
	for _, t := range s.temperatures {
		other := map[gpu.Sensor]optional{gpu.SensorEdge: m.edge, gpu.SensorJunction: m.junction, gpu.SensorMemory: m.memory}[t.sensor]
		if celsius, ok := p.number(t.path, 1000, minCelsius, maxCelsius); ok && other.known && other.value > 0 && celsius != 0 {
			compare("temperatures", 3, gpu.Sourced{Source: "hwmon " + string(t.sensor), Value: celsius}, gpu.Sourced{Source: "gpu_metrics", Value: other.value})
		}
	}
	if used, ok := p.number(s.vramUsed, 1, 0, maxMemory); ok {
		if banks, ok := c.bankSum(p); ok {
			compare("memory_used_bytes", 64<<20, gpu.Sourced{Source: "mem_info_vram_used", Value: used}, gpu.Sourced{Source: "KFD used_memory", Value: banks})
		}
	}
	return list
}

// bankSum adds up what KFD counts of the card's memory; false when it does not count all of its nodes.
func (c *card) bankSum(p *probe) (sum float64, ok bool) {
	for _, part := range c.parts {
		used, counted := p.number(part.bank, 1, 0, maxMemory)
		if !counted {
			return 0, false
		}
		sum += used
	}
	return sum, len(c.parts) > 0
}
