package amdgpu

import (
	"path/filepath"
	"slices"
)

// describeReadings says from which file each measured value comes: the first that the card has, in sample's order, or
// gpu_metrics where earlier Reads and Details had to take it from there.
func (c *card) describeReadings() {
	sources := c.device.Sources
	put := func(field, source string, there bool) {
		if _, have := sources[field]; there && !have {
			sources[field] = source
		}
	}
	put("memory_total_bytes", sources["memory_bytes"], c.vramTotal != nil)
	put("shared_memory_total_bytes", "mem_info_gtt_total", c.gttTotal != nil)
	s := c.sensors.Load()
	if s == nil {
		s = &sensors{}
	}
	put("memory_used_bytes", "mem_info_vram_used", s.vramUsed != "")
	put("memory_used_bytes", "KFD used_memory", slices.ContainsFunc(c.parts, func(p part) bool { return p.bank != "" }))
	put("shared_memory_used_bytes", "mem_info_gtt_used", s.gttUsed != "")
	put("utilization_percent", "gpu_busy_percent", s.busy != "")
	put("memory_utilization_percent", "mem_busy_percent", s.memoryBusy != "")
	put("media_percent", "vcn_busy_percent", s.mediaBusy != "")
	put("temperatures", "hwmon", len(s.temperatures) > 0)
	put("power_watts", "hwmon "+base(s.power), s.power != "")
	put("power_limit_watts", "hwmon power1_cap", s.powerCap != "")
	put("core_clock_mhz", "hwmon "+base(s.coreClock), s.coreClock != "")
	put("core_clock_mhz", "pp_dpm_sclk", s.coreTable != "")
	put("memory_clock_mhz", "hwmon "+base(s.memoryClock), s.memoryClock != "")
	put("memory_clock_mhz", "pp_dpm_mclk", s.memoryTable != "")
	put("fan_rpm", "hwmon fan1_input", s.fan != "")
	put("fan_percent", "hwmon pwm1", s.pwm != "")
	put("fan_percent", "hwmon fan1_input", s.fan != "" && s.fanMax > 0)
	for _, field := range []string{"pcie_generation", "pcie_width"} {
		put(field, "pp_dpm_pcie", s.linkTable != "")
		put(field, "current_link_speed", s.linkSpeed != "")
	}
	put("limits", "hwmon and pp_dpm", s.limits != nil)
	put("firmware_version", "vbios_version", s.firmware != "")
	put("serial_number", "serial_number", s.serial != "")
	put("partition_mode", "current_compute_partition", s.partitionMode != "")
	put("energy_joules", "hwmon energy1_input", s.energy != "")
	put("pcie_replays", "pcie_replay_count", s.replays != "")
	put("ecc", "ras/umc_err_count", s.ecc != "")
	put("links", "KFD io_links", slices.ContainsFunc(c.parts, func(p part) bool { return len(p.links) > 0 }))
	put("processes", "KFD and fdinfo", c.tellsProcesses.Load())
	for i, field := range metricsFields {
		if c.fromMetrics.Load()&(1<<i) != 0 {
			sources[field] = "gpu_metrics"
		}
	}
}

func base(path string) string { return filepath.Base(path) }
