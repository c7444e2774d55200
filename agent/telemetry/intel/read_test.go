package intel

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// On a host of several makers Intel's devices have unique IDs in the same order every time, and nothing else is among them.
func TestInventory(t *testing.T) { // trap 44
	t.Parallel()
	m := newMachine(t)
	m.alchemist()
	m.battlemage()
	m.integrated()
	m.pci("0000:05:00.0", "DRIVER=nvidia\nPCI_CLASS=30000\nPCI_ID=10DE:2684\n")
	m.pci("0000:06:00.0", "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:744C\n")
	m.pci("0000:0b:00.0", "DRIVER=vfio-pci\nPCI_CLASS=30000\nPCI_ID=8086:56A0\n") // given to a virtual machine
	m.pci("0000:0c:00.0", "PCI_CLASS=30000\nPCI_ID=8086:56A5\n")
	m.pci("0000:0d:00.0", "DRIVER=intel_vpu\nPCI_CLASS=120000\nPCI_ID=8086:7D1D\n")
	function := m.pci("0000:0a:00.1", "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:56C0\n")
	m.file(function+"/physfn/vendor", "0x8086\n")
	m.pci("0000:f0:00.0", "DRIVER=xe\nPCI_CLASS=38000\nPCI_ID=8086:FFFE\n")
	m.pci("0000:f1:00.0", "DRIVER=xe\nPCI_CLASS=38000\nPCI_ID=8086:0BD5\n")
	r := New(m.root)
	for range 3 {
		var got []string
		for _, d := range m.inventory(r).Devices {
			got = append(got, fmt.Sprintf("%s %s %q unified=%v", d.ID, d.Name, d.Arch, d.Unified))
			if d.Vendor != gpu.Intel || d.VendorIndex != nil || d.DriverVersion != "in-tree 6.17.0" || "pci-"+d.PCIAddress != d.ID || d.MemoryBytes != nil {
				t.Errorf("got %+v", d)
			}
		}
		want := []string{
			`pci-0000:00:02.0 Intel GPU 0x4680 "xe-lp" unified=true`, `pci-0000:03:00.0 Intel Arc B580 "xe2" unified=false`,
			`pci-0000:0a:00.0 Intel Arc A770 "xe-hpg" unified=false`, `pci-0000:f0:00.0 Intel GPU 0xFFFE "" unified=false`,
			`pci-0000:f1:00.0 Intel Data Center GPU Max 1550 "xe-hpc" unified=false`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.integrated()
	m.battlemage()
	m.pci("0000:10:00.0", "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:6420\n")
	m.file("usr/share/misc/pci.ids", "8086  Intel Corporation\n\t4680  AlderLake-S GT1 [UHD Graphics 770]\n\t6420  Lunar Lake [Intel Graphics]\n\te20b  Battlemage G21 [Arc B580]\n\t\t8086 1100  Arc B580 Limited\n")
	m.file("sys/module/xe/version", "1.2.3\n")
	_, found := m.reader()
	for id, want := range map[string]string{integrated: "Intel UHD Graphics 770", battlemage: "Intel Arc B580 Limited", "pci-0000:10:00.0": "Intel Graphics"} {
		if d := device(t, found, id); d.Name != want || d.Sources["name"] != "pci.ids" {
			t.Errorf("%s: got %q from %q, want %q", id, d.Name, d.Sources["name"], want)
		}
	}
	if d := device(t, found, battlemage); d.DriverVersion != "1.2.3" {
		t.Errorf("module installed apart: got %q", d.DriverVersion)
	}
}

func TestRead(t *testing.T) { // traps 28, 33
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		arc, old, processor := m.battlemage(), m.alchemist(), m.integrated()
		m.client("100", "5", "renderD129", xeClient(1, 0, 0, 0))
		r, found := m.reader()
		for _, id := range []string{battlemage, alchemist, integrated} {
			if first := read(t, r, id); first.PowerWatts != nil || first.UtilizationPercent != nil {
				t.Errorf("%s: the first reading has a rate: %+v", id, first)
			}
		}
		time.Sleep(time.Second)
		m.file(arc+"/hwmon/hwmon5/energy1_input", "1123000000\n")
		m.file(old+"/hwmon/hwmon9/energy1_input", "86500000\n")
		m.client("101", "5", "renderD128", "")
		m.file("proc/100/fdinfo/5", xeClient(1, 30, 60, 100))
		for id, want := range map[string]gpu.Reading{
			battlemage: {
				UtilizationPercent: ptr(60.0), MediaPercent: ptr(0.0),
				Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 52}, {Sensor: gpu.SensorMemory, Celsius: 60}},
				PowerWatts:   ptr(123.0), PowerLimitWatts: ptr(190.0), CoreClockMHz: ptr(2850.0), FanRPM: ptr(1210.0),
				PCIeGeneration: ptr(4), PCIeWidth: ptr(8), Throttle: ptr(gpu.Throttle(0)),
			},
			alchemist: {
				UtilizationPercent: ptr(0.0), MediaPercent: ptr(0.0), Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 41}},
				PowerWatts: ptr(36.5), CoreClockMHz: ptr(600.0), FanRPM: ptr(900.0), PCIeGeneration: ptr(4), PCIeWidth: ptr(16),
				Throttle: ptr(gpu.ThrottleCurrent | gpu.ThrottleHardware),
			},
			integrated: {UtilizationPercent: ptr(0.0), MediaPercent: ptr(0.0), CoreClockMHz: ptr(350.0)},
		} {
			if diff := cmp.Diff(want, read(t, r, id)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", id, diff)
			}
		}
		limits := gpu.Limits{SlowdownCelsius: ptr(100.0), ShutdownCelsius: ptr(110.0), MemoryCelsius: ptr(95.0), CoreClockMHz: ptr(2900.0), PCIeGeneration: ptr(4), PCIeWidth: ptr(8)}
		if diff := cmp.Diff(&limits, device(t, found, battlemage).Limits); diff != "" {
			t.Errorf("limits (-want +got):\n%s", diff)
		}
		limits = gpu.Limits{PowerDefaultWatts: ptr(190.0), CoreClockMHz: ptr(2400.0), PCIeGeneration: ptr(4), PCIeWidth: ptr(16)}
		if diff := cmp.Diff(&limits, device(t, found, alchemist).Limits); diff != "" {
			t.Errorf("limits of i915 (-want +got):\n%s", diff)
		}

		// The driver is loaded again: its hwmon has another number and counts from 0. Nobody may make a power of that.
		m.remove(arc + "/hwmon/hwmon5")
		m.files(arc+"/hwmon/hwmon11", map[string]string{"name": "xe\n", "energy1_input": "10\n", "temp2_input": "53000\n", "temp2_label": "pkg\n"})
		time.Sleep(time.Second)
		if got := read(t, r, battlemage); got.PowerWatts != nil || *got.TemperatureCelsius() != 53 {
			t.Errorf("after the driver was loaded again: %+v", got)
		}
		time.Sleep(time.Second)
		m.file(arc+"/hwmon/hwmon11/energy1_input", "5000010\n")
		m.inventory(r) // and the counters outlive an inventory
		if got := read(t, r, battlemage); got.PowerWatts == nil || *got.PowerWatts != 5 {
			t.Errorf("a second later: %+v", got)
		}
		m.remove(processor)
		if _, err := r.Read(t.Context(), integrated); !errors.Is(err, telemetry.ErrLost) {
			t.Errorf("removed: got %v", err)
		}
		m.inventory(r)
		if _, err := r.Read(t.Context(), integrated); !errors.Is(err, telemetry.ErrLost) {
			t.Errorf("removed, and no longer listed: got %v", err)
		}
	})
}

