package amdsmi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/shared/gpu"
)

var (
	approx        = cmpopts.EquateApprox(0, 1e-3)
	ignoreSources = cmpopts.IgnoreFields(gpu.Device{}, "Sources")
	ignoreTime    = cmpopts.IgnoreFields(gpu.Details{}, "Time", "Absent")
)

// plain is device i of the fake as a version of the library shows it that has everything.
func plain(i int) gpu.Device {
	return gpu.Device{ID: id(i), Vendor: gpu.AMD, Name: "AMD Radeon Instinct MI25", PCIAddress: fmt.Sprintf("0000:%d3:00.0", i), SerialNumber: id(i)[4:],
		VendorIndex: ptr(3 - i), Arch: "gfx900", ComputeCapability: "9.0", MultiprocessorCount: ptr(64), MemoryBytes: ptr[uint64](17163091968), DriverVersion: "6.8.5",
		Limits: &gpu.Limits{SlowdownCelsius: ptr(95.), ShutdownCelsius: ptr(100.), MemoryCelsius: ptr(97.), PowerMaxWatts: ptr(264.), PowerDefaultWatts: ptr(220.),
			CoreClockMHz: ptr(1500.), MemoryClockMHz: ptr(945.)}}
}

func plainReading(i int) gpu.Reading {
	return gpu.Reading{
		UtilizationPercent: ptr(10 * float64(i)), MemoryUtilizationPercent: ptr(5 * float64(i)),
		MemoryTotalBytes: ptr[uint64](17163091968), MemoryUsedBytes: ptr(uint64(i+1) << 30),
		Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: float64(40 + i)}, {Sensor: gpu.SensorJunction, Celsius: float64(50 + i)}, {Sensor: gpu.SensorMemory, Celsius: float64(60 + i)}},
		PowerWatts:   ptr(70 + float64(i)), PowerLimitWatts: ptr(200.), CoreClockMHz: ptr(1440.), MemoryClockMHz: ptr(945.),
		PCIeGeneration: ptr(3), PCIeWidth: ptr(16),
	}
}

func plainDetails(i int) gpu.Details {
	return gpu.Details{EnergyJoules: ptr(30.6), PCIeReplays: ptr[uint64](3),
		ECC: &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr[uint64](5), UncorrectedVolatile: ptr[uint64](0)},
		Processes: []gpu.Process{
			{PID: 1000 * (i + 1), Name: "python3", MemoryBytes: ptr[uint64](1 << 30)}, {PID: 1000*(i+1) + 1, Name: "python3", MemoryBytes: ptr[uint64](2 << 30)},
		}}
}

// Every version gives what it has, and no struct of it looks wrong: its sizes and offsets are written twice, here and in the fake.
func TestEveryVersion(t *testing.T) { // trap 39
	t.Parallel()
	before := func(v string, than version) bool {
		var w version
		fmt.Sscanf(v, "%d.%d", &w.first, &w.second)
		return w.compare(than) < 0
	}
	for _, v := range []string{"23.2", "23.4", "24.5", "24.6", "24.7", "25.0", "25.3", "26.0", "26.1", "26.2", "26.3", "26.4", "26.5", "27.0", "100.1"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			c.Set("version=" + v)
			devices := c.four()
			for i, got := range devices {
				want, reading, details := plain(i), plainReading(i), plainDetails(i)
				if before(v, version{25, 0}) {
					want.VendorIndex = nil
				}
				if before(v, version{24, 7}) {
					want.MultiprocessorCount, want.Arch, want.ComputeCapability = nil, "", ""
				}
				if before(v, version{24, 5}) {
					reading.PCIeGeneration, reading.PCIeWidth, details.PCIeReplays = nil, nil, nil
					for k := range details.Processes {
						details.Processes[k].Name, details.Processes[k].MemoryBytes = "", nil
					}
				}
				if before(v, version{23, 4}) {
					want.DriverVersion, reading.PowerLimitWatts = "", nil
				}
				if diff := cmp.Diff(want, got, ignoreSources); diff != "" {
					t.Errorf("device %d (-want +got):\n%s", i, diff)
				}
				if diff := cmp.Diff(reading, c.read(got.ID), approx); diff != "" {
					t.Errorf("reading %d (-want +got):\n%s", i, diff)
				}
				if diff := cmp.Diff(details, c.details(got.ID), approx, ignoreTime); diff != "" {
					t.Errorf("details %d (-want +got):\n%s", i, diff)
				}
			}
			if left := c.leftOut(); len(left) > 0 {
				t.Errorf("left out: %v", left)
			}
		})
	}
}

