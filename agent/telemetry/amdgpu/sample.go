package amdgpu

import (
	"slices"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// values are what the pointers of one Reading lead to: one allocation for all of them.
type values struct {
	utilization, memoryUtilization  float64
	media                           float64
	vramUsed, gttUsed               uint64
	power, powerLimit, core, memory float64
	fanPercent, fanRPM              float64
	generation, width               int
	throttle                        gpu.Throttle
}

// set points to at slot when the value is there.
func set(to **float64, slot *float64, v float64, ok bool) {
	if ok {
		*slot = v
		*to = slot
	}
}

// Bounds beyond which a value is a fault of the firmware and not a measurement.
const (
	maxMemory  = 1 << 50
	minCelsius = -60
	maxCelsius = 200
	maxWatts   = 10_000
	maxMHz     = 20_000
	maxRPM     = 100_000
)

// sample fills r from the card's files, sysfs and hwmon first, gpu_metrics
// for what they lack.
func (c *card) sample(p *probe, s *sensors, r *gpu.Reading) {
	v := &values{}
	c.sampleMemory(p, s, v, r)
	util, ok := p.field("utilization_percent", s.busy, 1, 0, 100)
	set(&r.UtilizationPercent, &v.utilization, util, ok)
	util, ok = p.field("memory_utilization_percent", s.memoryBusy, 1, 0, 100)
	set(&r.MemoryUtilizationPercent, &v.memoryUtilization, util, ok)
	util, ok = p.field("media_percent", s.mediaBusy, 1, 0, 100)
	set(&r.MediaPercent, &v.media, util, ok)
	c.sampleTemperatures(p, s, r)
	watts, ok := p.field("power_watts", s.power, 1e6, 0, maxWatts)
	set(&r.PowerWatts, &v.power, watts, ok)
	watts, ok = p.field("power_limit_watts", s.powerCap, 1e6, 0, maxWatts)
	set(&r.PowerLimitWatts, &v.powerLimit, watts, ok && watts > 0) // 0 stands for no limit
	mhz, ok := p.clock("core_clock_mhz", s.coreClock, s.coreTable)
	set(&r.CoreClockMHz, &v.core, mhz, ok)
	mhz, ok = p.clock("memory_clock_mhz", s.memoryClock, s.memoryTable)
	set(&r.MemoryClockMHz, &v.memory, mhz, ok)
	sampleFan(p, s, v, r)
	c.sampleMetrics(p, s, v, r)
	sampleLink(p, s, v, r)
}

// sampleMemory reads the memory in use: of the card, or what KFD counts where there is nothing else.
func (c *card) sampleMemory(p *probe, s *sensors, v *values, r *gpu.Reading) {
	if used, ok := p.field("memory_used_bytes", s.vramUsed, 1, 0, maxMemory); ok {
		v.vramUsed = uint64(used)
		r.MemoryUsedBytes = &v.vramUsed
	} else if s.vramUsed == "" {
		for _, part := range c.parts {
			if used, ok := p.field("memory_used_bytes", part.bank, 1, 0, maxMemory); ok {
				v.vramUsed += uint64(used)
				r.MemoryUsedBytes = &v.vramUsed
			}
		}
	}
	if used, ok := p.field("shared_memory_used_bytes", s.gttUsed, 1, 0, maxMemory); ok {
		v.gttUsed = uint64(used)
		r.SharedMemoryUsedBytes = &v.gttUsed
	}
}

// sampleTemperatures leaves out a sensor that says exactly 0 °C beside one of more than 20: so firmware answers for a sensor
// that the board doesn't have (the memory of Navi 14). One that ever said something else is there, and may be at 0.
func (c *card) sampleTemperatures(p *probe, s *sensors, r *gpu.Reading) {
	if len(s.temperatures) == 0 {
		return
	}
	warmest := 0.0
	found := make([]gpu.Temperature, 0, len(s.temperatures))
	for _, t := range s.temperatures {
		if celsius, ok := p.field("temperatures", t.path, 1000, minCelsius, maxCelsius); ok {
			found = append(found, gpu.Temperature{Sensor: t.sensor, Celsius: celsius})
			warmest = max(warmest, celsius)
			if i := slices.Index(gpu.Sensors, t.sensor); celsius != 0 && i >= 0 {
				c.track.lively[i] = true
			}
		}
	}
	r.Temperatures = slices.DeleteFunc(found, func(t gpu.Temperature) bool {
		return t.Celsius == 0 && warmest > 20 && !c.track.lively[slices.Index(gpu.Sensors, t.Sensor)]
	})
	if len(r.Temperatures) > 0 {
		p.filled("temperatures")
	}
}

// clock reads hwmon's frequency, else the starred level of the pp_dpm table, in MHz.
func (p *probe) clock(field, hwmon, table string) (float64, bool) {
	if mhz, ok := p.field(field, hwmon, 1e6, 0, maxMHz); ok {
		return mhz, true
	}
	mhz, ok := parseStarredClock(p.bytes(table))
	if !ok || mhz > maxMHz {
		p.note(field)
		return 0, false
	}
	p.answered++
	p.filled(field)
	return mhz, true
}

func sampleFan(p *probe, s *sensors, v *values, r *gpu.Reading) {
	rpm, turning := p.field("fan_rpm", s.fan, 1, 0, maxRPM)
	set(&r.FanRPM, &v.fanRPM, rpm, turning)
	if pwm, ok := p.field("fan_percent", s.pwm, 1, 0, 255); ok {
		set(&r.FanPercent, &v.fanPercent, pwm/255*100, true)
	} else if turning && s.fanMax > 0 {
		set(&r.FanPercent, &v.fanPercent, min(100, rpm/s.fanMax*100), true)
		p.filled("fan_percent")
	}
}

// metricsFields are the fields that gpu_metrics can fill, as in JSON; the position is the bit in card.fromMetrics.
var metricsFields = []string{"utilization_percent", "memory_utilization_percent", "power_watts", "core_clock_mhz",
	"memory_clock_mhz", "fan_rpm", "media_percent", "temperatures", "throttle_reasons", "pcie_generation", "pcie_width", "energy_joules", "pcie_replays", "links"}

const (
	fanBit, temperaturesBit, throttleBit = 1 << 5, 1 << 7, 1 << 8
	linkBits                             = 1<<9 | 1<<10

	energyBit, replaysBit, xgmiBit = 1 << 11, 1 << 12, 1 << 13
)

// sampleMetrics reads gpu_metrics and fills what the other files lack.
func (c *card) sampleMetrics(p *probe, s *sensors, v *values, r *gpu.Reading) {
	m, ok := decodeMetrics(p.blob(s.metrics))
	if !ok {
		if s.metrics != "" && p.cause != "" {
			p.note("throttle_reasons")
		}
		return
	}
	p.answered++
	var filled uint32
	for i, f := range [...]struct {
		to    **float64
		slot  *float64
		value optional
		high  float64
	}{
		{&r.UtilizationPercent, &v.utilization, m.percent(), 100},
		{&r.MemoryUtilizationPercent, &v.memoryUtilization, m.memoryActivity, 100},
		{&r.PowerWatts, &v.power, m.watts, maxWatts},
		{&r.CoreClockMHz, &v.core, m.coreMHz, maxMHz},
		{&r.MemoryClockMHz, &v.memory, m.memoryMHz, maxMHz},
		{&r.FanRPM, &v.fanRPM, m.fanRPM, maxRPM},
		{&r.MediaPercent, &v.media, m.media, 100},
	} {
		passive := 1<<i == fanBit && s.fan == "" // of cards without a fan the table says 0
		if *f.to == nil && f.value.known && f.value.value <= f.high && !passive {
			set(f.to, f.slot, f.value.value, true)
			filled |= 1 << i
			p.filled(metricsFields[i])
		}
	}
	if len(r.Temperatures) == 0 {
		for i, t := range [3]optional{m.edge, m.junction, m.memory} {
			if t.known && t.value > 0 && t.value <= maxCelsius {
				r.Temperatures = append(r.Temperatures, gpu.Temperature{Sensor: gpu.Sensors[i], Celsius: t.value})
				filled |= temperaturesBit
				p.filled("temperatures")
			}
		}
	}
	if t := c.throttled(m); t != nil {
		v.throttle = *t
		r.Throttle = &v.throttle
		filled |= throttleBit
	}
	if m.link != (link{}) {
		v.link(m.link, r)
		filled |= linkBits
	}
	c.fromMetrics.Or(filled)
}

// sampleLink takes the link, where gpu_metrics had none, from pp_dpm_pcie, else from the bridge towards the slot.
func sampleLink(p *probe, s *sensors, v *values, r *gpu.Reading) {
	if r.PCIeWidth != nil {
		return
	}
	if l, ok := parseStarredLink(p.bytes(s.linkTable)); ok {
		v.link(l, r)
	} else if rate, ok := parseLinkSpeed(string(kernel.Trim(p.bytes(s.linkSpeed)))); ok {
		if width, ok := p.number(s.linkWidth, 1, 1, 32); ok {
			v.link(link{rate, int(width)}, r)
		}
	}
}

func (v *values) link(l link, r *gpu.Reading) {
	if v.generation = generation(l.gigatransfers); v.generation > 0 {
		r.PCIeGeneration = &v.generation
	}
	v.width = l.width
	r.PCIeWidth = &v.width
}

// throttled gives the reasons for which the card is slower than it could be: what the table says, else which of its counters went
// up since the last Read; nil when neither tells.
func (c *card) throttled(m metrics) *gpu.Throttle {
	if m.hasThrottle {
		return &m.throttle
	}
	if t, known := m.residency.since(c.track.residency); known {
		c.track.throttle = &t
	}
	c.track.residency = m.residency
	if m.residency == (residency{}) {
		c.track.throttle = nil
	}
	return c.track.throttle
}
