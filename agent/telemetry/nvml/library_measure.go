//go:build cgo

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

func (l *library) memory(h handle) (memory, status) {
	if !l.has("nvmlDeviceGetMemoryInfo") {
		return memory{}, functionNotFound
	}
	m, ret := l.api.DeviceGetMemoryInfo(h.device)
	return memory{total: m.Total, used: m.Used}, status(ret)
}

// memoryV2 counts what the driver reserves apart from what is used.
func (l *library) memoryV2(h handle) (memory, status) {
	if !l.has("nvmlDeviceGetMemoryInfo_v2") {
		return memory{}, functionNotFound
	}
	m, ret := l.api.DeviceGetMemoryInfo_v2(h.device)
	return memory{total: m.Total, used: m.Used, reserved: m.Reserved, hasReserved: true}, status(ret)
}

// utilization gives percent of time: of the device, of its memory.
func (l *library) utilization(h handle) (device, memory uint32, s status) {
	if !l.has("nvmlDeviceGetUtilizationRates") {
		return 0, 0, functionNotFound
	}
	u, ret := l.api.DeviceGetUtilizationRates(h.device)
	return u.Gpu, u.Memory, status(ret)
}

// celsius reads the sensor of the GPU itself.
func (l *library) celsius(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetTemperature") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetTemperature(h.device, nvml.TEMPERATURE_GPU)
	return v, status(ret)
}

func (l *library) milliwatts(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPowerUsage") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPowerUsage(h.device)
	return v, status(ret)
}

func (l *library) enforcedLimit(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetEnforcedPowerLimit") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetEnforcedPowerLimit(h.device)
	return v, status(ret)
}

func (l *library) managementLimit(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPowerManagementLimit") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPowerManagementLimit(h.device)
	return v, status(ret)
}

func (l *library) coreMHz(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetClockInfo") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetClockInfo(h.device, nvml.CLOCK_SM)
	return v, status(ret)
}

func (l *library) memoryMHz(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetClockInfo") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetClockInfo(h.device, nvml.CLOCK_MEM)
	return v, status(ret)
}

func (l *library) fanPercent(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetFanSpeed") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetFanSpeed(h.device)
	return v, status(ret)
}

func (l *library) linkGeneration(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetCurrPcieLinkGeneration") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrPcieLinkGeneration(h.device)
	return uint32(v), status(ret)
}

func (l *library) linkWidth(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetCurrPcieLinkWidth") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrPcieLinkWidth(h.device)
	return uint32(v), status(ret)
}

// eventReasons is what drivers since 535 call throttleReasons.
func (l *library) eventReasons(h handle) (uint64, status) {
	if !l.has("nvmlDeviceGetCurrentClocksEventReasons") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrentClocksEventReasons(h.device)
	return v, status(ret)
}

func (l *library) throttleReasons(h handle) (uint64, status) {
	if !l.has("nvmlDeviceGetCurrentClocksThrottleReasons") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrentClocksThrottleReasons(h.device)
	return v, status(ret)
}

// encoder gives percent of time of the video encoders.
func (l *library) encoder(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetEncoderUtilization") {
		return 0, functionNotFound
	}
	v, _, ret := l.api.DeviceGetEncoderUtilization(h.device)
	return v, status(ret)
}

// decoder gives percent of time of the video decoders.
func (l *library) decoder(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetDecoderUtilization") {
		return 0, functionNotFound
	}
	v, _, ret := l.api.DeviceGetDecoderUtilization(h.device)
	return v, status(ret)
}

// performanceState gives 0 for the fastest to 15, and 32 when it isn't known.
func (l *library) performanceState(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPerformanceState") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPerformanceState(h.device)
	return uint32(v), status(ret)
}

func (l *library) fans(h handle) (int, status) {
	if !l.has("nvmlDeviceGetNumFans") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetNumFans(h.device)
	return n, status(ret)
}

// oneFanPercent reads one of several fans.
func (l *library) oneFanPercent(h handle, fan int) (uint32, status) {
	if !l.has("nvmlDeviceGetFanSpeed_v2") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetFanSpeed_v2(h.device, fan)
	return v, status(ret)
}

// fanRPM reads the first fan: go-nvml can't name another.
func (l *library) fanRPM(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetFanSpeedRPM") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetFanSpeedRPM(h.device)
	return v.Speed, status(ret)
}

// field asks for one of the values that have numbers instead of getters; scope is what it belongs to within the device.
func (l *library) field(h handle, id, scope uint32) (float64, status) {
	if !l.has("nvmlDeviceGetFieldValues") {
		return 0, functionNotFound
	}
	values := []nvml.FieldValue{{FieldId: id, ScopeId: scope}}
	if ret := l.api.DeviceGetFieldValues(h.device, values); status(ret) != success {
		return 0, status(ret)
	}
	if one := status(values[0].NvmlReturn); one != success {
		return 0, one
	}
	return decodeField(values[0].ValueType, values[0].Value)
}

// memoryCelsius reads the sensor of the memory, where there is one.
func (l *library) memoryCelsius(h handle) (float64, status) {
	return l.field(h, nvml.FI_DEV_MEMORY_TEMP, 0)
}
