//go:build cgo

package nvml

// step is what one getter, or one with its fall-back, gives.
type step struct {
	fields    []string // of Reading or Details, as in JSON
	functions []string // of NVML that it may use, the preferred one first
	take      func(*sample) status
}

// tickSteps are taken by every Read: at most one call into NVML each, except for the memory, the power limit and the fans.
var tickSteps = []*step{
	{[]string{"memory_used_bytes", "memory_total_bytes"}, memoryFunctions, (*sample).memory},
	{[]string{"utilization_percent", "memory_utilization_percent"}, []string{"nvmlDeviceGetUtilizationRates"}, (*sample).utilization},
	{[]string{"encoder_percent"}, []string{"nvmlDeviceGetEncoderUtilization"}, func(s *sample) status {
		v, result := s.lib.encoder(s.dev.handle)
		return set(&s.reading.EncoderPercent, v, result, 0, 100, 1)
	}},
	{[]string{"decoder_percent"}, []string{"nvmlDeviceGetDecoderUtilization"}, func(s *sample) status {
		v, result := s.lib.decoder(s.dev.handle)
		return set(&s.reading.DecoderPercent, v, result, 0, 100, 1)
	}},
	{[]string{"temperatures"}, []string{"nvmlDeviceGetTemperature"}, (*sample).temperature},
	{[]string{"temperatures.memory"}, []string{"nvmlDeviceGetFieldValues"}, (*sample).memoryTemperature},
	{[]string{"power_watts"}, []string{"nvmlDeviceGetPowerUsage"}, func(s *sample) status {
		v, result := s.lib.milliwatts(s.dev.handle)
		return set(&s.reading.PowerWatts, v, result, 0, maxMilliwatts, 1000)
	}},
	{[]string{"power_limit_watts"}, []string{"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit"}, (*sample).powerLimit},
	{[]string{"core_clock_mhz"}, []string{"nvmlDeviceGetClockInfo"}, func(s *sample) status {
		v, result := s.lib.coreMHz(s.dev.handle)
		return set(&s.reading.CoreClockMHz, v, result, 0, maxMHz, 1)
	}},
	{[]string{"memory_clock_mhz"}, []string{"nvmlDeviceGetClockInfo"}, func(s *sample) status {
		v, result := s.lib.memoryMHz(s.dev.handle)
		return set(&s.reading.MemoryClockMHz, v, result, 0, maxMHz, 1)
	}},
	{[]string{"fan_percent"}, []string{"nvmlDeviceGetFanSpeed_v2", "nvmlDeviceGetFanSpeed"}, (*sample).fan},
	{[]string{"fan_rpm"}, []string{"nvmlDeviceGetFanSpeedRPM"}, func(s *sample) status {
		v, result := s.lib.fanRPM(s.dev.handle)
		return set(&s.reading.FanRPM, v, result, 0, maxRPM, 1)
	}},
	{[]string{"pcie_generation"}, []string{"nvmlDeviceGetCurrPcieLinkGeneration"}, func(s *sample) status {
		v, result := s.lib.linkGeneration(s.dev.handle)
		return setInt(&s.reading.PCIeGeneration, v, result, 1, 8)
	}},
	{[]string{"pcie_width"}, []string{"nvmlDeviceGetCurrPcieLinkWidth"}, func(s *sample) status {
		v, result := s.lib.linkWidth(s.dev.handle)
		return setInt(&s.reading.PCIeWidth, v, result, 1, 32)
	}},
	{[]string{"performance_state"}, []string{"nvmlDeviceGetPerformanceState"}, (*sample).performanceState},
	{[]string{"throttle_reasons"}, []string{"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"}, (*sample).throttle},
}

// detailSteps are taken by every Details.
var detailSteps = []*step{
	{[]string{"energy_joules"}, []string{"nvmlDeviceGetTotalEnergyConsumption"}, (*sample).energy},
	{[]string{"pcie_replays"}, []string{"nvmlDeviceGetPcieReplayCounter"}, (*sample).replays},
	{[]string{"thermal_margin_celsius"}, []string{"nvmlDeviceGetMarginTemperature"}, (*sample).margin},
	{[]string{"ecc"}, []string{"nvmlDeviceGetEccMode", "nvmlDeviceGetTotalEccErrors"}, (*sample).ecc},
	{[]string{"remapped_rows"}, []string{"nvmlDeviceGetRemappedRows"}, (*sample).remapped},
	{[]string{"links"}, []string{"nvmlDeviceGetNvLinkState"}, (*sample).links},
	{[]string{"processes"}, []string{"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2",
		"nvmlDeviceGetComputeRunningProcesses"}, (*sample).processes},
}

// faultFunctions is what faults come from.
const faultFunction = "nvmlEventSetWait_v2"

var memoryFunctions = []string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo"}

// limitFunctions name by field of Limits what it comes from.
var limitFunctions = map[string]string{
	"limits.slowdown_celsius": "nvmlDeviceGetTemperatureThreshold", "limits.shutdown_celsius": "nvmlDeviceGetTemperatureThreshold",
	"limits.memory_celsius":  "nvmlDeviceGetTemperatureThreshold",
	"limits.power_min_watts": "nvmlDeviceGetPowerManagementLimitConstraints", "limits.power_max_watts": "nvmlDeviceGetPowerManagementLimitConstraints",
	"limits.power_default_watts": "nvmlDeviceGetPowerManagementDefaultLimit",
	"limits.core_clock_mhz":      "nvmlDeviceGetMaxClockInfo", "limits.memory_clock_mhz": "nvmlDeviceGetMaxClockInfo",
	"limits.pcie_generation": "nvmlDeviceGetMaxPcieLinkGeneration", "limits.pcie_width": "nvmlDeviceGetMaxPcieLinkWidth",
}

// identityFunctions name by field of Device what it comes from.
var identityFunctions = map[string][]string{
	"name": {"nvmlDeviceGetName"}, "arch": {"nvmlDeviceGetCudaComputeCapability"}, "compute_capability": {"nvmlDeviceGetCudaComputeCapability"},
	"multi_processor_count": {"nvmlDeviceGetNumGpuCores"}, "driver_version": {"nvmlSystemGetDriverVersion"}, "memory_bytes": memoryFunctions,
	"firmware_version": {"nvmlDeviceGetVbiosVersion"}, "serial_number": {"nvmlDeviceGetSerial"}, "partition_mode": {"nvmlDeviceGetMigMode"},
}
