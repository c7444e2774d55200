package intel

import (
	"path/filepath"
	"time"

	"muster/shared/gpu"
)

// Bounds beyond which a value is a fault of the firmware and not a measurement.
const (
	minCelsius = -60
	maxCelsius = 200
	maxWatts   = 2_000
	maxMHz     = 20_000
	maxRPM     = 100_000
	maxMemory  = 1 << 50
)

// sample fills r from the device's files, all but memory and engines.
func (s *sensors) sample(p *probe, m *meter, r *gpu.Reading) {
	for _, t := range s.temperatures {
		if celsius, ok := p.number(t.path, 1000, minCelsius, maxCelsius); ok {
			r.Temperatures = append(r.Temperatures, gpu.Temperature{Sensor: t.sensor, Celsius: celsius})
		}
	}
	if joules, ok := p.number(s.energy, 1e6, 0, 1<<53); ok && joules > 0 { // xe says 0 when it could not ask
		watts, ok := m.energy.advance(joules, time.Now())
		set(&r.PowerWatts, watts, ok && watts <= maxWatts)
	}
	watts, ok := p.number(s.powerLimit, 1e6, 0, maxWatts)
	set(&r.PowerLimitWatts, watts, ok && watts > 0) // 0 stands for no limit
	mhz, ok := p.number(s.clock, 1, 0, maxMHz)
	set(&r.CoreClockMHz, mhz, ok)
	s.sampleFans(p, r)
	reasons, ok := s.throttle.read(p)
	set(&r.Throttle, reasons, ok)
	generation, ok := parseGeneration(p.text(s.linkSpeed))
	set(&r.PCIeGeneration, generation, ok)
	width, ok := parseWidth(p.text(s.linkWidth))
	set(&r.PCIeWidth, width, ok)
}

// sampleFans gives the fastest fan: a card whose one fan stands still is cooled by the others.
func (s *sensors) sampleFans(p *probe, r *gpu.Reading) {
	for _, fan := range s.fans {
		if rpm, ok := p.number(fan, 1, 0, maxRPM); ok && (r.FanRPM == nil || rpm > *r.FanRPM) {
			r.FanRPM = &rpm
		}
	}
}

// counter turns a counter into a rate.
type counter struct {
	value float64
	at    time.Time
}

// Rates are means over the time between two readings: in less than minWindow a counter may not have moved, and a mean over more
// than maxWindow tells nothing of now.
const (
	minWindow = 50 * time.Millisecond
	maxWindow = 30 * time.Second
)

// advance takes the counter's value at a time and gives its rise per second since the one before; false for the first, for one
// that went back (the driver was loaded again), and for one that comes too soon or too late after the one before.
func (c *counter) advance(value float64, at time.Time) (perSecond float64, ok bool) {
	before, elapsed := *c, at.Sub(c.at)
	if !before.at.IsZero() && elapsed >= 0 && elapsed < minWindow && value >= before.value {
		return 0, false
	}
	*c = counter{value, at}
	if before.at.IsZero() || elapsed <= 0 || elapsed > maxWindow || value < before.value {
		return 0, false
	}
	return (value - before.value) / elapsed.Seconds(), true
}

// describe fills what static facts the files tell, and says from where each measured value comes or why it doesn't.
func (c *card) describe(sources map[string]string) {
	d := &c.device
	d.Sources = sources
	put := func(field, source string, there bool) {
		if there {
			sources[field] = source
		}
	}
	d.MemoryBytes = c.memory.total
	put("memory_bytes", c.memory.source, c.memory.total != nil)
	put("memory_total_bytes", c.memory.source, c.memory.total != nil)
	put("memory_used_bytes", c.memory.source, c.memory.total != nil && c.memory.counted)
	put("shared_memory_total_bytes", c.memory.source, c.memory.shared != nil)
	c.describeAbsent()
	put("utilization_percent", "fdinfo of processes", true)
	put("media_percent", "fdinfo of processes", true)
	s := c.sensors.Load()
	if s == nil {
		return
	}
	d.Limits = s.limits
	put("temperatures", "hwmon", len(s.temperatures) > 0)
	put("power_watts", "hwmon "+filepath.Base(s.energy), s.energy != "")
	put("energy_joules", "hwmon "+filepath.Base(s.energy), s.energy != "")
	put("power_limit_watts", "hwmon "+filepath.Base(s.powerLimit), s.powerLimit != "")
	put("fan_rpm", "hwmon fan_input", len(s.fans) > 0)
	put("core_clock_mhz", filepath.Base(s.clock), s.clock != "")
	put("throttle_reasons", filepath.Base(s.throttle.dir), s.throttle.status != "" || s.throttle.reasons != "")
	put("pcie_generation", "current_link_speed", s.linkSpeed != "")
	put("pcie_width", "current_link_width", s.linkWidth != "")
}
