package amdsmi

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// read measures a device: a dozen getters, each of which may be missing, unsupported or wrong by itself.
func (d *device) read(ctx context.Context, c *connection) (gpu.Reading, error) {
	s := &sample{device: d, absent: map[string]gpu.Absence{}}
	s.reading.MemoryTotalBytes = d.total
	for _, step := range []func(){s.memory, s.activity, s.temperatures, s.power, s.clocks, s.fan, s.link} {
		if step(); s.fatal != success {
			c.end()
			return gpu.Reading{}, fmt.Errorf("%w: %w", whyNot(s.fatal), telemetry.ErrNoDriver)
		}
		if err := ctx.Err(); err != nil {
			return gpu.Reading{}, err
		}
	}
	d.mu.Lock()
	d.absent = s.absent
	d.mu.Unlock()
	return s.reading, s.err()
}

// sample is one Read under way.
type sample struct {
	*device
	reading  gpu.Reading
	absent   map[string]gpu.Absence
	answered bool
	failed   status // the last getter's that neither gave a value nor said that there is none
	fatal    status // the connection's, not a getter's
}

// got notes how a getter went, and says whether it gave what the fields need.
func (s *sample) got(result status, fields ...string) bool {
	if result == success {
		s.answered = true
		return true
	}
	if result.disconnected() {
		s.fatal = result
	}
	if !result.absent() {
		s.failed = result
	}
	for _, field := range fields {
		s.absent[field] = result.absence()
	}
	return false
}

// err says why nothing could be read; nil when something could.
func (s *sample) err() error {
	switch {
	case s.answered:
		return nil
	case s.failed == noPermission:
		return telemetry.ErrNoPermission
	case s.failed != success:
		return errors.New(s.failed.String())
	default:
		return telemetry.ErrUnsupported
	}
}

func (s *sample) memory() {
	if s.divided {
		return
	}
	m, result := s.session.memory(s.handle)
	if s.got(result, "memory_used_bytes") && m.total != nil {
		s.reading.MemoryTotalBytes, s.reading.MemoryUsedBytes = m.total, m.used
	}
}

func (s *sample) activity() {
	a, result := s.session.activity(s.handle)
	if s.got(result, "utilization_percent", "memory_utilization_percent") {
		s.reading.UtilizationPercent, s.reading.MemoryUtilizationPercent = a.graphics, a.memory
	}
}

func (s *sample) temperatures() {
	for _, sensor := range sensors {
		celsius, result := s.celsius(s.handle, sensor.number, temperatureCurrent)
		if s.got(result) && celsius != nil {
			s.reading.Temperatures = append(s.reading.Temperatures, gpu.Temperature{Sensor: sensor.name, Celsius: *celsius})
		} else if result != success {
			s.absent["temperatures"] = result.absence()
		}
	}
	if len(s.reading.Temperatures) > 0 {
		delete(s.absent, "temperatures")
	}
}

func (s *sample) power() {
	watts, result := s.session.power(s.handle)
	if s.got(result, "power_watts") {
		s.reading.PowerWatts = watts
	}
	limits, result := s.powerCap(s.handle)
	if s.got(result, "power_limit_watts") {
		s.reading.PowerLimitWatts = limits.limit
	}
}

func (s *sample) clocks() {
	core, result := s.clock(s.handle, clockGraphics)
	if s.got(result, "core_clock_mhz") {
		s.reading.CoreClockMHz = core.current
	}
	memory, result := s.clock(s.handle, clockMemory)
	if s.got(result, "memory_clock_mhz") {
		s.reading.MemoryClockMHz = memory.current
	}
}

func (s *sample) fan() {
	var v int64
	if s.got(s.getFanRPM(s.handle, 0, &v), "fan_rpm") {
		s.reading.FanRPM = whole(v, 0, maxRPM)
	}
	if s.fanMax == 0 {
		return
	}
	if s.got(s.getFanSpeed(s.handle, 0, &v), "fan_percent") && v >= 0 && uint64(v) <= s.fanMax {
		s.reading.FanPercent = new(float64(v) / float64(s.fanMax) * 100)
	}
}

func (s *sample) link() {
	l, result := s.session.link(s.handle)
	if s.got(result, "pcie_generation", "pcie_width") {
		s.reading.PCIeGeneration, s.reading.PCIeWidth = l.generation, l.width
	}
}

// sources names by field the function that its value comes from, as far as the library has it and its layout is known.
func (d *device) sources(described *gpu.Device) map[string]string {
	m := map[string]string{}
	for _, of := range []struct {
		function string
		known    bool // the version has the struct
		fields   []string
	}{
		{fnAsic, true, []string{"name", "arch", "compute_capability", "multi_processor_count", "serial_number"}},
		{fnEnumeration, d.layout.enumeration.bytes > 0, []string{"vendor_index"}},
		{fnDriver, d.layout.driver.bytes > 0, []string{"driver_version"}},
		{fnMemory, !d.divided, []string{"memory_bytes", "memory_total_bytes", "memory_used_bytes"}},
		{fnActivity, true, []string{"utilization_percent", "memory_utilization_percent"}},
		{fnTemperature, true, []string{"temperatures"}},
		{fnPower, true, []string{"power_watts"}},
		{fnPowerCap, d.layout.powerCap.limit.bytes > 0, []string{"power_limit_watts"}},
		{fnClock, true, []string{"core_clock_mhz", "memory_clock_mhz"}},
		{fnFanRPM, true, []string{"fan_rpm"}},
		{fnFanSpeed, d.fanMax > 0, []string{"fan_percent"}},
		{fnPCIe, d.layout.pcie.bytes > 0, []string{"pcie_generation", "pcie_width", "pcie_replays"}},
		{fnEnergy, true, []string{"energy_joules"}},
		{fnECC, d.has(fnECCEnabled), []string{"ecc"}},
		{fnProcesses, true, []string{"processes"}},
	} {
		if of.known && d.has(of.function) {
			for _, field := range of.fields {
				m[field] = of.function
			}
		}
	}
	for field, told := range map[string]bool{
		"name": described.Name != "", "arch": described.Arch != "", "compute_capability": described.ComputeCapability != "",
		"multi_processor_count": described.MultiprocessorCount != nil, "serial_number": described.SerialNumber != "",
		"vendor_index": described.VendorIndex != nil, "driver_version": described.DriverVersion != "", "memory_bytes": described.MemoryBytes != nil,
	} {
		if !told {
			delete(m, field)
		}
	}
	return m
}

// absences gives a copy of why values of the last Read are not there.
func (d *device) absences() map[string]gpu.Absence {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.absent)
}