// Where the values of a plain card come from is told, and only of values that it has.
func TestSources(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.battlemage()
	m.integrated()
	_, found := m.reader()
	want := map[string]string{
		"name": "PCI device id", "arch": "PCI device id", "driver_version": "module version", "utilization_percent": "fdinfo of processes",
		"media_percent": "fdinfo of processes", "temperatures": "hwmon", "power_watts": "hwmon energy1_input", "energy_joules": "hwmon energy1_input",
		"power_limit_watts": "hwmon power1_max", "fan_rpm": "hwmon fan_input", "core_clock_mhz": "act_freq", "throttle_reasons": "throttle",
		"pcie_generation": "current_link_speed", "pcie_width": "current_link_width",
	}
	if diff := cmp.Diff(want, device(t, found, battlemage).Sources); diff != "" {
		t.Errorf("card (-want +got):\n%s", diff)
	}
	want = map[string]string{
		"name": "PCI device id", "arch": "PCI device id", "driver_version": "module version", "utilization_percent": "fdinfo of processes",
		"media_percent": "fdinfo of processes", "core_clock_mhz": "gt_act_freq_mhz",
	}
	if diff := cmp.Diff(want, device(t, found, integrated).Sources); diff != "" {
		t.Errorf("integrated (-want +got):\n%s", diff)
	}
}