func TestDetailsHaveTheirTime(t *testing.T) {
	t.Parallel()
	c := start(t)
	if at := c.details(c.four()[0].ID).Time; time.Since(at) > time.Minute || at.Location() != time.UTC {
		t.Errorf("got %v", at)
	}
}

func TestSourcesNameTheFunctions(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("version=24.6")
	got := c.four()[0].Sources
	for field, want := range map[string]string{"name": fnAsic, "power_watts": fnPower, "memory_bytes": fnMemory, "vendor_index": "", "arch": "", "fan_percent": "", "processes": fnProcesses} {
		if got[field] != want {
			t.Errorf("%s: got source %q, want %q", field, got[field], want)
		}
	}
}

func TestVersionsWithoutLayout(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"22.9", "0.0", "23.1", "4000000.0"} {
		c := start(t)
		c.Set("version=" + v)
		found := c.inventory()
		if len(found.Devices) != 0 || len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "ROCm") {
			t.Errorf("version %s: got %+v", v, found)
		}
		if calls := c.Calls(); calls[len(calls)-1] != "amdsmi_shut_down" {
			t.Errorf("version %s: got calls %v, want the library shut down", v, calls)
		}
	}
}

// A version that came later than the table may have other structs. What doesn't fit is left out, and a person is told.
func TestStructsThatDoNotFit(t *testing.T) { // trap 39
	t.Parallel()
	for _, c := range []struct {
		scenario []string
		left     []string
		gone     func(gpu.Device, gpu.Reading, gpu.Details) bool // the values are absent
	}{
		{[]string{"moved=1"}, []string{fnAsic}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool {
			return d.Name == "" && d.MultiprocessorCount == nil && d.ID == id(0) // by the UUID of HIP
		}},
		{[]string{"cu=5000"}, []string{fnAsic}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool {
			return d.MultiprocessorCount == nil && d.Name == ""
		}},
		{[]string{"longer.asic=8"}, []string{fnAsic}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool { return d.Name == "" }},
		{[]string{"longer.power=4"}, []string{fnPower}, func(_ gpu.Device, r gpu.Reading, _ gpu.Details) bool {
			return r.PowerWatts == nil && *r.PowerLimitWatts == 200
		}},
		{[]string{"longer.process=8"}, []string{fnProcesses}, func(_ gpu.Device, _ gpu.Reading, d gpu.Details) bool { return d.Processes == nil }},
		{[]string{"longer.process=-8"}, []string{fnProcesses}, func(_ gpu.Device, _ gpu.Reading, d gpu.Details) bool { return d.Processes == nil }},
		{[]string{"longer=1"}, []string{fnActivity, fnClock, fnAsic, fnDriver, fnEnumeration, fnECC, fnMemory, fnPCIe, fnPowerCap, fnPower}, func(d gpu.Device, r gpu.Reading, _ gpu.Details) bool {
			return d.ID == "pci-0000:03:00.0" && d.Limits.PowerMaxWatts == nil && r.UtilizationPercent == nil && len(r.Temperatures) == 3
		}},
		{[]string{"longer=3000"}, []string{fnActivity, fnClock, fnAsic, fnDriver, fnEnumeration, fnECC, fnMemory, fnPCIe, fnPowerCap, fnPower}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool { return d.Name == "" }},
		{[]string{"used=20000"}, []string{fnMemory}, func(d gpu.Device, r gpu.Reading, _ gpu.Details) bool { return r.MemoryUsedBytes == nil }},
		{[]string{"pid=99999999"}, []string{fnProcesses}, func(_ gpu.Device, _ gpu.Reading, d gpu.Details) bool { return d.Processes == nil }},
	} {
		t.Run(strings.Join(c.scenario, " "), func(t *testing.T) {
			t.Parallel()
			child := start(t)
			child.Set(append(c.scenario, "version=27.0")...)
			d := child.four()[0]
			r, details := child.read(d.ID), child.details(d.ID)
			if !c.gone(d, r, details) {
				t.Errorf("got device %+v, reading %+v, details %+v", d, r, details)
			}
			slices.Sort(c.left)
			if diff := cmp.Diff(c.left, child.leftOut()); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
			if !slices.ContainsFunc(child.ask("examine").Findings, func(f finding) bool { return strings.Contains(f.Text, "version 27.0 is newer than 26.5") }) {
				t.Error("nobody is told that the library is newer than the table")
			}
			child.Calls()
			child.read(d.ID)
			for _, call := range child.Calls() {
				if slices.Contains(c.left, call) {
					t.Errorf("%s was called again", call)
				}
			}
		})
	}
}
