//go:build cgo

package nvml

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

var errReconnecting = errors.New("the NVIDIA driver is being connected anew: this ends by itself")

// read measures one device: a dozen getters, each of which may be missing, unsupported or wrong by itself.
func (d *driver) read(ctx context.Context, r *Reader, id string) (gpu.Reading, error) {
	d.mu.Lock()
	lib, dev, refused := d.lib, d.devices[id], d.refused[id]
	d.mu.Unlock()
	if dev == nil {
		if refused == nil {
			refused = telemetry.ErrLost
		}
		return gpu.Reading{}, refused
	}
	if asleep(r.root, dev.address) {
		return gpu.Reading{MemoryTotalBytes: dev.total}, telemetry.ErrSuspended
	}
	if !lib.enter() {
		return gpu.Reading{}, errReconnecting
	}
	defer lib.leave()
	s := &sample{lib: lib, dev: dev}
	for _, step := range []func(*Reader){s.memory, s.utilization, s.temperature, s.power, s.clocks, s.fan, s.link, s.throttle} {
		if step(r); s.fatal != success {
			break
		}
		if err := ctx.Err(); err != nil {
			return gpu.Reading{}, err
		}
	}
	return s.reading, s.err(d)
}

// sample is one Read under way.
type sample struct {
	lib      *library
	dev      *device
	reading  gpu.Reading
	answered bool
	failed   status // the last getter's that neither gave a value nor said that there is none
	fatal    status // the device's or driver's, not a getter's
}

// got notes how a getter went, and says whether it gave a value.
func (s *sample) got(result status) bool {
	switch result {
	case success:
		s.answered = true
		return true
	case gpuIsLost, resetRequired, uninitialized, driverNotLoaded, versionMismatch:
		s.fatal = result
	default:
		if !result.absent() {
			s.failed = result
		}
	}
	return false
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

// memory asks for what suits the part: a card's own memory, or the machine's.
func (r *Reader) memory(lib *library, dev *device) (memory, status) {
	if dev.integrated {
		if m, ok := mainMemory(small(filepath.Join(r.root, "proc/meminfo"))); ok {
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
		return m, notSupported
	}
	return m, s
}

func (s *sample) memory(r *Reader) {
	s.reading.MemoryTotalBytes = s.dev.total
	m, result := r.memory(s.lib, s.dev)
	if !s.got(result) {
		return
	}
	s.reading.MemoryTotalBytes, s.reading.MemoryUsedBytes = &m.total, &m.used
	if m.hasReserved {
		s.reading.MemoryReservedBytes = &m.reserved
	}
}

func (s *sample) utilization(*Reader) {
	device, memory, result := s.lib.utilization(s.dev.handle)
	if s.got(result) {
		s.reading.UtilizationPercent = between(device, result, 0, 100, 1)
		s.reading.MemoryUtilizationPercent = between(memory, result, 0, 100, 1)
	}
}

func (s *sample) temperature(*Reader) {
	v, result := s.lib.celsius(s.dev.handle)
	if s.got(result) {
		if celsius := between(v, result, 1, 150, 1); celsius != nil {
			s.reading.Temperatures = []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: *celsius}}
		}
	}
}

const (
	maxMilliwatts = 10_000_000
	maxMHz        = 20_000
)

func (s *sample) power(*Reader) {
	v, result := s.lib.milliwatts(s.dev.handle)
	if s.got(result) {
		s.reading.PowerWatts = between(v, result, 0, maxMilliwatts, 1000)
	}
	if s.fatal != success {
		return
	}
	v, result = s.lib.enforcedLimit(s.dev.handle)
	if !s.got(result) && s.fatal == success {
		v, result = s.lib.managementLimit(s.dev.handle)
		s.got(result)
	}
	s.reading.PowerLimitWatts = between(v, result, 1, maxMilliwatts, 1000)
}

func (s *sample) clocks(*Reader) {
	v, result := s.lib.coreMHz(s.dev.handle)
	if s.got(result) {
		s.reading.CoreClockMHz = between(v, result, 0, maxMHz, 1)
	}
	if s.fatal != success {
		return
	}
	v, result = s.lib.memoryMHz(s.dev.handle)
	if s.got(result) {
		s.reading.MemoryClockMHz = between(v, result, 0, maxMHz, 1)
	}
}

func (s *sample) fan(*Reader) {
	v, result := s.lib.fanPercent(s.dev.handle)
	if s.got(result) {
		s.reading.FanPercent = between(min(v, 100), result, 0, 100, 1) // some fans are allowed more than 100
		if v > 200 {
			s.reading.FanPercent = nil
		}
	}
}

func (s *sample) link(*Reader) {
	if v, result := s.lib.linkGeneration(s.dev.handle); s.got(result) && v >= 1 && v <= 8 {
		generation := int(v)
		s.reading.PCIeGeneration = &generation
	}
	if s.fatal != success {
		return
	}
	if v, result := s.lib.linkWidth(s.dev.handle); s.got(result) && v >= 1 && v <= 32 {
		width := int(v)
		s.reading.PCIeWidth = &width
	}
}

func (s *sample) throttle(*Reader) {
	bits, result := s.lib.eventReasons(s.dev.handle)
	if result == functionNotFound {
		bits, result = s.lib.throttleReasons(s.dev.handle)
	}
	if s.got(result) && bits != math.MaxUint64 {
		t := throttle(bits)
		s.reading.Throttle = &t
	}
}
