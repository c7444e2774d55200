package intel

import (
	"path/filepath"
	"strings"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// throttleFiles say why the device runs slower than it could. All paths are "" on one that doesn't tell.
type throttleFiles struct {
	dir     string
	reasons string // newest kernels' xe: every reason by name, or "none"
	status  string // 1 when there is any
	single  []throttleFile
}

// throttleFile is 1 while its reason holds.
type throttleFile struct {
	path   string
	reason gpu.Throttle
}

func surveyThrottle(t kernel.Tree, dir, prefix, status string) throttleFiles {
	f := throttleFiles{dir: dir, status: open(t, dir)(status)}
	for _, name := range t.List(dir) {
		if reason, ok := strings.CutPrefix(name, prefix); ok && name != status {
			f.single = append(f.single, throttleFile{filepath.Join(dir, name), throttleReason(reason)})
		}
	}
	return f
}

// throttleReason translates the names of xe_gt_throttle.c; i915 has the same ones.
func throttleReason(name string) gpu.Throttle {
	switch name {
	case "pl1", "pl2", "psys_pl1", "psys_pl2", "psys_crit":
		return gpu.ThrottlePower
	case "pl4", "vr_tdc", "iccmax", "fastvmode":
		return gpu.ThrottleCurrent
	case "thermal", "soc_thermal", "mem_thermal", "vr_thermal", "vr_thermalert", "soc_avg_thermal", "ratl":
		return gpu.ThrottleThermal
	case "prochot":
		return gpu.ThrottleHardware
	default:
		return gpu.ThrottleOther
	}
}

// parseThrottle reads "none" or names of reasons with spaces between; false for nothing.
func parseThrottle(b []byte) (gpu.Throttle, bool) {
	var reasons gpu.Throttle
	names := strings.Fields(string(kernel.Trim(b)))
	for _, name := range names {
		if name != "none" {
			reasons |= throttleReason(name)
		}
	}
	return reasons, len(names) > 0
}

// read gives the reasons of now; false when the device doesn't tell.
func (f throttleFiles) read(p *probe) (gpu.Throttle, bool) {
	if reasons, ok := parseThrottle(p.bytes(f.reasons)); ok {
		p.answered++
		return reasons, true
	}
	on, ok := p.number(f.status, 1, 0, 1<<32)
	if !ok || on == 0 {
		return 0, ok
	}
	var reasons gpu.Throttle
	for _, file := range f.single {
		if on, ok := p.number(file.path, 1, 0, 1<<32); ok && on > 0 {
			reasons |= file.reason
		}
	}
	if reasons == 0 {
		reasons = gpu.ThrottleOther // it ended since, or has a name that this kernel does not show
	}
	return reasons, true
}
