package view

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

// told is a report of n devices with these details each.
func told(n int, details gpu.Details) *gpu.Report {
	r := &gpu.Report{Revision: 1}
	for range n {
		r.Devices = append(r.Devices, details)
	}
	return r
}

// opened is a page of one device whose details are open, with its snapshot's time a minute past the details'.
func opened(device gpu.Device, r gpu.Reading, details gpu.Details) *Page {
	device.ID = "GPU-0"
	s := &gpu.Snapshot{Seq: 1, Revision: 1, Time: noon.Add(time.Minute), GPUs: []gpu.Reading{r}}
	p := shown(wire.Event{Inventory: &gpu.Inventory{Revision: 1, Devices: []gpu.Device{device}}}, wire.Event{Snapshot: s}, wire.Event{Details: &gpu.Report{Revision: 1, Devices: []gpu.Details{details}}})
	p.setOpen("GPU-0", true)
	return p
}

// rows gives name → what is read beside it, of the whole inspection; quiet rows are in brackets.
func rows(device gpu.Device, r gpu.Reading, details gpu.Details) map[string]string {
	out := map[string]string{}
	for _, s := range inspect(&whence{&device, &r, &details}) {
		for _, row := range s.rows {
			words := row.value.text
			if row.note != "" {
				words += " | " + row.note
			}
			if row.other != "" {
				words += " ! " + row.other
			}
			if row.value.text == absent {
				words = row.value.why
			}
			if row.quiet {
				words = "(" + words + ")"
			}
			out[s.name+"/"+row.name] = words
		}
	}
	return out
}

