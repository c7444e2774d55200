package intel

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// sensors are the real paths of the files of an awake device; "" for those that it doesn't have. It is never changed once it
// is made.
type sensors struct {
	temperatures []thermometer
	energy       string // energyN_input of hwmon, of the card where it is told, else of its package
	powerLimit   string
	fans         []string
	clock        string
	// How long the engines were switched off: of the part with the render and compute engines, and of the one with the media
	// engines, which may be the same.
	idle, mediaIdle string
	throttle        throttleFiles
	linkSpeed       string
	linkWidth       string
	limits          *gpu.Limits
	hwmon           bool
	sleepDelay      time.Duration // 0 when it does not sleep
}

type thermometer struct {
	sensor gpu.Sensor
	path   string
}

// folder gives the path of a file in a real folder, "" when it isn't there.
type folder func(name string) string

func open(t kernel.Tree, dir string) folder {
	names := t.List(dir)
	return func(name string) string {
		if dir == "" || !slices.Contains(names, name) {
			return ""
		}
		return filepath.Join(dir, name)
	}
}

// survey finds the files. It reads labels and limits, which the drivers keep in memory, so that nothing waits for the firmware.
func survey(t kernel.Tree, c *card) *sensors {
	s := &sensors{sleepDelay: sleepDelay(t, c.dir)}
	limits := gpu.Limits{}
	s.surveyHwmon(t, findHwmon(t, c.dir, c.driver), &limits)
	if c.driver == "xe" {
		s.surveyXe(t, c.dir, &limits)
	} else {
		s.surveyI915(t, c.dir, c.nodes, &limits)
	}
	if !c.device.Unified {
		s.surveyLink(t, c.dir, c.ownSwitch, &limits)
	}
	if limits != (gpu.Limits{}) {
		s.limits = &limits
	}
	return s
}

// surveyXe finds what xe describes in xe_gt_freq.c, xe_gt_idle.c and xe_gt_throttle.c. gt0 has the render and compute engines;
// since Meteor Lake the media engines are in a gt1 of the same tile.
func (s *sensors) surveyXe(t kernel.Tree, dir string, limits *gpu.Limits) {
	tile, err := t.ResolveIn(dir, "tile0")
	if err != nil {
		return
	}
	gt, freq := filepath.Join(tile, "gt0"), filepath.Join(tile, "gt0", "freq0")
	have := open(t, freq)
	if s.clock = have("act_freq"); s.clock == "" {
		s.clock = have("cur_freq")
	}
	limits.CoreClockMHz = limit(t, have("rp0_freq"), 1, maxMHz)
	s.throttle = surveyThrottle(t, filepath.Join(freq, "throttle"), "reason_", "status")
	s.throttle.reasons = open(t, s.throttle.dir)("reasons")
	if open(t, dir)("tile1") != "" {
		return // another tile may work while this one is idle
	}
	s.idle = open(t, filepath.Join(gt, "gtidle"))("idle_residency_ms")
	if s.mediaIdle = s.idle; open(t, tile)("gt1") != "" {
		s.mediaIdle = open(t, filepath.Join(tile, "gt1", "gtidle"))("idle_residency_ms")
	}
}

// surveyI915 finds what i915 shows in the folder of its DRM card: newer kernels by GT, older ones in the folder itself.
func (s *sensors) surveyI915(t kernel.Tree, dir string, nodes []string, limits *gpu.Limits) {
	at := slices.IndexFunc(nodes, func(node string) bool { return strings.HasPrefix(node, "card") })
	if at < 0 {
		return
	}
	card, err := t.ResolveIn(dir, filepath.Join("drm", nodes[at]))
	if err != nil {
		return
	}
	gts := filepath.Join(card, "gt")
	gt := filepath.Join(gts, "gt0")
	inGT, inCard := open(t, gt), open(t, card)
	first := func(paths ...string) string {
		for _, path := range paths {
			if path != "" {
				return path
			}
		}
		return ""
	}
	s.clock = first(inGT("rps_act_freq_mhz"), inCard("gt_act_freq_mhz"), inGT("rps_cur_freq_mhz"), inCard("gt_cur_freq_mhz"))
	limits.CoreClockMHz = limit(t, first(inGT("rps_RP0_freq_mhz"), inCard("gt_RP0_freq_mhz")), 1, maxMHz)
	s.throttle = surveyThrottle(t, gt, "throttle_reason_", "throttle_reason_status")
	s.idle = first(inGT("rc6_residency_ms"), open(t, filepath.Join(card, "power"))("rc6_residency_ms"))
	if s.mediaIdle = s.idle; open(t, gts)("gt1") != "" {
		s.mediaIdle = open(t, filepath.Join(gts, "gt1"))("rc6_residency_ms")
	}
}

// limit reads a constant, scaled to the unit; nil when it isn't there, is 0 or can't be.
func limit(t kernel.Tree, path string, unit, high float64) *float64 {
	if path == "" {
		return nil
	}
	text, err := t.Text(path)
	v, ok := kernel.Number([]byte(text))
	if v /= unit; err != nil || !ok || v <= 0 || v > high {
		return nil
	}
	return &v
}
