package intel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// findHwmon gives the hwmon folder of the whole device, "" when it has none (integrated GPUs have none). i915 has another one for
// each GT, called "i915_gt0", and other drivers can add one of theirs; the numbers change whenever a driver is loaded again.
func findHwmon(t kernel.Tree, dir, driver string) string {
	parent, err := t.ResolveIn(dir, "hwmon")
	if err != nil {
		return ""
	}
	names := slices.DeleteFunc(t.List(parent), func(name string) bool { return !strings.HasPrefix(name, "hwmon") })
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) // hwmon9 before hwmon10
	})
	for _, name := range names {
		path, err := t.ResolveIn(parent, name)
		if err == nil && t.Word(path, "name") == driver {
			return path
		}
	}
	return ""
}

// maxChannels is more than any card has: xe counts 21 temperatures.
const maxChannels = 32

// surveyHwmon finds the sensors by their labels: xe has "card" and "pkg" for energy and power, "pkg" and "vram" for
// temperatures, beside others of single parts. i915 has one of each, without a label.
func (s *sensors) surveyHwmon(t kernel.Tree, dir string, limits *gpu.Limits) {
	if dir == "" {
		return
	}
	s.hwmon = true
	have := open(t, dir)
	for n := 1; n <= maxChannels; n++ {
		prefix := fmt.Sprintf("temp%d", n)
		sensor, known := sensorOf(t, have(prefix+"_label"), n)
		if path := have(prefix + "_input"); known && path != "" && !slices.ContainsFunc(s.temperatures, func(o thermometer) bool { return o.sensor == sensor }) {
			s.temperatures = append(s.temperatures, thermometer{sensor, path})
			s.surveyThresholds(t, have, prefix, sensor, limits)
		}
		if path := have(fmt.Sprintf("fan%d_input", n)); path != "" {
			s.fans = append(s.fans, path)
		}
	}
	s.surveyPower(t, have, limits)
}

// sensorOf says what the temperature with that label file measures; false for single parts (memory channels, the bus).
func sensorOf(t kernel.Tree, label string, n int) (gpu.Sensor, bool) {
	if label == "" {
		return gpu.SensorEdge, n == 1
	}
	text, err := t.Text(label)
	switch {
	case err == nil && text == "pkg":
		return gpu.SensorEdge, true
	case err == nil && text == "vram":
		return gpu.SensorMemory, true
	default:
		return "", false
	}
}

func (s *sensors) surveyThresholds(t kernel.Tree, have folder, prefix string, sensor gpu.Sensor, limits *gpu.Limits) {
	critical := limit(t, have(prefix+"_crit"), 1000, maxCelsius)
	switch sensor {
	case gpu.SensorEdge:
		limits.SlowdownCelsius = critical
		limits.ShutdownCelsius = limit(t, have(prefix+"_emergency"), 1000, maxCelsius)
	case gpu.SensorMemory:
		limits.MemoryCelsius = critical
	}
}

// surveyPower takes energy and limits of one channel: 1, the whole card, or 2, the GPU's package, where the card's energy is not
// told. A limit of the other one would be of something else. powerN_max is the sustained limit; some cards have only powerN_cap,
// that of bursts.
func (s *sensors) surveyPower(t kernel.Tree, have folder, limits *gpu.Limits) {
	channels := []string{"1", "2"}
	for _, channel := range channels {
		if s.energy = have("energy" + channel + "_input"); s.energy != "" {
			channels = []string{channel}
			break
		}
	}
	for _, channel := range channels {
		for _, name := range []string{"max", "cap"} {
			if s.powerLimit == "" {
				s.powerLimit = have("power" + channel + "_" + name)
			}
		}
		if limits.PowerDefaultWatts == nil {
			limits.PowerDefaultWatts = limit(t, have("power"+channel+"_rated_max"), 1e6, maxWatts)
		}
	}
}