func TestInspect(t *testing.T) {
	t.Parallel()
	ok := func(change func(*gpu.Reading)) gpu.Reading {
		r := gpu.Reading{State: gpu.StateOK}
		change(&r)
		return r
	}
	links := []gpu.Link{
		{Kind: "NVLink", Index: 0, Active: true, GigabytesPerSecond: ptr(25.0), PeerAddress: "0000:2a:00.0"}, {Kind: "NVLink", Index: 1},
		{Kind: "NVLink", Index: 2, Active: true, GigabytesPerSecond: ptr(25.0), PeerAddress: "0000:2a:00.0"}, {Kind: "XGMI", Index: 0, Active: true},
	}
	for _, test := range []struct {
		name    string
		device  gpu.Device
		reading gpu.Reading
		details gpu.Details
		want    map[string]string
	}{
		{"load and what slows it down", gpu.Device{}, ok(func(r *gpu.Reading) {
			r.UtilizationPercent, r.EncoderPercent, r.Throttle = ptr(97.0), ptr(0.0), ptr(gpu.ThrottlePower|gpu.ThrottleThermal)
		}), gpu.Details{}, map[string]string{"Load/Utilisation": "97 %", "Load/Video encoder": "0 %", "Load/Video decoder": "(not supported by this card or its driver)", "Load/Slowed down by": "its power limit, heat"}},
		{"idle is not a fault", gpu.Device{}, ok(func(r *gpu.Reading) { r.Throttle = ptr(gpu.ThrottleIdle) }), gpu.Details{}, map[string]string{"Load/Slowed down by": "nothing: it is idle"}},
		{"nothing slows it down", gpu.Device{}, ok(func(r *gpu.Reading) { r.Throttle = ptr(gpu.Throttle(0)) }), gpu.Details{}, map[string]string{"Load/Slowed down by": "nothing"}},
		{
			"temperatures with their thresholds", gpu.Device{Vendor: gpu.AMD, Limits: &gpu.Limits{SlowdownCelsius: ptr(95.0), ShutdownCelsius: ptr(105.0), MemoryCelsius: ptr(98.0)}},
			ok(func(r *gpu.Reading) {
				r.Temperatures = []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 54}, {Sensor: gpu.SensorJunction, Celsius: 61}, {Sensor: gpu.SensorMemory, Celsius: 58}}
				r.FanPercent, r.FanRPM = ptr(43.0), ptr(1210.0)
			}), gpu.Details{ThermalMarginCelsius: ptr(21.0), Disagreements: []gpu.Disagreement{{Field: "temperatures", Values: []gpu.Sourced{{Source: "hwmon junction", Value: 61}, {Source: "gpu_metrics", Value: 90}}}}},
			map[string]string{
				"Temperature and fan/Edge": "54 °C | slows down at 95 °C, switches off at 105 °C", "Temperature and fan/Hottest spot": "61 °C ! hwmon junction says 61 °C, gpu_metrics says 90 °C",
				"Temperature and fan/Memory": "58 °C | too hot from 98 °C", "Temperature and fan/Fan": "43 %, 1,210 rpm", "Temperature and fan/Until it slows down": "21 °C",
			},
		},
		{"a disagreement of no named sensor is of the first", gpu.Device{Vendor: gpu.NVIDIA}, ok(func(r *gpu.Reading) { r.Temperatures = []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 40}} }),
			gpu.Details{Disagreements: []gpu.Disagreement{{Field: "temperatures", Values: []gpu.Sourced{{Source: "nvml", Value: 40}, {Source: "smi", Value: 60}}}}},
			map[string]string{"Temperature and fan/GPU": "40 °C ! nvml says 40 °C, smi says 60 °C"}},
		{
			"power and energy", gpu.Device{Limits: &gpu.Limits{PowerMinWatts: ptr(110.0), PowerMaxWatts: ptr(264.0), PowerDefaultWatts: ptr(220.0)}},
			ok(func(r *gpu.Reading) { r.PowerWatts, r.PowerLimitWatts = ptr(12.0), ptr(220.0) }),
			gpu.Details{EnergyJoules: ptr(5.4e6), Disagreements: []gpu.Disagreement{{Field: "power_watts", Values: []gpu.Sourced{{Source: "hwmon", Value: 12}, {Source: "libamd_smi", Value: 19}}}}},
			map[string]string{"Power/Draw": "12 W ! hwmon says 12 W, libamd_smi says 19 W", "Power/Limit": "220 W | settable from 110 to 264 W, by default 220 W", "Power/Energy": "1.5 kWh | since the driver was loaded"},
		},
		{"clocks", gpu.Device{Limits: &gpu.Limits{CoreClockMHz: ptr(1980.0)}}, ok(func(r *gpu.Reading) {
			r.CoreClockMHz, r.MemoryClockMHz, r.PerformanceState = ptr(1410.0), ptr(2619.0), ptr(2)
		}), gpu.Details{},
			map[string]string{"Clocks/Core": "1,410 of 1,980 MHz", "Clocks/Memory": "2,619 MHz", "Clocks/Performance state": "P2 | P0 is the fastest, P15 the slowest"}},
		{"memory of a card", gpu.Device{}, ok(func(r *gpu.Reading) {
			r.MemoryTotalBytes, r.MemoryUsedBytes, r.MemoryReservedBytes = ptr(uint64(16<<30)), ptr(uint64(4<<30)), ptr(uint64(1<<30))
			r.SharedMemoryUsedBytes, r.SharedMemoryTotalBytes = ptr(uint64(1<<30)), ptr(uint64(64<<30))
		}), gpu.Details{}, map[string]string{
			"Memory/VRAM": "4.00 of 16.00 GiB", "Memory/Free": "11.00 GiB", "Memory/Kept by the driver": "1.00 GiB",
			"Memory/Main memory (GTT)": "1.00 of 64.00 GiB | the machine's, never counted as the card's own",
		}},
		{"memory of an APU", gpu.Device{Unified: true}, ok(func(r *gpu.Reading) {
			r.MemoryTotalBytes, r.MemoryUsedBytes = ptr(uint64(512<<20)), ptr(uint64(256<<20))
			r.SharedMemoryUsedBytes, r.SharedMemoryTotalBytes = ptr(uint64(8<<30)), ptr(uint64(30<<30))
		}), gpu.Details{}, map[string]string{
			"Memory/VRAM": "0.25 of 0.50 GiB | a part of main memory that is set aside for it", "Memory/Main memory (GTT)": "8.00 of 30.00 GiB | this device computes in the machine's memory",
		}},
		{"memory that is the machine's", gpu.Device{Unified: true}, ok(func(r *gpu.Reading) { r.MemoryTotalBytes, r.MemoryUsedBytes = ptr(uint64(64<<30)), ptr(uint64(8<<30)) }), gpu.Details{},
			map[string]string{"Memory/Main memory": "8.00 of 64.00 GiB | this device computes in the machine's memory"}},
		{"errors of memory", gpu.Device{}, ok(func(*gpu.Reading) {}), gpu.Details{
			ECC: &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr(uint64(3)), CorrectedAggregate: ptr(uint64(1204)), UncorrectedAggregate: ptr(uint64(0))}, RemappedRows: &gpu.RemappedRows{Correctable: 2, Uncorrectable: 1, Pending: true},
		}, map[string]string{
			"Memory errors/Error correction": "on", "Memory errors/Corrected": "3 since start, 1,204 in all", "Memory errors/Not correctable": "0 in all", "Memory errors/Replaced rows": "3 ! one more at the next reset of the card",
		}},
		{"no spare row left", gpu.Device{}, ok(func(*gpu.Reading) {}), gpu.Details{RemappedRows: &gpu.RemappedRows{Failed: true, Pending: true}}, map[string]string{"Memory errors/Replaced rows": "0 ! no spare row is left: replace the card"}},
		{"PCIe and links", gpu.Device{Limits: &gpu.Limits{PCIeGeneration: ptr(4), PCIeWidth: ptr(16)}}, ok(func(r *gpu.Reading) { r.PCIeGeneration, r.PCIeWidth = ptr(1), ptr(16) }), gpu.Details{Links: links, PCIeReplays: ptr(uint64(0))},
			map[string]string{"Connections/PCIe": "Gen 1 ×16 | at most Gen 4 ×16", "Connections/PCIe packets resent": "0", "Connections/NVLink": "2 of 3 up | 50 GB/s each way, to 0000:2a:00.0 ! down: 1", "Connections/XGMI": "1 of 1 up"}},
		{"why values are absent", gpu.Device{Absent: map[string]gpu.Absence{"fan_percent": gpu.AbsentUnsupported, "power_watts": gpu.AbsentFailed}}, ok(func(*gpu.Reading) {}),
			gpu.Details{Absent: map[string]gpu.Absence{"pcie_replays": gpu.AbsentNoPermission, "ecc": gpu.AbsentTimedOut}}, map[string]string{
				"Temperature and fan/Fan": "(not supported by this card or its driver)", "Power/Draw": "the driver answered with an error",
				"Connections/PCIe packets resent": "no permission: this user may not read it", "Memory errors/Corrected": "no answer from the driver",
			}},
		{"asleep", gpu.Device{DriverVersion: "6.8"}, gpu.Reading{State: gpu.StateSuspended}, gpu.Details{}, map[string]string{"Power/Draw": "(asleep: reading it would wake the device)", "About/Driver": "6.8"}},
		{"lost", gpu.Device{}, gpu.Reading{State: gpu.StateLost, PowerWatts: ptr(100.0)}, gpu.Details{}, map[string]string{"Power/Draw": "100 W", "Power/Limit": "(not readable: lost)"}},
		{"suspect", gpu.Device{}, ok(func(r *gpu.Reading) { r.UtilizationPercent, r.Suspect = ptr(100.0), []string{"utilization_percent"} }), gpu.Details{}, map[string]string{"Load/Utilisation": "100 % ?"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := rows(test.device, test.reading, test.details)
			for name, want := range test.want {
				if got[name] != want {
					t.Errorf("%s: %q, want %q", name, got[name], want)
				}
			}
		})
	}
}

