package sim

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

var _ interface {
	telemetry.DetailReader
	telemetry.PCIeReader
} = (*Machine)(nil)

func details(t *testing.T, m *Machine, id string) gpu.Details {
	t.Helper()
	d, err := m.Details(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDetailsOfModels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		model             string
		links             int
		ecc, rows, energy bool
		state             int // of performance while idle; -1 = none
	}{
		{"H100", 18, true, true, true, 0},
		{"A100", 12, true, true, true, 0},
		{"V100", 6, true, false, true, 0},
		{"L4", 0, true, true, true, 8},
		{"T4", 0, true, false, true, 8},
		{"RTX 4090", 0, false, false, true, 8},
		{"RTX 5090", 0, false, false, true, 8},
		{"GTX 1080 Ti", 0, false, false, false, 8},
		{"MI25", 0, false, false, false, -1},
		{"MI300X", 0, true, false, true, -1},
		{"RX 7900 XTX", 0, false, false, false, -1},
	} {
		t.Run(tt.model, func(t *testing.T) {
			t.Parallel()
			m, err := Parse("2x " + tt.model)
			if err != nil {
				t.Fatal(err)
			}
			facts := inventory(t, m)[0]
			d := details(t, m, facts.ID)
			if len(d.Links) != tt.links || (d.ECC != nil) != tt.ecc || (d.RemappedRows != nil) != tt.rows || (d.EnergyJoules != nil) != tt.energy {
				t.Errorf("%d links, %+v, %+v, energy %v: want %+v", len(d.Links), d.ECC, d.RemappedRows, d.EnergyJoules, tt)
			}
			for _, l := range d.Links {
				if !l.Active || l.Kind != "NVLink" || l.GigabytesPerSecond == nil {
					t.Errorf("%+v", l)
				}
			}
			r := read(t, m, facts.ID)
			if (r.PerformanceState != nil) != (tt.state >= 0) || r.PerformanceState != nil && *r.PerformanceState != tt.state {
				t.Errorf("performance state %v: want %d", r.PerformanceState, tt.state)
			}
			if d.Processes == nil || len(d.Processes) != 0 || d.Time.IsZero() {
				t.Errorf("idle: processes %v, time %v", d.Processes, d.Time)
			}
		})
	}
	alone, err := Parse("H100")
	if err != nil {
		t.Fatal(err)
	}
	if d := details(t, alone, "sim-h100-0"); len(d.Links) != 18 || d.Links[0].Active {
		t.Errorf("%d links, %+v: want them there and down", len(d.Links), d.Links[0])
	}
}

// What can be told of a card has a source that says that it is simulated, and the scales hold what is measured.
func TestNewFieldsAreLabelledAndWithinTheirLimits(t *testing.T) {
	t.Parallel()
	m, err := Parse(strings.Join(Models(), ","))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range inventory(t, m) {
		m.Busy(f.ID, gpu.GiB)
		r, d := read(t, m, f.ID), details(t, m, f.ID)
		for field, has := range map[string]bool{
			"limits": f.Limits != nil, "performance_state": r.PerformanceState != nil, "encoder_percent": r.EncoderPercent != nil, "decoder_percent": r.DecoderPercent != nil,
			"energy_joules": d.EnergyJoules != nil, "pcie_replays": d.PCIeReplays != nil, "ecc": d.ECC != nil, "remapped_rows": d.RemappedRows != nil,
			"links": d.Links != nil, "processes": d.Processes != nil,
		} {
			if (f.Sources[field] == source) != has {
				t.Errorf("%s: %s from %q, reported %v", f.Name, field, f.Sources[field], has)
			}
		}
		l := f.Limits
		if *l.PowerMinWatts >= *l.PowerDefaultWatts || *l.PowerDefaultWatts > *l.PowerMaxWatts || *r.PowerLimitWatts > *l.PowerMaxWatts ||
			*l.SlowdownCelsius >= *l.ShutdownCelsius || *r.TemperatureCelsius() >= *l.SlowdownCelsius || *r.CoreClockMHz > *l.CoreClockMHz ||
			*r.PCIeGeneration > *l.PCIeGeneration || *r.PCIeWidth > *l.PCIeWidth {
			t.Errorf("%s: %+v", f.Name, r)
		}
	}
}

func TestWorkShowsInDetails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := Parse("2x RTX 4090")
		if err != nil {
			t.Fatal(err)
		}
		const id, other = "sim-rtx-4090-0", "sim-rtx-4090-1"
		idle := details(t, m, id)
		done := m.Busy(id, 6*gpu.GiB)
		time.Sleep(time.Minute)
		busy := details(t, m, id)
		if len(busy.Processes) != 1 || *busy.Processes[0].MemoryBytes != 6*gpu.GiB || busy.Processes[0].PID <= 1<<22 || !strings.Contains(busy.Processes[0].Name, "simulated") {
			t.Errorf("%+v", busy.Processes)
		}
		watts := (*busy.EnergyJoules - *idle.EnergyJoules) / 60
		if limit := *read(t, m, id).PowerLimitWatts; watts < 0.8*limit || watts > limit {
			t.Errorf("%v W over the minute, of %v", watts, limit)
		}
		if p := read(t, m, id).PerformanceState; *p != 0 {
			t.Errorf("performance state %d at work", *p)
		}
		if busy.Time.Sub(idle.Time) != time.Minute {
			t.Errorf("%v between two details", busy.Time.Sub(idle.Time))
		}
		moved, err := m.PCIeThroughput(t.Context(), id)
		still, _ := m.PCIeThroughput(t.Context(), other)
		if err != nil || *moved.ReceiveBytesPerSecond <= 10**still.ReceiveBytesPerSecond || *moved.TransmitBytesPerSecond <= *still.TransmitBytesPerSecond {
			t.Errorf("%v, %v: %v", moved, still, err)
		}
		done()
		if d := details(t, m, id); len(d.Processes) != 0 {
			t.Errorf("done: %+v", d.Processes)
		}
		if rise := *details(t, m, other).EnergyJoules; math.IsNaN(rise) || rise > 60*30 {
			t.Errorf("the idle card took %v J in a minute", rise)
		}
	})
}

func TestUnknownDevicesHaveNoDetails(t *testing.T) {
	t.Parallel()
	m, err := Parse("MI25")
	if err != nil {
		t.Fatal(err)
	}
	_, detailsErr := m.Details(t.Context(), "GPU-1")
	_, lost := m.PCIeThroughput(t.Context(), "GPU-1")
	_, unsupported := m.PCIeThroughput(t.Context(), "sim-mi25-0")
	if !errors.Is(detailsErr, telemetry.ErrLost) || !errors.Is(lost, telemetry.ErrLost) || !errors.Is(unsupported, telemetry.ErrUnsupported) {
		t.Errorf("%v; %v; %v", detailsErr, lost, unsupported)
	}
}
