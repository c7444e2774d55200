package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"muster/agent"
	"muster/agent/telemetry"
	"muster/shared/gpu"
)

func TestPrintDetails(t *testing.T) {
	t.Parallel()
	card := gpu.Device{
		ID: "GPU-1", Name: "H100", Vendor: gpu.NVIDIA, PartitionMode: "MIG", MemoryBytes: ptr(uint64(80 << 30)),
		Sources:    map[string]string{"memory_used_bytes": "nvmlDeviceGetMemoryInfo_v2", "fan_percent": "nvmlDeviceGetFanSpeed"},
		Absent:     map[string]gpu.Absence{"utilization_percent": gpu.AbsentUnsupported, "ecc": gpu.AbsentNoPermission},
		Limits:     &gpu.Limits{SlowdownCelsius: ptr(87.0), PowerMinWatts: ptr(200.0), PowerMaxWatts: ptr(700.0), CoreClockMHz: ptr(1980.0), PCIeGeneration: ptr(5), PCIeWidth: ptr(16)},
		Partitions: []gpu.Device{{ID: "MIG-1", Name: "3g.40gb", MemoryBytes: ptr(uint64(40 << 30)), MultiprocessorCount: ptr(60)}},
	}
	l := look{
		inventory: &gpu.Inventory{Revision: 4, Devices: []gpu.Device{card, {Index: 1, ID: "GPU-2", Name: "asleep"}, {
			Index: 2, ID: "GPU-3", Name: "terse", FirmwareVersion: "96.00", Sources: map[string]string{"firmware_version": "nvmlDeviceGetVbiosVersion", "processes": "fdinfo"},
			Limits: &gpu.Limits{PowerMinWatts: ptr(100.0), PowerMaxWatts: ptr(300.0)}, Absent: map[string]gpu.Absence{"power_watts": gpu.AbsentFailed},
		}}},
		snapshot: &gpu.Snapshot{Revision: 4, GPUs: []gpu.Reading{
			{State: gpu.StateOK, MemoryUsedBytes: ptr(uint64(1 << 30)), PowerWatts: ptr(70.4), Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 40}},
				Throttle: ptr(gpu.ThrottlePower | gpu.ThrottleThermal), PCIeGeneration: ptr(1), PCIeWidth: ptr(16), PerformanceState: ptr(8), Suspect: []string{"power_watts"}},
			{State: gpu.StateSuspended},
			{State: gpu.StateOK},
		}},
		report: &gpu.Report{Revision: 4, Devices: []gpu.Details{{
			Links: []gpu.Link{{Kind: "NVLink", Active: true}, {Kind: "NVLink"}}, Faults: []gpu.Fault{{Time: time.Unix(0, 0), Kind: "XID", Code: 79, Text: "fell off the bus"}},
			Processes:       []gpu.Process{{PID: 4711, Name: "python3", User: "ada", Type: gpu.ProcessCompute, MemoryBytes: ptr(uint64(3 << 30))}},
			ProcessesHidden: "others are hidden", EnergyJoules: ptr(7.2e6), RemappedRows: &gpu.RemappedRows{Pending: true},
			Disagreements: []gpu.Disagreement{
				{Field: "power_watts", Values: []gpu.Sourced{{Source: "a", Value: 70}, {Source: "b", Value: 130}}},
				{Field: "memory_used_bytes", Values: []gpu.Sourced{{Source: "a", Value: 17776640}, {Source: "b", Value: 1 << 30}}},
				{Field: "temperatures", Values: []gpu.Sourced{{Source: "a", Value: 38}, {Source: "b", Value: 60}}},
			},
			Partitions: []gpu.PartitionReading{{ID: "MIG-1", MemoryUsedBytes: ptr(uint64(2 << 30))}},
		}, {}, {Processes: []gpu.Process{}}}},
	}
	var out strings.Builder
	if err := show(&out, l, false, true, false); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"1.00 of 80.00 GiB nvmlDeviceGetMemoryInfo_v2", "load — not supported", "edge 40 °C (slows down at 87)", "(can be set to 200–700 W)", "power, thermal",
		"70 W", "suspect: other values contradict it", "generation 1 x16 (at most generation 5 x16)", "P8", "2.000 kWh", "ECC — no permission", "1 of 2 NVLink up", "more at the next reset",
		"XID 79 fell off the bus", "power_watts: a says 70 W, b says 130 W", "memory_used_bytes: a says 0.02 GiB, b says 1.00 GiB", "temperatures: a says 38 °C, b says 60 °C", "4711 ada compute 3.00 python3", "others are hidden", "3g.40gb 2.00 / 40.00 — — 60", "load — asleep",
		"processes 1, listed below", "processes — asleep", "processes none fdinfo", "firmware 96.00 nvmlDeviceGetVbiosVersion", "power — the driver failed",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("does not say %q:\n%s", want, out.String())
		}
	}
	l.report.Revision = 3 // of an older inventory: its devices may be others
	out.Reset()
	if err := show(&out, l, false, true, false); err != nil || strings.Contains(out.String(), "4711") {
		t.Errorf("details of another inventory are shown (%v):\n%s", err, out.String())
	}
}