// Whatever is absent, no row is empty and none says zero.
func TestInspectOfNothing(t *testing.T) {
	t.Parallel()
	for _, s := range gpu.States {
		for name, words := range rows(gpu.Device{ID: "x", PCIAddress: "0000:1a:00.0"}, gpu.Reading{State: s}, gpu.Details{}) {
			if name != "About/ID" && name != "About/PCI address" && (words == "" || strings.HasPrefix(words, "0")) {
				t.Errorf("%s, %s: %q", s, name, words)
			}
		}
	}
}

func TestClosedDetailsAreNotRendered(t *testing.T) {
	t.Parallel()
	many := machine(64)
	details := gpu.Details{Time: noon, Processes: []gpu.Process{{PID: 7, Name: "train"}}}
	p := shown(wire.Event{Inventory: many}, wire.Event{Snapshot: snapshot(many, 1)}, wire.Event{Details: told(64, details)})
	markup, words := html(p)
	refuse(t, markup, `class="details"`)
	refuse(t, words, "train")
	if n := strings.Count(markup, `aria-expanded="false"`); n != 64 {
		t.Errorf("%d buttons of closed details, want 64", n)
	}
	p.setOpen("GPU-9", true)
	markup, words = html(p)
	if n := strings.Count(markup, `aria-expanded="false"`); n != 63 {
		t.Errorf("%d buttons of closed details, want 63", n)
	}
	element(t, markup, `id="open-9"`, `aria-expanded`, `aria-controls="details-9"`)
	element(t, markup, `id="details-9"`, `aria-labelledby="details-title-9"`)
	expect(t, words, "Device 9 in detail", "train")
	if n := strings.Count(words, "train"); n != 1 {
		t.Errorf("%d details, want 1", n)
	}
	p.setOpen("GPU-9", false)
	if markup, _ = html(p); strings.Contains(markup, "details-title") {
		t.Error("still open")
	}
}

