//go:build cgo

package nvml

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

var errReconnecting = errors.New("the NVIDIA driver is being connected anew: this ends by itself")

// read measures one device by the steps that it has.
func (d *driver) read(ctx context.Context, r *Reader, id string) (gpu.Reading, error) {
	lib, dev, v, err := d.visit(r, id)
	if errors.Is(err, errReconnecting) {
		if last, ok := d.whileAway(id); ok {
			return last, nil
		}
	}
	if err != nil {
		return gpu.Reading{MemoryTotalBytes: dev.totalBytes()}, err
	}
	defer lib.leave(v)
	s := &sample{reader: r, lib: lib, dev: dev}
	for _, step := range dev.steps {
		if s.measure(step); s.fatal != success {
			break
		}
		if err := ctx.Err(); err != nil {
			return gpu.Reading{}, err
		}
	}
	if err := s.err(d); err != nil {
		return gpu.Reading{}, err
	}
	d.measured(id, s)
	return s.reading, nil
}

// visit enters the library for a device that may be asked now. With an error there is nothing to leave, and the device may be nil.
func (d *driver) visit(r *Reader, id string) (*library, *device, visit, error) {
	d.mu.Lock()
	lib, dev, refused := d.lib, d.devices[id], d.refused[id]
	d.mu.Unlock()
	switch {
	case dev == nil && refused == nil:
		return nil, nil, 0, telemetry.ErrLost
	case dev == nil:
		return nil, nil, 0, refused
	case r.asleep(dev.statusFile):
		return nil, dev, 0, telemetry.ErrSuspended
	}
	v := lib.enter()
	if v != 0 && dev.epoch != lib.current() {
		lib.leave(v)
		v = 0
	}
	if v == 0 {
		return nil, dev, 0, errReconnecting
	}
	return lib, dev, v, nil
}

// sample is one Read or Details under way.
type sample struct {
	reader   *Reader
	lib      *library
	dev      *device
	reading  gpu.Reading
	details  gpu.Details
	answered bool
	failed   status // the last getter's that neither gave a value nor said that there is none
	fatal    status // the device's or driver's, not a getter's
	absent   map[string]gpu.Absence
}

// measure takes one step, and notes how it went and why fields have no value.
func (s *sample) measure(step *step) status {
	result := step.take(s)
	if result == success {
		s.answered = true
		return result
	}
	switch {
	case result.fatal():
		s.fatal = result
	case result == nonsense:
		s.answered = true
	case !result.absent():
		s.failed = result
	}
	if s.absent == nil {
		s.absent = map[string]gpu.Absence{}
	}
	for _, field := range step.fields {
		s.absent[field] = result.why()
	}
	return result
}

func (s *sample) err(d *driver) error {
	switch s.fatal {
	case success:
	case uninitialized, driverNotLoaded, versionMismatch:
		d.lose()
		fallthrough
	default:
		return fmt.Errorf("%s: %w", s.fatal, s.fatal.state())
	}
	switch {
	case s.answered:
		return nil
	case s.failed == unknown: // as in a container that lost its devices: only a new connection can help
		d.lose()
		return errors.New(whyNot(s.failed))
	case s.failed == noPermission:
		return telemetry.ErrNoPermission
	case s.failed != success:
		return errors.New(s.failed.String())
	default:
		return telemetry.ErrUnsupported
	}
}

// measured remembers what a Read gave.
func (d *driver) measured(id string, s *sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.track(id)
	t.last, t.measured = s.reading, true
	t.idle = s.reading.UtilizationPercent != nil && *s.reading.UtilizationPercent == 0
	t.absent = s.absent
}

// absences gives why fields of the last Reading had no value.
func (d *driver) absences(id string) map[string]gpu.Absence {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.track(id).absent)
}

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