// A command that prints once waits for what takes more than one tick, and no longer.
func TestALookSettles(t *testing.T) {
	t.Parallel()
	some := &gpu.Inventory{Revision: 2, Devices: []gpu.Device{{}}}
	for _, c := range []struct {
		name     string
		look     look
		tick     int
		detailed bool
		want     bool
	}{
		{"no device", look{inventory: &gpu.Inventory{}}, 1, true, true},
		{"before the first report", look{inventory: some}, 3, false, false},
		{"with the report", look{inventory: some, report: &gpu.Report{Revision: 2}}, 2, false, true},
		{"a report of an older inventory", look{inventory: some, report: &gpu.Report{Revision: 1}}, 4, true, false},
		{"sources are not known yet", look{inventory: some, report: &gpu.Report{Revision: 2}}, 2, true, false},
		{"sources are known", look{inventory: some, report: &gpu.Report{Revision: 2}}, sourceTicks, true, true},
		{"a driver that hangs", look{inventory: some}, detailTicks, true, true},
	} {
		if got := c.look.settled(c.tick, c.detailed); got != c.want {
			t.Errorf("%s: settled %v, want %v", c.name, got, c.want)
		}
	}
}

// quiet is a reader whose word on the machine never comes.
type quiet struct {
	telemetry.Reader
	name string
}

func (q quiet) Name() string { return q.name }

func (quiet) Examine(ctx context.Context) []telemetry.Finding {
	<-ctx.Done()
	select {} // a driver call does not know of contexts
}

type talking struct{ quiet }

func (talking) Examine(context.Context) []telemetry.Finding {
	return []telemetry.Finding{{Level: telemetry.LevelNote, Subject: "library", Text: "old", Costs: "the fan", Mend: "update it"}}
}

func TestAReaderThatDoesNotAnswerIsAFinding(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found := findings(ctx, agent.Hardware{Readers: []telemetry.Reader{quiet{name: "hung"}}}); len(found) != 1 || found[0].Level != telemetry.LevelFault || found[0].Subject != "hung" {
		t.Errorf("%+v", found)
	}
	var out strings.Builder
	r := &report{out: &out}
	for _, f := range findings(t.Context(), agent.Hardware{Readers: []telemetry.Reader{talking{}}}) {
		r.finding(f)
	}
	if want := "note  library: old\n      costs: the fan\n      mend:  update it\n"; out.String() != want || r.bad != 0 {
		t.Errorf("%d faults:\n%s", r.bad, out.String())
	}
}