func TestAbsenceIsNoNoise(t *testing.T) {
	t.Parallel()
	one := machine(1).Devices[0]
	one.Sources = map[string]string{"power_watts": "hwmon power1_average"}
	p := opened(one, reading(0), gpu.Details{Time: noon, Processes: []gpu.Process{}, Absent: map[string]gpu.Absence{"energy_joules": gpu.AbsentNoPermission}})
	_, words := html(p)
	expect(t, words, "Energy — no permission: this user may not read it", "No program uses this device.")
	refuse(t, words, "Video encoder", "hwmon power1_average", "not supported by this card")
	d := &panel{Page: p, Device: 0, ID: "GPU-0", of: "GPU-0"}
	d.toggleOrigins(app.Context{}, app.Event{})
	_, words = render(d)
	expect(t, words, "Video encoder — not supported by this card or its driver", "Draw 110 W hwmon power1_average")
}

// render gives one component as markup and as words.
func render(c app.UI) (markup, words string) {
	markup = app.HTMLString(c)
	return markup, strings.Join(strings.Fields(strings.ReplaceAll(tags.ReplaceAllString(markup, " "), "&#39;", "'")), " ")
}

func TestSuspectIsMarkedAndNotCounted(t *testing.T) {
	t.Parallel()
	r := reading(0)
	r.UtilizationPercent, r.PowerWatts, r.Suspect = ptr(100.0), ptr(12.0), []string{"utilization_percent", "power_watts"}
	markup, words := html(opened(machine(1).Devices[0], r, gpu.Details{Time: noon}))
	expect(t, words, "100 % ? utilisation", "Power 12 of 220 W ?", "Mean utilisation — %", "Utilisation 100 % ? The driver says so, but other values of this device contradict it.")
	expect(t, markup, `title="`+suspicion+`"`)
}

func TestMeanSaysOverHowMany(t *testing.T) {
	t.Parallel()
	three := machine(3)
	s := snapshot(three, 1)
	s.GPUs[1].Suspect = []string{"utilization_percent"}
	_, words := html(shown(wire.Event{Inventory: three}, wire.Event{Snapshot: s}))
	expect(t, words, "37 % over 2 of 3 devices")
}

func TestUnifiedMemoryIsShownApart(t *testing.T) {
	t.Parallel()
	apu := machine(1).Devices[0]
	apu.Unified = true
	r := reading(0)
	_, words := html(opened(apu, r, gpu.Details{}))
	expect(t, words, "Main memory 4.00 of 15.98 GiB")
	r.SharedMemoryUsedBytes, r.SharedMemoryTotalBytes = ptr(uint64(8<<30)), ptr(uint64(30<<30))
	_, words = html(opened(apu, r, gpu.Details{}))
	expect(t, words, "VRAM 4.00 of 15.98 GiB Main memory 8.00 of 30.00 GiB", "this device computes in the machine's memory")
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	one := machine(1).Devices[0]
	list := []gpu.Process{
		{PID: 4821, Name: "python3", User: "alice", Type: gpu.ProcessBoth, MemoryBytes: ptr(uint64(6 << 30)), Command: "python3 train.py --batch 16"},
		{PID: 77},
	}
	markup, words := html(opened(one, reading(0), gpu.Details{Time: noon, Processes: list, ProcessesHidden: "Others are hidden: use --pid=host."}))
	expect(t, words, "Processes Program PID User Type Memory python3 4821 alice compute + graphics 6.00 GiB python3 train.py --batch 16 — 77 — — — Others are hidden: use --pid=host.")
	expect(t, markup, `title="`+unnamed+`"`, `<caption>Processes`)
	_, words = html(opened(one, reading(0), gpu.Details{Absent: map[string]gpu.Absence{"processes": gpu.AbsentNoPermission}}))
	expect(t, words, "is not known (no permission: this user may not read it).", "No details have arrived yet.")
	refuse(t, words, "Program PID", "No program uses")
}

func TestPartitionsAreChildren(t *testing.T) {
	t.Parallel()
	one := machine(1).Devices[0]
	one.PartitionMode = "MIG"
	one.Partitions = []gpu.Device{
		{ID: "MIG-a", Name: "MIG 3g.40gb", MemoryBytes: ptr(uint64(40 << 30)), MultiprocessorCount: ptr(60)}, {ID: "MIG-b", Name: "MIG 1g.10gb", MemoryBytes: ptr(uint64(10 << 30)), MultiprocessorCount: ptr(16)},
	}
	details := gpu.Details{
		Time: noon, Partitions: []gpu.PartitionReading{{ID: "MIG-b"}, {ID: "MIG-a", MemoryUsedBytes: ptr(uint64(31 << 30)), UtilizationPercent: ptr(12.0)}},
		Processes: []gpu.Process{{PID: 9, Name: "triton", Partition: "MIG-b"}},
	}
	_, words := html(opened(one, reading(0), details))
	expect(t, words, "Radeon Instinct MI25 · 2 partitions", "Partitions (MIG)", "0 MIG 3g.40gb 31.00 of 40.00 GiB 60 12 %", "1 MIG 1g.10gb — of 10.00 GiB 16 —", "triton 9 — — — 1")
}

