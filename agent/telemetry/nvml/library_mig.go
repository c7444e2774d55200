//go:build cgo

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// split says whether the device is divided into MIG instances now.
func (l *library) split(h handle) (bool, status) {
	if !l.has("nvmlDeviceGetMigMode") {
		return false, functionNotFound
	}
	current, _, ret := l.api.DeviceGetMigMode(h.device)
	return current == nvml.DEVICE_MIG_ENABLE, status(ret)
}

// maxInstances bounds the index of instance.
func (l *library) maxInstances(h handle) (int, status) {
	if !l.has("nvmlDeviceGetMaxMigDeviceCount") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetMaxMigDeviceCount(h.device)
	return n, status(ret)
}

func (l *library) instance(h handle, i int) (handle, status) {
	if !l.has("nvmlDeviceGetMigDeviceHandleByIndex") {
		return handle{}, functionNotFound
	}
	d, ret := l.api.DeviceGetMigDeviceHandleByIndex(h.device, i)
	return handle{d}, status(ret)
}

// attributes gives an instance's multiprocessors and memory in bytes.
func (l *library) attributes(h handle) (multiprocessors int, bytes uint64, s status) {
	if !l.has("nvmlDeviceGetAttributes", "nvmlDeviceGetAttributes_v2") {
		return 0, 0, functionNotFound
	}
	a, ret := l.api.DeviceGetAttributes(h.device)
	return int(a.MultiprocessorCount), a.MemorySizeMB << 20, status(ret)
}

// instanceNumber is how processes name the GPU instance that holds a MIG instance.
func (l *library) instanceNumber(h handle) (int, status) {
	if !l.has("nvmlDeviceGetGpuInstanceId") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetGpuInstanceId(h.device)
	return n, status(ret)
}

// computeInstanceNumber is how processes name a MIG instance within its GPU instance.
func (l *library) computeInstanceNumber(h handle) (int, status) {
	if !l.has("nvmlDeviceGetComputeInstanceId") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetComputeInstanceId(h.device)
	return n, status(ret)
}