func TestExamineInventory(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string
		faults     int
		reading    gpu.Reading
		details    gpu.Details
	}{
		{"well", "ok    Device 0 card", 0, gpu.Reading{State: gpu.StateOK}, gpu.Details{}},
		{"stuck", "FAULT Device 0 card: stuck (4 s old)\n      mend:  see the kernel log", 1, gpu.Reading{State: gpu.StateStuck, AgeMilliseconds: 4000}, gpu.Details{}},
		{"asleep", "ok    Device 0 card is asleep and was not woken\n", 0, gpu.Reading{State: gpu.StateSuspended}, gpu.Details{}},
		{"without a driver", "FAULT Device 0 card: no driver\n      mend:  install its driver", 1, gpu.Reading{State: gpu.StateNoDriver}, gpu.Details{}},
		{"suspect", "contradicts", 0, gpu.Reading{State: gpu.StateOK, Suspect: []string{"utilization_percent"}}, gpu.Details{}},
		{"sources that differ", "a says 1 W, b says 2 W; the first is shown", 0, gpu.Reading{State: gpu.StateOK},
			gpu.Details{Disagreements: []gpu.Disagreement{{Field: "power_watts", Values: []gpu.Sourced{{Source: "a", Value: 1}, {Source: "b", Value: 2}}}}}},
		{"memory that fails", "3 memory errors", 1, gpu.Reading{State: gpu.StateOK}, gpu.Details{ECC: &gpu.ECC{UncorrectedVolatile: ptr(uint64(3))}}},
		{"no spare rows", "replace the card", 1, gpu.Reading{State: gpu.StateOK}, gpu.Details{RemappedRows: &gpu.RemappedRows{Failed: true}}},
		{"a fault", "XID 79", 0, gpu.Reading{State: gpu.StateOK}, gpu.Details{Faults: []gpu.Fault{{Kind: "XID", Code: 79}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			r := &report{out: &out}
			examineInventory(look{
				inventory: &gpu.Inventory{Revision: 1, Devices: []gpu.Device{{Name: "card"}}}, snapshot: &gpu.Snapshot{Revision: 1, GPUs: []gpu.Reading{tt.reading}},
				report: &gpu.Report{Revision: 1, Devices: []gpu.Details{tt.details}},
			}, nil, r)
			if !strings.Contains(out.String(), tt.want) || r.bad != tt.faults {
				t.Errorf("%d faults, want %d and %q:\n%s", r.bad, tt.faults, tt.want, out.String())
			}
		})
	}
}

func TestCompareDevices(t *testing.T) {
	t.Parallel()
	a, b := gpu.Device{ID: "a", Name: "A"}, gpu.Device{ID: "b", Name: "B"}
	for _, tt := range []struct {
		ours, theirs []gpu.Device
		want         string
	}{
		{nil, nil, ""}, {[]gpu.Device{a, b}, []gpu.Device{b, a}, ""},
		{[]gpu.Device{a, b}, []gpu.Device{a}, "does not see B (b)"}, {nil, []gpu.Device{a}, "sees A (a), which this command does not"},
	} {
		if got := compareDevices(tt.ours, tt.theirs); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestDoctorSaysWhatToDoAboutAnAdapter(t *testing.T) {
	t.Parallel()
	l := look{snapshot: &gpu.Snapshot{}, inventory: &gpu.Inventory{
		Problems: []string{"nvml: the module is not loaded: load it", "amdsmi: something else"},
		OtherAdapters: []gpu.Adapter{
			{PCIAddress: "0000:01:00.0", Name: "AMD display adapter 1002:6818", Driver: "radeon"}, {PCIAddress: "0000:02:00.0", Name: "ASPEED display adapter 1a03:2000", Driver: "ast"},
			{PCIAddress: "0000:03:00.0", Name: "NVIDIA display adapter 10de:2684", Driver: "nouveau"}, {PCIAddress: "0000:04:00.0", Name: "NVIDIA display adapter 10de:2684", Driver: "vfio-pci"},
		}}}
	var out strings.Builder
	examineInventory(l, []telemetry.Finding{{Level: telemetry.LevelFault, Text: "the module is not loaded"}}, &report{out: &out})
	got := out.String()
	for _, want := range []string{"radeon.si_support=0 amdgpu.si_support=1", "install NVIDIA's driver", "virtual machine", "something else"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("want once %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "not loaded") {
		t.Errorf("says what a finding says too:\n%s", got)
	}
}