func TestFaults(t *testing.T) {
	t.Parallel()
	one := machine(1).Devices[0]
	fault := func(before time.Duration, code uint64, text string) gpu.Fault {
		return gpu.Fault{Time: noon.Add(time.Minute - before), Kind: "XID", Code: code, Text: text}
	}
	markup, words := html(opened(one, reading(0), gpu.Details{Faults: []gpu.Fault{
		fault(50*time.Hour, 8, ""), fault(40*time.Hour, 13, "old"), fault(30*time.Hour, 31, "page fault"), fault(4*time.Minute, 79, "GPU has fallen off the bus"),
	}}))
	expect(t, words, "XID 79 online", "XID 79 GPU has fallen off the bus", "4 min ago", "1 earlier XID 8 The driver does not say what this code means.")
	element(t, markup, `class="fault"`, `data-age="new"`)
	_, words = html(opened(one, reading(0), gpu.Details{Faults: []gpu.Fault{fault(2*time.Hour, 79, "gone")}}))
	refuse(t, words, "XID 79 online")
	expect(t, words, "XID 79 gone")
}

func TestOnlyNewFaultsRenderTheCards(t *testing.T) {
	t.Parallel()
	one := machine(1)
	fault := gpu.Fault{Time: noon, Kind: "XID", Code: 79}
	p := shown(wire.Event{Inventory: one}, wire.Event{Snapshot: snapshot(one, 1)}, wire.Event{Details: told(1, gpu.Details{})})
	for _, step := range []struct {
		name   string
		report gpu.Details
		cards  bool
	}{
		{"more energy", gpu.Details{EnergyJoules: ptr(2.0)}, false}, {"a fault", gpu.Details{Faults: []gpu.Fault{fault}}, true}, {"the same fault", gpu.Details{Faults: []gpu.Fault{fault}}, false},
		{"another", gpu.Details{Faults: []gpu.Fault{{Time: noon, Kind: "XID", Code: 31}}}, true},
	} {
		before := p.version.devices
		p.behind = false
		p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Details: told(1, step.report)}}})
		if (p.version.devices != before) != step.cards || !p.behind {
			t.Errorf("%s: cards rendered: %v, panels behind: %v; want %v, true", step.name, p.version.devices != before, p.behind, step.cards)
		}
	}
}

// Where no reports come, open panels follow the readings, but not each of them.
func TestPanelsFollowAtTheRateOfDetails(t *testing.T) {
	t.Parallel()
	one := machine(1)
	p := shown(wire.Event{Inventory: one}, wire.Event{Snapshot: snapshot(one, 1)})
	p.refreshPanels()
	renders := 0
	for i := range 600 { // a minute at 10 Hz
		s := snapshot(one, uint64(i+2))
		s.Time = noon.Add(time.Duration(i) * 100 * time.Millisecond)
		p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Snapshot: s}}})
		if p.behind {
			renders++
			p.refreshPanels()
		}
	}
	if renders < 8 || renders > 10 {
		t.Errorf("%d times in a minute, want about every %s", renders, panelInterval)
	}
}

func TestNothingInlineInDetails(t *testing.T) {
	t.Parallel()
	p := opened(machine(1).Devices[0], reading(0), gpu.Details{Faults: []gpu.Fault{{Time: noon, Kind: "XID", Code: 79}}, Processes: []gpu.Process{{PID: 1, Name: `<script>alert(1)</script>`, Command: `" onclick="x`}}})
	markup, _ := html(p)
	if strings.Contains(markup, "<script") || strings.Contains(markup, " style=") || strings.Contains(markup, ` onclick="`) {
		t.Error("the Content-Security-Policy forbids something inline")
	}
}

func TestInUnit(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	want := map[string]string{
		"memory_used_bytes": "4.00 GiB", "power_watts": "4,294,967,296 W", "core_clock_mhz": "4,294,967,296 MHz", "utilization_percent": "4,294,967,296 %",
		"energy_joules": "1,193.0 kWh", "temperatures": "4,294,967,296 °C", "fan_rpm": "4,294,967,296 rpm", "pcie_width": "4294967296",
	}
	for field := range want {
		got[field] = inUnit(field, 4<<30)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
