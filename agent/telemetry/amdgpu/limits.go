package amdgpu

import (
	"bytes"
	"path/filepath"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// facts are what the driver tells of a card only while it is awake, though it doesn't change.
type facts struct {
	limits        *gpu.Limits // nil when none is reported
	firmware      string      // of the video BIOS
	serial        string
	partitionMode string // "CPX/NPS4"; "" for a card that is not divided
}

// surveyFacts reads them; hwmon is the card's hwmon folder, "" when it has none.
func surveyFacts(t kernel.Tree, dir, hwmon string, s *sensors) facts {
	f := facts{partitionMode: partitionMode(t.Word(dir, "current_compute_partition"), t.Word(dir, "current_memory_partition"))}
	for name, to := range map[string]*string{"vbios_version": &f.firmware, "serial_number": &f.serial} {
		if text := t.Word(dir, name); printable(text) {
			*to = text
		}
	}
	l := gpu.Limits{}
	s.lowestClock, l.CoreClockMHz = clockRange(t, s.coreTable)
	_, l.MemoryClockMHz = clockRange(t, s.memoryTable)
	if hwmon != "" {
		hwmonLimits(t, hwmon, s, &l)
	}
	if best := s.fastestLink(t); best != (link{}) {
		if generation := generation(best.gigatransfers); generation > 0 {
			l.PCIeGeneration = &generation
		}
		l.PCIeWidth = &best.width
	}
	if l != (gpu.Limits{}) {
		f.limits = &l
	}
	return f
}

// partitionMode joins the two modes of a divided card; "" of an undivided one, or when the driver doesn't say.
func partitionMode(compute, memory string) string {
	switch {
	case !printable(compute) || compute == "SPX" || compute == "UNKNOWN":
		return ""
	case !printable(memory) || memory == "UNKNOWN":
		return compute
	default:
		return compute + "/" + memory
	}
}

// hwmonLimits reads where the card slows down and switches off, at the sensor that stands for it, and between what its power
// limit may be set. A smallest power of 0 is what older drivers say of every card: it is none.
func hwmonLimits(t kernel.Tree, dir string, s *sensors, l *gpu.Limits) {
	number := func(path string, unit, low, high float64) *float64 {
		text, err := t.Text(path)
		if err != nil {
			return nil
		}
		v, ok := kernel.Number([]byte(text))
		if v /= unit; !ok || v <= low || v > high {
			return nil
		}
		return &v
	}
	for i, thermometer := range s.temperatures {
		stem := string(bytes.TrimSuffix([]byte(thermometer.path), []byte("_input")))
		if i == 0 {
			l.SlowdownCelsius = number(stem+"_crit", 1000, 0, maxCelsius)
			l.ShutdownCelsius = number(stem+"_emergency", 1000, 0, maxCelsius)
		}
		if thermometer.sensor == gpu.SensorMemory {
			l.MemoryCelsius = number(stem+"_crit", 1000, 0, maxCelsius)
		}
	}
	l.PowerMinWatts = number(filepath.Join(dir, "power1_cap_min"), 1e6, 0, maxWatts)
	l.PowerMaxWatts = number(filepath.Join(dir, "power1_cap_max"), 1e6, 0, maxWatts)
	l.PowerDefaultWatts = number(filepath.Join(dir, "power1_cap_default"), 1e6, 0, maxWatts)
}

// clockRange gives the first and the highest level of a pp_dpm table; 0 and nil when there are none.
func clockRange(t kernel.Tree, table string) (first float64, highest *float64) {
	if table == "" {
		return 0, nil
	}
	text, err := t.Text(table)
	if err != nil {
		return 0, nil
	}
	first, most, ok := clockLevels([]byte(text))
	if !ok || most > maxMHz {
		return 0, nil
	}
	return first, &most
}

// fastestLink gives the highest level of pp_dpm_pcie, which the driver makes of what card and slot can do; else the lesser of the
// two ends of the way to the slot. Zero when neither is known.
func (s *sensors) fastestLink(t kernel.Tree) link {
	if s.linkTable != "" {
		if text, err := t.Text(s.linkTable); err == nil {
			if l := fastestLevel([]byte(text)); l != (link{}) {
				return l
			}
		}
	}
	if s.port == "" {
		return link{}
	}
	best := portLink(t, s.port)
	if _, ok := kernel.ParseAddress(filepath.Base(filepath.Dir(s.port))); !ok {
		return best
	}
	slot := portLink(t, filepath.Dir(s.port))
	if slot == (link{}) || best == (link{}) {
		return best
	}
	return link{min(best.gigatransfers, slot.gigatransfers), min(best.width, slot.width)}
}

// portLink reads what a PCI device can do at most; zero when it doesn't say.
func portLink(t kernel.Tree, dir string) link {
	rate, ok := parseLinkSpeed(t.Word(dir, "max_link_speed"))
	width := t.Decimal(dir, "max_link_width")
	if !ok || width == nil || *width == 0 || *width > 32 {
		return link{}
	}
	return link{rate, int(*width)}
}
