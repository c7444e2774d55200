//go:build cgo

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// process is one entry of a list of NVML. memory is in bytes; instances are 0xFFFFFFFF on an undivided device.
type process struct {
	pid                          uint32
	memory                       uint64
	gpuInstance, computeInstance uint32
}

// longProcesses says whether this is one of the drivers 535.43 to 535.86, whose third version of the process lists has longer
// elements than every other driver's: asking for them would overwrite memory. They lack what came when that was mended.
// Source: the history of NVIDIA's nvml.h, as nvitop tells it (issue 88 there).
func (l *library) longProcesses() bool {
	return l.has("nvmlDeviceGetComputeRunningProcesses_v3") && l.has("nvmlDeviceGetConfComputeMemSizeInfo") && !l.has("nvmlDeviceGetRunningProcessDetailList")
}

// refuse makes nonsense of a panic: go-nvml believes the count that the library gives, even beyond the room that it was given.
func refuse(s *status) {
	if recover() != nil {
		*s = nonsense
	}
}

func processes(list []nvml.ProcessInfo) []process {
	own := make([]process, len(list))
	for i, p := range list {
		own[i] = process{p.Pid, p.UsedGpuMemory, p.GpuInstanceId, p.ComputeInstanceId}
	}
	return own
}

func (l *library) computing(h handle) (own []process, s status) {
	if !l.has("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3") {
		return nil, functionNotFound
	}
	if l.longProcesses() {
		return nil, functionNotFound
	}
	defer refuse(&s)
	list, ret := l.api.DeviceGetComputeRunningProcesses(h.device)
	return processes(list), status(ret)
}

func (l *library) drawing(h handle) (own []process, s status) {
	if !l.has("nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v3") {
		return nil, functionNotFound
	}
	if l.longProcesses() {
		return nil, functionNotFound
	}
	defer refuse(&s)
	list, ret := l.api.DeviceGetGraphicsRunningProcesses(h.device)
	return processes(list), status(ret)
}

// sharing lists those that compute through the Multi-Process Service.
func (l *library) sharing(h handle) (own []process, s status) {
	if !l.has("nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses_v3") {
		return nil, functionNotFound
	}
	if l.longProcesses() {
		return nil, functionNotFound
	}
	defer refuse(&s)
	list, ret := l.api.DeviceGetMPSComputeRunningProcesses(h.device)
	return processes(list), status(ret)
}
