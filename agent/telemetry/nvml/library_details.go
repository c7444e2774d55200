//go:build cgo

package nvml

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"muster/shared/gpu"
)

// millijoules counts since the driver was loaded.
func (l *library) millijoules(h handle) (uint64, status) {
	if !l.has("nvmlDeviceGetTotalEnergyConsumption") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetTotalEnergyConsumption(h.device)
	return v, status(ret)
}

func (l *library) replays(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPcieReplayCounter") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPcieReplayCounter(h.device)
	return uint32(v), status(ret)
}

// marginCelsius is how much hotter the device may get before it slows down.
func (l *library) marginCelsius(h handle) (int32, status) {
	if !l.has("nvmlDeviceGetMarginTemperature") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetMarginTemperature(h.device)
	return v.MarginTemperature, status(ret)
}

// eccEnabled says whether the memory's errors are corrected now.
func (l *library) eccEnabled(h handle) (bool, status) {
	if !l.has("nvmlDeviceGetEccMode") {
		return false, functionNotFound
	}
	current, _, ret := l.api.DeviceGetEccMode(h.device)
	return current == nvml.FEATURE_ENABLED, status(ret)
}

// eccErrors counts those of one kind since the driver was loaded, or ever when aggregate.
func (l *library) eccErrors(h handle, uncorrected, aggregate bool) (uint64, status) {
	if !l.has("nvmlDeviceGetTotalEccErrors") {
		return 0, functionNotFound
	}
	kind, since := nvml.MEMORY_ERROR_TYPE_CORRECTED, nvml.VOLATILE_ECC
	if uncorrected {
		kind = nvml.MEMORY_ERROR_TYPE_UNCORRECTED
	}
	if aggregate {
		since = nvml.AGGREGATE_ECC
	}
	v, ret := l.api.DeviceGetTotalEccErrors(h.device, kind, since)
	return v, status(ret)
}

// remapped uses the first version of the getter: drivers lack the second.
func (l *library) remapped(h handle) (gpu.RemappedRows, status) {
	if !l.has("nvmlDeviceGetRemappedRows") {
		return gpu.RemappedRows{}, functionNotFound
	}
	correctable, uncorrectable, pending, failed, ret := l.api.DeviceGetRemappedRows(h.device)
	return gpu.RemappedRows{Correctable: correctable, Uncorrectable: uncorrectable, Pending: pending, Failed: failed}, status(ret)
}

// maxLinks is how many NVLinks a device may have; asking for the state of one that isn't there is an error.
const maxLinks = nvml.NVLINK_MAX_LINKS

func (l *library) linkActive(h handle, link int) (bool, status) {
	if !l.has("nvmlDeviceGetNvLinkState") {
		return false, functionNotFound
	}
	v, ret := l.api.DeviceGetNvLinkState(h.device, link)
	return v == nvml.FEATURE_ENABLED, status(ret)
}

// linkVersion is not a link's generation but the place of its version in a list: see linkGenerations.
func (l *library) linkVersion(h handle, link int) (uint32, status) {
	if !l.has("nvmlDeviceGetNvLinkVersion") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetNvLinkVersion(h.device, link)
	return v, status(ret)
}

// linkPeer gives the PCI address of what is at the other end, as NVML writes it.
func (l *library) linkPeer(h handle, link int) (string, status) {
	if !l.has("nvmlDeviceGetNvLinkRemotePciInfo", "nvmlDeviceGetNvLinkRemotePciInfo_v2") {
		return "", functionNotFound
	}
	info, ret := l.api.DeviceGetNvLinkRemotePciInfo(h.device, link)
	return busText(info), status(ret)
}

// linkMegabytes is what a link can carry a second in one direction.
func (l *library) linkMegabytes(h handle, link int) (float64, status) {
	return l.field(h, nvml.FI_DEV_NVLINK_GET_SPEED, uint32(link))
}

// received and transmitted measure for 20 ms what moves over the bus, in KB/s.
func (l *library) received(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPcieThroughput") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPcieThroughput(h.device, nvml.PCIE_UTIL_RX_BYTES)
	return v, status(ret)
}

func (l *library) transmitted(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPcieThroughput") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPcieThroughput(h.device, nvml.PCIE_UTIL_TX_BYTES)
	return v, status(ret)
}
