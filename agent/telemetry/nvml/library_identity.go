//go:build cgo

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

func (l *library) driverVersion() (string, status) {
	if !l.has("nvmlSystemGetDriverVersion") {
		return "", functionNotFound
	}
	v, ret := l.api.SystemGetDriverVersion()
	return v, status(ret)
}

func (l *library) nvmlVersion() (string, status) {
	if !l.has("nvmlSystemGetNVMLVersion") {
		return "", functionNotFound
	}
	v, ret := l.api.SystemGetNVMLVersion()
	return v, status(ret)
}

// cudaVersion uses the getter without suffix: _v2 asks libcuda, which containers with utilities only don't have.
func (l *library) cudaVersion() (int, status) {
	if !l.has("nvmlSystemGetCudaDriverVersion") {
		return 0, functionNotFound
	}
	v, ret := l.api.SystemGetCudaDriverVersion()
	return v, status(ret)
}

func (l *library) count() (int, status) {
	if !l.has("nvmlDeviceGetCount", "nvmlDeviceGetCount_v2") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetCount()
	return n, status(ret)
}

func (l *library) byIndex(i int) (handle, status) {
	if !l.has("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByIndex_v2") {
		return handle{}, functionNotFound
	}
	d, ret := l.api.DeviceGetHandleByIndex(i)
	return handle{d}, status(ret)
}

func (l *library) uuid(h handle) (string, status) {
	if !l.has("nvmlDeviceGetUUID") {
		return "", functionNotFound
	}
	v, ret := l.api.DeviceGetUUID(h.device)
	return v, status(ret)
}

func (l *library) name(h handle) (string, status) {
	if !l.has("nvmlDeviceGetName") {
		return "", functionNotFound
	}
	v, ret := l.api.DeviceGetName(h.device)
	return v, status(ret)
}

// busID gives the address as NVML writes it: "00000000:1A:00.0".
func (l *library) busID(h handle) (string, status) {
	if !l.has("nvmlDeviceGetPciInfo", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo_v3") {
		return "", functionNotFound
	}
	info, ret := l.api.DeviceGetPciInfo(h.device)
	return busText(info), status(ret)
}

func busText(info nvml.PciInfo) string {
	if text := cString(info.BusId[:]); text != "" {
		return text
	}
	return cString(info.BusIdLegacy[:])
}

func cString(b []int8) string {
	text := make([]byte, 0, len(b))
	for _, c := range b {
		if c == 0 {
			break
		}
		text = append(text, byte(c))
	}
	return string(text)
}

// computeCapability gives major, minor.
func (l *library) computeCapability(h handle) (capability, status) {
	if !l.has("nvmlDeviceGetCudaComputeCapability") {
		return capability{}, functionNotFound
	}
	major, minor, ret := l.api.DeviceGetCudaComputeCapability(h.device)
	return capability{major, minor}, status(ret)
}

func (l *library) cores(h handle) (int, status) {
	if !l.has("nvmlDeviceGetNumGpuCores") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetNumGpuCores(h.device)
	return n, status(ret)
}

func (l *library) serial(h handle) (string, status) {
	if !l.has("nvmlDeviceGetSerial") {
		return "", functionNotFound
	}
	v, ret := l.api.DeviceGetSerial(h.device)
	return v, status(ret)
}

// firmware gives the version of the video BIOS.
func (l *library) firmware(h handle) (string, status) {
	if !l.has("nvmlDeviceGetVbiosVersion") {
		return "", functionNotFound
	}
	v, ret := l.api.DeviceGetVbiosVersion(h.device)
	return v, status(ret)
}

// persistent says whether the driver stays loaded while nobody uses the device.
func (l *library) persistent(h handle) (bool, status) {
	if !l.has("nvmlDeviceGetPersistenceMode") {
		return false, functionNotFound
	}
	v, ret := l.api.DeviceGetPersistenceMode(h.device)
	return v == nvml.FEATURE_ENABLED, status(ret)
}
