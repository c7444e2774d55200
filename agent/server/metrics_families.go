package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"muster/shared/gpu"
)

// family is one metric of Prometheus. Its labels beyond those that every metric of a device has stand in labels.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// Every metric of a device has the labels device_id and id. What describes it stands in muster_gpu_info alone, to join with.
var deviceLabels = []string{"device_id", "id"}

// familyList is every metric there is.
type familyList []*family

func (all *familyList) add(kind prometheus.ValueType, name, help string, labels ...string) *family {
	f := &family{prometheus.NewDesc("muster_"+name, help, labels, nil), kind}
	*all = append(*all, f)
	return f
}

func (all *familyList) gauge(name, help string, labels ...string) *family {
	return all.add(prometheus.GaugeValue, name, help, labels...)
}

func (all *familyList) counter(name, help string, labels ...string) *family {
	return all.add(prometheus.CounterValue, name, help, labels...)
}

func (all *familyList) device(name, help string, labels ...string) *family {
	return all.gauge("gpu_"+name, help, append(deviceLabels[:2:2], labels...)...)
}

func (all *familyList) deviceCounter(name, help string, labels ...string) *family {
	return all.counter("gpu_"+name, help, append(deviceLabels[:2:2], labels...)...)
}

var exported familyList

// Of the agent, the machine and the work.
var (
	metricBuildInfo     = exported.gauge("build_info", "Which build of muster answers; always 1.", "version")
	metricSnapshots     = exported.counter("snapshots_total", "Snapshots taken since the agent started.")
	metricSnapshotAge   = exported.gauge("snapshot_age_seconds", "How long ago the snapshot was taken that these metrics show.")
	metricGPUCount      = exported.gauge("gpus", "GPUs in the inventory, those that can't be read included.")
	metricHostCPU       = exported.gauge("host_cpu_utilization_ratio", "Share of the last tick in which the machine's processors worked, 0 to 1 over all of them.")
	metricHostMemory    = exported.gauge("host_memory_size_bytes", "Main memory of the machine.")
	metricHostMemoryUse = exported.gauge("host_memory_used_bytes", "Main memory in use.")
	metricJobCount      = exported.gauge("jobs", "Images that are waiting or being made.", "state")
	metricSlotReady     = exported.gauge("generator_ready", "Whether a device's generator takes work: it is not paused and has no problem.", "device_id", "backend")
	metricPhase         = exported.gauge("device_phase", "What a device does about what people decided: 1 for that phase, 0 for the others. Only of devices with a generator.", "device_id", "phase")
	metricExpected      = exported.gauge("jobs_expected_seconds", "Time until the last image that waits or is being made is predicted to be done, 0 when none does; absent while one can't be predicted.")
)

// Of each device, from the inventory and the newest snapshot.
var (
	metricGPUInfo  = exported.device("info", "What a GPU is; always 1.", "name", "vendor", "pci_address", "arch", "compute_capability", "driver_version", "simulated")
	metricGPUState = exported.device("state", "Which state a GPU is in: 1 for that one, 0 for the others.", "state")
	metricGPUAge   = exported.device("reading_age_seconds", "How long ago the GPU was measured, 0 when in the newest tick. Values older than 10 s are left out.")
	metricSuspect  = exported.device("suspect", "Values that contradict others of the same reading; always 1.", "field")
	metricThrottle = exported.device("throttled", "Whether a GPU runs slower for a reason: 1 when it does. Idle is no fault.", "reason")
	metricHeat     = exported.device("temperature_celsius", "Temperature by sensor.", "sensor")

	metricHeatLimit = exported.device("temperature_limit_celsius", "Where the GPU slows down, switches itself off, and where its memory gets too hot.", "limit")
)

// readingMetric is one that is one value of gpu.Reading, times factor.
type readingMetric struct {
	*family
	factor float64
	value  func(*gpu.Reading) *float64
}

