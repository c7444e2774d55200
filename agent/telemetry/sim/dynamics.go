package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"muster/shared/gpu"
)

const (
	ambientCelsius = 27.0
	// reservedShare is what driver and firmware keep of the memory.
	reservedShare = 0.006
	// idleShare is what an idle card has in use.
	idleShare = 0.0015
)

// How fast each value follows what the device does: after this time 63 % of a change have happened.
const (
	utilizationInertia = 300 * time.Millisecond
	clockInertia       = 200 * time.Millisecond
	powerInertia       = 800 * time.Millisecond
	temperatureInertia = 22 * time.Second
	memoryInertia      = 60 * time.Second // memory chips heat up through the die
	fanInertia         = 5 * time.Second
)

// dynamics is what changes of a device. The zero value is a device that was never looked at.
type dynamics struct {
	begun, at         time.Time
	utilization       float64 // percent
	coreMHz           float64
	watts             float64
	edge, memory, fan float64 // °C, °C, share 0-1
	joules            float64 // since begun
	shared            bool    // another program uses it too
}

// advance moves the device to that moment. What is in its way, a clock that was set back included, changes nothing.
func (d *device) advance(now time.Time) {
	s := &d.state
	if s.begun.IsZero() {
		s.begun, s.at = now, now
		s.coreMHz, s.watts = d.idleMHz, d.idleWatts
		s.edge = d.steadyCelsius(d.idleWatts)
		s.memory = s.edge + 1
		s.fan = fanShare(s.edge)
	}
	for !now.Before(s.at) {
		works, until := d.other.at(s.at)
		s.shared = works
		if until.IsZero() || now.Before(until) {
			d.drift(now)
			return
		}
		d.drift(until)
	}
}

// drift moves the device to that moment, during which nothing begins or ends.
func (d *device) drift(now time.Time) {
	s := &d.state
	passed := now.Sub(s.at)
	s.at = now
	before := s.watts
	utilization, mhz, watts := 0.0, d.idleMHz, d.idleWatts
	switch {
	case d.jobs > 0 && s.shared:
		utilization, mhz, watts = 99, d.coreMHz, 0.96*d.limitWatts
	case d.jobs > 0:
		utilization, mhz, watts = 97.5, d.coreMHz, 0.93*d.limitWatts
	case s.shared:
		utilization, mhz, watts = neighbourPercent, d.coreMHz, neighbourWatts*d.limitWatts
	}
	follow(&s.utilization, utilization, passed, utilizationInertia)
	follow(&s.coreMHz, mhz, passed, clockInertia)
	follow(&s.watts, watts, passed, powerInertia)
	s.joules += watts*passed.Seconds() + (before-s.watts)*powerInertia.Seconds() // the integral of follow
	follow(&s.edge, d.steadyCelsius(s.watts), passed, temperatureInertia)
	follow(&s.memory, s.edge+3, passed, memoryInertia)
	follow(&s.fan, fanShare(s.edge), passed, fanInertia)
}

// steadyCelsius is where the temperature ends at that power: each slot of the machine gets a little less air than the last.
func (d *device) steadyCelsius(watts float64) float64 {
	rise := 43.0
	if d.fanRPM == 0 {
		rise = 39
	}
	return ambientCelsius + 0.9*float64(d.seed%8) + rise*watts/d.limitWatts
}

func fanShare(celsius float64) float64 { return min(1, max(0.18, (celsius-35)/50)) }

// follow moves a value towards its target as a first-order lag does.
func follow(value *float64, target float64, passed, inertia time.Duration) {
	*value += (target - *value) * -math.Expm1(-passed.Seconds()/inertia.Seconds())
}

// values is the memory of one reading: what its pointers lead to, in one allocation.
type values struct {
	utilization, memoryUtilization, watts, limit, coreMHz, memoryMHz, fan, rpm float64
	total, used, reserved                                                      uint64
	encoder, decoder                                                           float64
	generation, width, performance                                             int
	throttle                                                                   gpu.Throttle
	temperatures                                                               [3]gpu.Temperature
}