// A sleeping card is not touched: neither its sensors, nor the fdinfo of its clients (for which xe wakes it), nor its node.
func TestSuspendedIsNotTouched(t *testing.T) { // trap 31
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		arc := m.battlemage()
		m.client("100", "5", "renderD129", xeClient(1, 0, 0, 0))
		j, asked := &journal{}, 0
		r := New(m.root)
		r.read = j.ReadFile
		r.query = func(string, string) (memory, error) {
			asked++
			return memory{total: 12 << 30, used: 1 << 30, counted: true}, nil
		}
		status := func(s string) { m.file(arc+"/power/runtime_status", s+"\n") }
		untouched := func(when string) {
			t.Helper()
			if touched := j.take(m.path(arc)); len(touched) > 0 || asked > 0 {
				t.Errorf("%s: asked %d times and read %q", when, asked, touched)
			}
		}
		for _, s := range []string{"suspended", "suspending", "resuming"} {
			status(s)
			m.inventory(r)
			reading, err := r.Read(t.Context(), battlemage)
			if diff := cmp.Diff(gpu.Reading{}, reading); !errors.Is(err, telemetry.ErrSuspended) || diff != "" {
				t.Errorf("%s: %v %s", s, err, diff)
			}
			if _, err := r.Details(t.Context(), battlemage); !errors.Is(err, telemetry.ErrSuspended) {
				t.Errorf("%s: details: %v", s, err)
			}
			r.Examine(t.Context())
			untouched(s)
		}
		status("active")
		m.inventory(r)
		read(t, r, battlemage)
		time.Sleep(time.Second)
		if got := read(t, r, battlemage); *got.MemoryTotalBytes != 12<<30 || got.PowerWatts == nil || len(j.take(m.path(arc))) == 0 {
			t.Errorf("awake: got %+v", got)
		}
		status("suspended")
		asked = 0
		m.inventory(r)
		reading, err := r.Read(t.Context(), battlemage)
		if diff := cmp.Diff(gpu.Reading{MemoryTotalBytes: ptr[uint64](12 << 30)}, reading); !errors.Is(err, telemetry.ErrSuspended) || diff != "" {
			t.Errorf("asleep again: %v %s", err, diff)
		}
		untouched("asleep again")
		status("active")
		if got := read(t, r, battlemage); got.PowerWatts != nil || got.UtilizationPercent != nil {
			t.Errorf("awake again: a rate over the sleep: %+v", got)
		}
		m.remove(arc + "/power")
		m.inventory(r)
		read(t, r, battlemage) // no file means awake
	})
}

func BenchmarkRead(b *testing.B) {
	m := newMachine(b)
	m.battlemage()
	m.client("7", "5", "renderD129", xeClient(1, 0, 0, 0))
	r, _ := m.reader()
	for b.Loop() {
		if _, err := r.Read(b.Context(), battlemage); err != nil {
			b.Fatal(err)
		}
	}
}
