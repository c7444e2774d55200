package amdgpu

import (
	"path/filepath"
	"slices"
	"strings"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// sensors are the files in which a card reports what changes, by real path; "" where the card has no such file.
type sensors struct {
	busy, memoryBusy, vramUsed, gttUsed string // device folder
	coreTable, memoryTable, linkTable   string // pp_dpm_*
	metrics                             string
	temperatures                        []thermometer // hwmon, in the order of gpu.Sensors
	power, powerCap                     string
	coreClock, memoryClock              string
	fan, pwm                            string
	fanMax                              float64 // RPM; 0 when not reported
	port                                string  // the PCI device that is in the slot: the card, or a switch of its own; "" when that can't be told
	linkSpeed, linkWidth                string  // the slot's link
	mediaBusy                           string
	energy                              string // hwmon's, in µJ
	replays                             string
	ecc, rasFeatures                    string  // the memory's error counts, and which errors are counted
	lowestClock                         float64 // MHz, the first level of coreTable; 0 when not reported
	facts
}

type thermometer struct {
	sensor gpu.Sensor
	path   string
}

// survey finds a card's files. It opens hwmon labels, so it must not be called for a suspended card. pcie_bw is never even
// looked for: reading it sleeps a second.
func survey(t kernel.Tree, dir string, internalLink, unified bool) *sensors {
	have := folder(t, dir)
	s := &sensors{
		busy: have("gpu_busy_percent"), memoryBusy: have("mem_busy_percent"),
		vramUsed: have("mem_info_vram_used"), gttUsed: have("mem_info_gtt_used"),
		coreTable: have("pp_dpm_sclk"), memoryTable: have("pp_dpm_mclk"), linkTable: have("pp_dpm_pcie"),
		metrics: have("gpu_metrics"), mediaBusy: have("vcn_busy_percent"), replays: have("pcie_replay_count"),
	}
	if ras, err := t.ResolveIn(dir, "ras"); err == nil {
		in := folder(t, ras)
		s.ecc, s.rasFeatures = in("umc_err_count"), in("features")
	}
	hwmon := findHwmon(t, dir)
	if hwmon != "" {
		s.surveyHwmon(t, hwmon)
	}
	if unified {
		s.linkTable = "" // there is no slot; some parts make up a link
	} else if s.port = slot(t, dir, internalLink); s.port != "" {
		have = folder(t, s.port)
		s.linkSpeed, s.linkWidth = have("current_link_speed"), have("current_link_width")
	}
	s.facts = surveyFacts(t, dir, hwmon, s)
	return s
}

// folder lists dir once; the function it gives tells the path of a name, "" when the name isn't there.
func folder(t kernel.Tree, dir string) func(name string) string {
	names := map[string]bool{}
	for _, name := range t.List(dir) {
		names[name] = true
	}
	return func(name string) string {
		if !names[name] {
			return ""
		}
		return filepath.Join(dir, name)
	}
}

// findHwmon gives the card's hwmon folder, "" when it has none. Its number changes whenever the driver is loaded again, and
// other drivers can add one of theirs to the same device.
func findHwmon(t kernel.Tree, dir string) string {
	parent, err := t.ResolveIn(dir, "hwmon")
	if err != nil {
		return ""
	}
	names := slices.DeleteFunc(t.List(parent), func(name string) bool { return !strings.HasPrefix(name, "hwmon") })
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b) // hwmon9 before hwmon10
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		path, err := t.ResolveIn(parent, name)
		if err == nil && t.Word(path, "name") == "amdgpu" {
			return path
		}
	}
	return ""
}

func (s *sensors) surveyHwmon(t kernel.Tree, dir string) {
	have := folder(t, dir)
	label := func(name string) string {
		if have(name) == "" {
			return ""
		}
		return t.Word(dir, name)
	}
	byLabel := map[string]gpu.Sensor{"edge": gpu.SensorEdge, "junction": gpu.SensorJunction, "mem": gpu.SensorMemory}
	paths := map[gpu.Sensor]string{}
	for _, number := range []string{"1", "2", "3"} {
		sensor, known := byLabel[label("temp"+number+"_label")]
		if !known && number == "1" && have("temp1_label") == "" {
			sensor, known = gpu.SensorEdge, true // kernels before 4.20 have one temperature, without a label
		}
		if path := have("temp" + number + "_input"); known && path != "" && paths[sensor] == "" {
			paths[sensor] = path
		}
	}
	for _, sensor := range gpu.Sensors {
		if paths[sensor] != "" {
			s.temperatures = append(s.temperatures, thermometer{sensor, paths[sensor]})
		}
	}
	for i, usual := range []string{"sclk", "mclk"} {
		prefix := "freq" + string(rune('1'+i))
		what := label(prefix + "_label")
		if what == "" {
			what = usual
		}
		path := have(prefix + "_input")
		switch {
		case what == "sclk" && s.coreClock == "":
			s.coreClock = path
		case what == "mclk" && s.memoryClock == "":
			s.memoryClock = path
		}
	}
	if s.power = have("power1_average"); s.power == "" {
		s.power = have("power1_input")
	}
	s.powerCap, s.fan, s.pwm, s.energy = have("power1_cap"), have("fan1_input"), have("pwm1"), have("energy1_input")
	if v := t.Decimal(dir, "fan1_max"); v != nil {
		s.fanMax = float64(*v)
	}
}

// slot gives the folder whose current_link_* files show the link to the machine. Since Vega a card has a switch of its own
// (on Navi the bridges 1002:1479 and, towards the slot, 1002:1478), and its own files show the link inside, which always runs at full
// speed. "" where that switch can't be seen on such a card.
func slot(t kernel.Tree, dir string, internalLink bool) string {
	port := ""
	for up := filepath.Dir(dir); len(up) > len(t.Path("")); up = filepath.Dir(up) {
		if _, isBridge := kernel.ParseAddress(filepath.Base(up)); !isBridge {
			break
		}
		vendor, _ := kernel.Hex(t.Word(up, "vendor"))
		device, _ := kernel.Hex(t.Word(up, "device"))
		if vendor != kernel.VendorAMD || device != 0x1478 && device != 0x1479 {
			break
		}
		port = up
	}
	if port == "" && !internalLink {
		port = dir
	}
	return port
}
