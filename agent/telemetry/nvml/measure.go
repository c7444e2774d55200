//go:build cgo

package nvml

import (
	"math"

	"muster/shared/gpu"
)

// memory asks for what suits the part: a card's own memory, or the machine's.
func (r *Reader) memory(lib *library, dev *device) (memory, status) {
	if dev.integrated {
		if m, ok := mainMemory(r.tree.Word(r.tree.Path("proc"), "meminfo")); ok {
			return m, success
		}
		return memory{}, notSupported
	}
	return cardMemory(lib, dev.handle)
}

// cardMemory prefers the second version of the getter: in the first, what the driver reserves counts as used.
func cardMemory(lib *library, h handle) (memory, status) {
	m, s := lib.memoryV2(h)
	if s == success && m.believable() || s != success && !s.absent() && s != argumentVersion && s != unknown {
		return m, s
	}
	if m, s = lib.memory(h); s == success && !m.believable() {
		return m, nonsense
	}
	return m, s
}

func (s *sample) memory() status {
	s.reading.MemoryTotalBytes = s.dev.total
	m, result := s.reader.memory(s.lib, s.dev)
	if result != success {
		return result
	}
	s.reading.MemoryTotalBytes, s.reading.MemoryUsedBytes = &m.total, &m.used
	if m.hasReserved {
		s.reading.MemoryReservedBytes = &m.reserved
	}
	return success
}

func (s *sample) utilization() status {
	device, memory, result := s.lib.utilization(s.dev.handle)
	if result = set(&s.reading.UtilizationPercent, device, result, 0, 100, 1); result == success {
		set(&s.reading.MemoryUtilizationPercent, memory, result, 0, 100, 1)
	}
	return result
}

func (s *sample) temperature() status {
	v, result := s.lib.celsius(s.dev.handle)
	var celsius *float64
	if result = set(&celsius, v, result, 1, 150, 1); celsius != nil {
		s.reading.Temperatures = append(s.reading.Temperatures, gpu.Temperature{Sensor: gpu.SensorEdge, Celsius: *celsius})
	}
	return result
}

func (s *sample) memoryTemperature() status {
	v, result := s.lib.memoryCelsius(s.dev.handle)
	switch {
	case result != success:
		return result
	case v == 0: // what cards without the sensor say
		return notSupported
	case v < 0 || v > 150:
		return nonsense
	}
	s.reading.Temperatures = append(s.reading.Temperatures, gpu.Temperature{Sensor: gpu.SensorMemory, Celsius: v})
	return success
}

const (
	maxMilliwatts = 10_000_000
	maxMHz        = 20_000
	maxRPM        = 50_000
)

func (s *sample) powerLimit() status {
	v, result := s.lib.enforcedLimit(s.dev.handle)
	if result.absent() {
		v, result = s.lib.managementLimit(s.dev.handle)
	}
	return set(&s.reading.PowerLimitWatts, v, result, 1, maxMilliwatts, 1000)
}

// fan gives the fastest of the fans: the one that a person hears.
func (s *sample) fan() status {
	result := notSupported
	for i := range s.dev.fans {
		v, one := s.lib.oneFanPercent(s.dev.handle, i)
		if one != success {
			if i == 0 {
				result = one
			}
			continue
		}
		result = s.fanPercent(v)
	}
	if s.dev.fans == 0 || result.absent() {
		v, one := s.lib.fanPercent(s.dev.handle)
		if one != success {
			return one
		}
		return s.fanPercent(v)
	}
	return result
}

func (s *sample) fanPercent(v uint32) status {
	if v > 200 {
		return nonsense
	}
	percent := float64(min(v, 100)) // some fans are allowed more than 100
	if old := s.reading.FanPercent; old == nil || *old < percent {
		s.reading.FanPercent = &percent
	}
	return success
}

func (s *sample) performanceState() status {
	v, result := s.lib.performanceState(s.dev.handle)
	if result == success && v == 32 { // NVML_PSTATE_UNKNOWN
		return notSupported
	}
	return setInt(&s.reading.PerformanceState, v, result, 0, 15)
}

func (s *sample) throttle() status {
	bits, result := s.lib.eventReasons(s.dev.handle)
	if result == functionNotFound {
		bits, result = s.lib.throttleReasons(s.dev.handle)
	}
	switch {
	case result != success:
		return result
	case bits == math.MaxUint64:
		return nonsense
	}
	t := throttle(bits)
	s.reading.Throttle = &t
	return success
}

// set puts v, in other units, where it belongs when the getter gave one within the bounds, which leave out 0xFFFFFFFF, "not
// available".
func set(to **float64, v uint32, s status, low, high uint32, unit float64) status {
	if s != success {
		return s
	}
	if v < low || v > high {
		return nonsense
	}
	f := float64(v) / unit
	*to = &f
	return success
}

func setInt(to **int, v uint32, s status, low, high uint32) status {
	if s != success {
		return s
	}
	if v < low || v > high {
		return nonsense
	}
	n := int(v)
	*to = &n
	return success
}
