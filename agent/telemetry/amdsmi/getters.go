package amdsmi

import "muster/shared/gpu"

// Numbers of the library's enumerations. Source: amdsmi.h.
const (
	temperatureCurrent   = 0
	temperatureCritical  = 5
	temperatureEmergency = 7

	clockGraphics = 0
	clockMemory   = 4
)

// sensors are where temperatures are taken, in the order in which the first one stands for the device.
var sensors = []struct {
	name   gpu.Sensor
	number uint32
}{{gpu.SensorEdge, 0}, {gpu.SensorJunction, 1}, {gpu.SensorMemory, 2}}

func (s *session) asic(h handle) (asic, status) {
	return ask(s, fnAsic, s.layout.asic.bytes, func(b *byte) status { return s.getAsic(h, b) }, s.layout.asic.decode)
}

func (s *session) enumeration(h handle) (enumeration, status) {
	return ask(s, fnEnumeration, s.layout.enumeration.bytes, func(b *byte) status { return s.getEnumeration(h, b) }, s.layout.enumeration.decode)
}

func (s *session) driver(h handle) (string, status) {
	return ask(s, fnDriver, s.layout.driver.bytes, func(b *byte) status { return s.getDriver(h, b) }, s.layout.driver.decode)
}

func (s *session) memory(h handle) (memory, status) {
	return ask(s, fnMemory, s.layout.memory.bytes, func(b *byte) status { return s.getMemory(h, b) }, s.layout.memory.decode)
}

func (s *session) activity(h handle) (activity, status) {
	return ask(s, fnActivity, s.layout.activity.bytes, func(b *byte) status { return s.getActivity(h, b) }, s.layout.activity.decode)
}

func (s *session) power(h handle) (*float64, status) {
	return ask(s, fnPower, s.layout.power.bytes, func(b *byte) status { return s.getPower(h, b) }, s.layout.power.decode)
}

func (s *session) powerCap(h handle) (powerCap, status) {
	return ask(s, fnPowerCap, s.layout.powerCap.bytes, func(b *byte) status { return s.getPowerCap(h, 0, b) }, s.layout.powerCap.decode)
}

func (s *session) clock(h handle, which uint32) (clock, status) {
	return ask(s, fnClock, s.layout.clock.bytes, func(b *byte) status { return s.getClock(h, which, b) }, s.layout.clock.decode)
}

func (s *session) link(h handle) (link, status) {
	return ask(s, fnPCIe, s.layout.pcie.bytes, func(b *byte) status { return s.getPCIe(h, b) }, s.layout.pcie.decode)
}

func (s *session) errorCounts(h handle) (errorCounts, status) {
	return ask(s, fnECC, s.layout.errors.bytes, func(b *byte) status { return s.getECC(h, b) }, s.layout.errors.decode)
}

// celsius gives one temperature of one sensor; nil when it isn't told or can't be.
func (s *session) celsius(h handle, sensor, metric uint32) (*float64, status) {
	var v int64
	if result := s.getTemperature(h, sensor, metric, &v); result != success {
		return nil, result
	}
	return whole(v, minCelsius, maxCelsius), success
}

// whole gives a number that counts only between low and high.
func whole(v, low, high int64) *float64 {
	if v < low || v > high {
		return nil
	}
	return new(float64(v))
}
