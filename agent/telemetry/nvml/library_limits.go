//go:build cgo

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

func (l *library) slowdownCelsius(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetTemperatureThreshold") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetTemperatureThreshold(h.device, nvml.TEMPERATURE_THRESHOLD_SLOWDOWN)
	return v, status(ret)
}

func (l *library) shutdownCelsius(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetTemperatureThreshold") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetTemperatureThreshold(h.device, nvml.TEMPERATURE_THRESHOLD_SHUTDOWN)
	return v, status(ret)
}

func (l *library) memoryLimitCelsius(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetTemperatureThreshold") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetTemperatureThreshold(h.device, nvml.TEMPERATURE_THRESHOLD_MEM_MAX)
	return v, status(ret)
}

// powerRange gives between which limits the power limit may be set, in milliwatts.
func (l *library) powerRange(h handle) (low, high uint32, s status) {
	if !l.has("nvmlDeviceGetPowerManagementLimitConstraints") {
		return 0, 0, functionNotFound
	}
	low, high, ret := l.api.DeviceGetPowerManagementLimitConstraints(h.device)
	return low, high, status(ret)
}

func (l *library) defaultMilliwatts(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPowerManagementDefaultLimit") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPowerManagementDefaultLimit(h.device)
	return v, status(ret)
}

func (l *library) maxCoreMHz(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetMaxClockInfo") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetMaxClockInfo(h.device, nvml.CLOCK_SM)
	return v, status(ret)
}

func (l *library) maxMemoryMHz(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetMaxClockInfo") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetMaxClockInfo(h.device, nvml.CLOCK_MEM)
	return v, status(ret)
}

// maxGeneration is the most that device and slot can agree on; nvmlDeviceGetGpuMaxPcieLinkGeneration is the device's alone.
func (l *library) maxGeneration(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetMaxPcieLinkGeneration") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetMaxPcieLinkGeneration(h.device)
	return uint32(v), status(ret)
}

// maxWidth is the most lanes that device and slot can agree on.
func (l *library) maxWidth(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetMaxPcieLinkWidth") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetMaxPcieLinkWidth(h.device)
	return uint32(v), status(ret)
}