var readingMetrics = []readingMetric{
	{exported.device("utilization_ratio", "Share of the last sample period in which the GPU worked, 0 to 1."), 0.01, func(r *gpu.Reading) *float64 { return r.UtilizationPercent }},
	{exported.device("memory_utilization_ratio", "Share of that period in which the GPU's memory was read or written, 0 to 1."), 0.01, func(r *gpu.Reading) *float64 { return r.MemoryUtilizationPercent }},
	{exported.device("encoder_utilization_ratio", "Share of that period in which the video encoders worked, 0 to 1."), 0.01, func(r *gpu.Reading) *float64 { return r.EncoderPercent }},
	{exported.device("decoder_utilization_ratio", "Share of that period in which the video decoders worked, 0 to 1."), 0.01, func(r *gpu.Reading) *float64 { return r.DecoderPercent }},
	{exported.device("media_utilization_ratio", "Share of that period in which video engines for both directions worked, 0 to 1."), 0.01, func(r *gpu.Reading) *float64 { return r.MediaPercent }},
	{exported.device("memory_size_bytes", "The GPU's own memory."), 1, func(r *gpu.Reading) *float64 { return float(r.MemoryTotalBytes) }},
	{exported.device("memory_used_bytes", "Memory in use by all processes."), 1, func(r *gpu.Reading) *float64 { return float(r.MemoryUsedBytes) }},
	{exported.device("memory_reserved_bytes", "Memory that driver and firmware keep."), 1, func(r *gpu.Reading) *float64 { return float(r.MemoryReservedBytes) }},
	{exported.device("shared_memory_size_bytes", "Main memory that the GPU can address."), 1, func(r *gpu.Reading) *float64 { return float(r.SharedMemoryTotalBytes) }},
	{exported.device("shared_memory_used_bytes", "Main memory that the GPU uses."), 1, func(r *gpu.Reading) *float64 { return float(r.SharedMemoryUsedBytes) }},
	{exported.device("power_watts", "Power drawn."), 1, func(r *gpu.Reading) *float64 { return r.PowerWatts }},
	{exported.device("power_limit_watts", "Power that the GPU may draw."), 1, func(r *gpu.Reading) *float64 { return r.PowerLimitWatts }},
	{exported.device("core_clock_hertz", "Clock of the cores."), 1e6, func(r *gpu.Reading) *float64 { return r.CoreClockMHz }},
	{exported.device("memory_clock_hertz", "Clock of the memory."), 1e6, func(r *gpu.Reading) *float64 { return r.MemoryClockMHz }},
	{exported.device("fan_speed_ratio", "Speed of the fan as a share of what it can, 0 to 1."), 0.01, func(r *gpu.Reading) *float64 { return r.FanPercent }},
	{exported.device("fan_speed_rpm", "Revolutions of the fan in a minute."), 1, func(r *gpu.Reading) *float64 { return r.FanRPM }},
	{exported.device("pcie_link_generation", "Generation of the PCIe link now; idle GPUs lower it."), 1, func(r *gpu.Reading) *float64 { return float(r.PCIeGeneration) }},
	{exported.device("pcie_link_width", "Lanes of the PCIe link now."), 1, func(r *gpu.Reading) *float64 { return float(r.PCIeWidth) }},
	{exported.device("performance_state", "NVIDIA's P-state: 0 is the fastest, 15 the slowest."), 1, func(r *gpu.Reading) *float64 { return float(r.PerformanceState) }},
}

// Of each device, from the newest report.
var (
	metricDetailsAge  = exported.device("details_age_seconds", "How long ago the GPU was asked for details. Values older than 2 minutes are left out, but for faults.")
	metricEnergy      = exported.deviceCounter("energy_joules_total", "Energy used since the driver was loaded.")
	metricReplays     = exported.deviceCounter("pcie_replays_total", "PCIe packets that had to be sent again.")
	metricEccEnabled  = exported.device("ecc_enabled", "Whether the memory corrects errors: 1 when it does.")
	metricEccErrors   = exported.deviceCounter("ecc_errors_total", "Errors of the memory, by kind, since the driver was loaded or since the GPU was made.", "kind", "since")
	metricRemapped    = exported.device("remapped_rows", "Rows of memory that spare ones stand in for, by the kind of error that they had.", "kind")
	metricRemapPends  = exported.device("row_remap_pending", "Whether a row will be remapped at the next reset: 1 when one will.")
	metricRemapFailed = exported.device("row_remap_failed", "Whether no spare row was left: 1 when the GPU should be replaced.")
	metricLinkUp      = exported.device("link_up", "Whether a direct connection to another GPU (NVLink, XGMI) is up: 1 when it is.", "kind", "link")
	metricLinkSpeed   = exported.device("link_capacity_bytes_per_second", "What such a connection can carry in one direction.", "kind", "link")
	metricFaults      = exported.device("recent_faults", "Faults by code (NVIDIA's XID) among the newest 16 since the agent started.", "kind", "code")
	metricFaultTime   = exported.device("last_fault_timestamp_seconds", "When a fault of that code last happened, in Unix seconds.", "kind", "code")
	metricProcesses   = exported.device("processes", "Processes on the GPU.")
	metricProcessMem  = exported.device("processes_memory_bytes", "Memory that the processes hold together, of those that tell.")

	metricPartitionSize = exported.device("partition_memory_size_bytes", "Memory of a partition (a MIG instance).", "partition")
	metricPartitionUsed = exported.device("partition_memory_used_bytes", "Memory in use of a partition.", "partition")
	metricPartitionLoad = exported.device("partition_utilization_ratio", "Share of the last sample period in which a partition worked, 0 to 1.", "partition")
)

// float gives a value of another type; nil for nil.
func float[T int | uint64](v *T) *float64 {
	if v == nil {
		return nil
	}
	f := float64(*v)
	return &f
}