// reading is what the driver would report now. A little seeded variation lies on what a real sensor would vary; memory has none,
// so that placement can be told beforehand.
func (d *device) reading() gpu.Reading {
	s := &d.state
	load := s.utilization / 100
	v := &values{
		utilization:       round(clamp(s.utilization+load*1.5*d.vary(1), 0, 100), 1),
		memoryUtilization: round(clamp(load*(58+7*d.vary(2)), 0, 100), 1),
		watts:             round(clamp(s.watts+(0.6+0.02*s.watts)*d.vary(3), 1, d.limitWatts), 10),
		limit:             d.limitWatts,
		coreMHz:           round(s.coreMHz*(1+0.008*load*d.vary(4)), 1),
		memoryMHz:         d.memoryMHz,
		total:             d.memoryBytes(),
		generation:        d.pcie, width: 16,
	}
	v.reserved = uint64(reservedShare*float64(d.memoryMiB)) * mib
	v.used = uint64(idleShare*float64(d.memoryMiB))*mib + d.held
	if s.shared {
		v.used += d.neighbourBytes()
	}
	v.used = min(v.used, v.total-v.reserved)
	if d.idle() {
		v.throttle = gpu.ThrottleIdle
	}
	edge := s.edge + 0.4*d.vary(5)
	v.temperatures = [3]gpu.Temperature{
		{Sensor: gpu.SensorEdge, Celsius: round(edge, 1)},
		{Sensor: gpu.SensorJunction, Celsius: round(edge+1+16*s.watts/d.limitWatts, 1)},
		{Sensor: gpu.SensorMemory, Celsius: round(s.memory+0.3*d.vary(6), 1)},
	}
	r := gpu.Reading{
		State: gpu.StateOK, UtilizationPercent: &v.utilization, MemoryUtilizationPercent: &v.memoryUtilization,
		MemoryTotalBytes: &v.total, MemoryUsedBytes: &v.used, MemoryReservedBytes: &v.reserved, Temperatures: v.temperatures[:d.sensors()],
		PowerWatts: &v.watts, PowerLimitWatts: &v.limit, CoreClockMHz: &v.coreMHz, MemoryClockMHz: &v.memoryMHz,
		PCIeGeneration: &v.generation, PCIeWidth: &v.width, Throttle: &v.throttle,
	}
	if d.vendor == gpu.NVIDIA {
		if d.idle() && d.sleepsDeep() {
			v.performance = 8
		}
		r.EncoderPercent, r.DecoderPercent, r.PerformanceState = &v.encoder, &v.decoder, &v.performance
	}
	if d.fanRPM > 0 {
		v.fan, v.rpm = round(100*s.fan, 1), round(s.fan*d.fanRPM*(1+0.01*d.vary(7)), 1)
		r.FanPercent, r.FanRPM = &v.fan, &v.rpm
	}
	return r
}

// idle says that nobody uses the device.
func (d *device) idle() bool { return d.jobs == 0 && !d.state.shared }

// sensors counts the temperatures that the card reports: NVIDIA's driver gives one.
func (d *device) sensors() int {
	if d.vendor == gpu.NVIDIA {
		return 1
	}
	return 3
}

// vary is noise between -1 and 1 that moves smoothly from one value to the next every 3 s; each quantity has its own.
func (d *device) vary(quantity uint64) float64 {
	const period = 3.0
	elapsed := d.state.at.Sub(d.state.begun).Seconds() / period
	step := math.Floor(elapsed)
	share := elapsed - step
	share = share * share * (3 - 2*share)
	return d.noise(quantity, uint64(step))*(1-share) + d.noise(quantity, uint64(step)+1)*share
}

func (d *device) noise(quantity, step uint64) float64 {
	var source rand.PCG
	source.Seed(d.seed<<8|quantity, step)
	return 2*float64(source.Uint64()>>11)/(1<<53) - 1
}

func clamp(v, low, high float64) float64 { return min(high, max(low, v)) }

// round keeps so many parts of one: 10 gives tenths.
func round(v, parts float64) float64 { return math.Round(v*parts) / parts }
