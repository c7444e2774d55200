package amdgpu

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/agent/fixture"
	"muster/shared/gpu"
)

func celsius(values ...float64) (list []gpu.Temperature) {
	for i, v := range values {
		list = append(list, gpu.Temperature{Sensor: gpu.Sensors[i], Celsius: v})
	}
	return list
}

const none = gpu.Throttle(0)

// captures are the single cards of shared/fixtures/amd-sysfs, with what their files say, worked out by hand.
var captures = []struct {
	name, card, address string
	device              gpu.Device
	reading             gpu.Reading
}{
	{"phoenix", "1", "0000:64:00.0", gpu.Device{
		ID: "pci-0000:64:00.0", VendorIndex: ptr(0), Name: "AMD Radeon 780M Graphics", Arch: "gfx1103", ComputeCapability: "11.0",
		MultiprocessorCount: ptr(6), MemoryBytes: ptr[uint64](4294967296), Unified: true,
	}, gpu.Reading{
		UtilizationPercent: ptr(0.), MemoryTotalBytes: ptr[uint64](4294967296), MemoryUsedBytes: ptr[uint64](1272893440),
		SharedMemoryTotalBytes: ptr[uint64](31433977856), SharedMemoryUsedBytes: ptr[uint64](211398656),
		Temperatures: celsius(25), PowerWatts: ptr(3.103), CoreClockMHz: ptr(800.), MemoryClockMHz: ptr(400.), MediaPercent: ptr(0.), Throttle: ptr(none),
	}},
	{"r7-240", "1", "0000:01:00.0", gpu.Device{
		ID: "pci-0000:01:00.0", Name: "AMD Radeon R7 200 Series", MemoryBytes: ptr[uint64](2147483648),
	}, gpu.Reading{
		MemoryTotalBytes: ptr[uint64](2147483648), MemoryUsedBytes: ptr[uint64](495321088),
		SharedMemoryTotalBytes: ptr[uint64](4069261312), SharedMemoryUsedBytes: ptr[uint64](116916224),
		Temperatures: celsius(52), CoreClockMHz: ptr(400.), MemoryClockMHz: ptr(1150.), FanPercent: ptr(103. / 255 * 100),
		PCIeGeneration: ptr(2), PCIeWidth: ptr(4), // pp_dpm_pcie is empty: from current_link_*
	}},
	{"rx5500xt", "1", "0000:04:00.0", gpu.Device{
		// no revision, by which amdgpu.ids tells six models apart
		ID: "pci-0000:04:00.0", Name: "AMD GPU 0x7340", Arch: "gfx1012", ComputeCapability: "10.1",
	}, gpu.Reading{
		UtilizationPercent: ptr(0.), Temperatures: celsius(48, 48), // the board has no memory sensor: its 0 °C is none
		PowerWatts: ptr(16.), PowerLimitWatts: ptr(130.), CoreClockMHz: ptr(31.), MemoryClockMHz: ptr(875.),
		FanPercent: ptr(0.), FanRPM: ptr(0.), PCIeGeneration: ptr(3), PCIeWidth: ptr(8), // its current_link_* say 16.0 x16
	}},
	{"rx580", "0", "0000:09:00.0", gpu.Device{
		ID: "pci-0000:09:00.0", Name: "AMD Radeon RX 580 Series", Arch: "gfx803", ComputeCapability: "8.0", MemoryBytes: ptr[uint64](4294967296),
	}, gpu.Reading{
		UtilizationPercent: ptr(11.), MemoryUtilizationPercent: ptr(2.),
		MemoryTotalBytes: ptr[uint64](4294967296), MemoryUsedBytes: ptr[uint64](536870912),
		SharedMemoryTotalBytes: ptr[uint64](8342712320), SharedMemoryUsedBytes: ptr[uint64](92377088),
		Temperatures: celsius(44), PowerWatts: ptr(41.045), PowerLimitWatts: ptr(155.), CoreClockMHz: ptr(798.08), MemoryClockMHz: ptr(1750.),
		FanPercent: ptr(35. / 255 * 100), FanRPM: ptr(595.), PCIeGeneration: ptr(3), PCIeWidth: ptr(16),
	}},
	{"rx6600xt", "0", "0000:0b:00.0", gpu.Device{
		ID: "pci-0000:0b:00.0", Name: "AMD GPU 0x73FF", Arch: "gfx1032", ComputeCapability: "10.3",
	}, gpu.Reading{
		UtilizationPercent: ptr(0.), Temperatures: celsius(35, 35, 36), PowerWatts: ptr(3.), PowerLimitWatts: ptr(100.),
		CoreClockMHz: ptr(0.), MemoryClockMHz: ptr(96.), FanPercent: ptr(0.), FanRPM: ptr(0.), PCIeGeneration: ptr(3), PCIeWidth: ptr(8),
	}},
	{"rx6900xt", "0", "0000:0c:00.0", gpu.Device{
		ID: "GPU-946d7e1ef9b172dd", Name: "AMD Radeon RX 6900 XT", Arch: "gfx1030", ComputeCapability: "10.3", MemoryBytes: ptr[uint64](17163091968),
	}, gpu.Reading{
		UtilizationPercent: ptr(3.), MemoryUtilizationPercent: ptr(0.),
		MemoryTotalBytes: ptr[uint64](17163091968), MemoryUsedBytes: ptr[uint64](668274688),
		SharedMemoryTotalBytes: ptr[uint64](16786171904), SharedMemoryUsedBytes: ptr[uint64](62369792),
		Temperatures: celsius(56, 59, 54), PowerWatts: ptr(36.), PowerLimitWatts: ptr(289.), CoreClockMHz: ptr(500.), MemoryClockMHz: ptr(1000.),
		FanPercent: ptr(0.), FanRPM: ptr(0.), PCIeGeneration: ptr(4), PCIeWidth: ptr(16), Throttle: ptr(none), MediaPercent: ptr(0.),
	}},
	{"rx7800xt", "1", "0000:03:00.0", gpu.Device{
		ID: "pci-0000:03:00.0", Name: "AMD GPU 0x747E",
	}, gpu.Reading{
		UtilizationPercent: ptr(2.), MemoryUtilizationPercent: ptr(0.), // the second from gpu_metrics
		Temperatures: celsius(24, 31, 48), PowerWatts: ptr(32.), PowerLimitWatts: ptr(236.), CoreClockMHz: ptr(2011.), MemoryClockMHz: ptr(456.),
		FanPercent: ptr(89. / 255 * 100), FanRPM: ptr(868.), PCIeGeneration: ptr(4), PCIeWidth: ptr(16), Throttle: ptr(none), MediaPercent: ptr(0.),
	}},
	{"rx7900xtx", "0", "0000:03:00.0", gpu.Device{
		ID: "pci-0000:03:00.0", Name: "AMD GPU 0x744C",
	}, gpu.Reading{
		UtilizationPercent: ptr(3.), Temperatures: celsius(53, 61, 68), PowerWatts: ptr(68.), PowerLimitWatts: ptr(290.),
		CoreClockMHz: ptr(31.), MemoryClockMHz: ptr(1249.), FanPercent: ptr(0.), FanRPM: ptr(0.), PCIeGeneration: ptr(4), PCIeWidth: ptr(16),
	}},
	{"strixpoint", "1", "0000:c1:00.0", gpu.Device{
		ID: "pci-0000:c1:00.0", VendorIndex: ptr(0), Name: "AMD Radeon 880M Graphics", Arch: "gfx1150", ComputeCapability: "11.5",
		MultiprocessorCount: ptr(6), MemoryBytes: ptr[uint64](536870912), Unified: true,
	}, gpu.Reading{
		UtilizationPercent: ptr(3.), MemoryTotalBytes: ptr[uint64](536870912), MemoryUsedBytes: ptr[uint64](514580480),
		SharedMemoryTotalBytes: ptr[uint64](16441004032), SharedMemoryUsedBytes: ptr[uint64](3946811392),
		Temperatures: celsius(38), PowerWatts: ptr(9.087), CoreClockMHz: ptr(848.), MemoryClockMHz: ptr(836.), MediaPercent: ptr(0.), // no star in pp_dpm_mclk: gpu_metrics
	}},
	{"vega56", "0", "0000:0b:00.0", gpu.Device{
		ID: "pci-0000:0b:00.0", Name: "AMD Radeon RX Vega", Arch: "gfx900", ComputeCapability: "9.0", MemoryBytes: ptr[uint64](8573157376),
	}, gpu.Reading{
		UtilizationPercent: ptr(0.), MemoryTotalBytes: ptr[uint64](8573157376), MemoryUsedBytes: ptr[uint64](16613376),
		SharedMemoryTotalBytes: ptr[uint64](8342863872), SharedMemoryUsedBytes: ptr[uint64](12337152),
		Temperatures: celsius(38, 38, 39), PowerWatts: ptr(8.), PowerLimitWatts: ptr(260.), CoreClockMHz: ptr(26.), MemoryClockMHz: ptr(167.),
		FanPercent: ptr(0.), FanRPM: ptr(5.), PCIeGeneration: ptr(3), PCIeWidth: ptr(16),
	}},
}

// captureLimits are the facts that those cards tell only while they are awake: by hand from vbios_version, hwmon's temp*_crit,
// temp*_emergency and power1_cap_*, the highest levels of the pp_dpm tables and, of r7-240, max_link_*.
var captureLimits = map[string]gpu.Device{
	"phoenix": {FirmwareVersion: "113-PHXGENERIC-001", Limits: &gpu.Limits{CoreClockMHz: ptr(2700.), MemoryClockMHz: ptr(800.)}},
	"r7-240":  {FirmwareVersion: "13-C86901_216", Limits: &gpu.Limits{SlowdownCelsius: ptr(120.), PCIeGeneration: ptr(3), PCIeWidth: ptr(8)}},
	"rx5500xt": {FirmwareVersion: "xxx-xxx-xxx", Limits: &gpu.Limits{
		SlowdownCelsius: ptr(110.), ShutdownCelsius: ptr(115.), MemoryCelsius: ptr(105.), PowerMinWatts: ptr(65.), PowerMaxWatts: ptr(156.), PowerDefaultWatts: ptr(130.),
		CoreClockMHz: ptr(1900.), MemoryClockMHz: ptr(875.), PCIeGeneration: ptr(3), PCIeWidth: ptr(8),
	}},
	"rx580": {FirmwareVersion: "113-1E3871U-O4C", Limits: &gpu.Limits{
		SlowdownCelsius: ptr(94.), PowerMaxWatts: ptr(201.), PowerDefaultWatts: ptr(155.), // a smallest power of 0 is none
		CoreClockMHz: ptr(1366.), MemoryClockMHz: ptr(1750.), PCIeGeneration: ptr(3), PCIeWidth: ptr(16),
	}},
	"rx6600xt": {FirmwareVersion: "113-23L86HMD2-D02", Limits: &gpu.Limits{
		SlowdownCelsius: ptr(100.), ShutdownCelsius: ptr(105.), MemoryCelsius: ptr(100.), PowerMinWatts: ptr(94.), PowerMaxWatts: ptr(100.), PowerDefaultWatts: ptr(100.),
		MemoryClockMHz: ptr(875.), PCIeGeneration: ptr(3), PCIeWidth: ptr(8),
	}},
	"rx6900xt": {FirmwareVersion: "113-D4121EXT-CO1", Limits: &gpu.Limits{
		SlowdownCelsius: ptr(100.), ShutdownCelsius: ptr(105.), MemoryCelsius: ptr(100.), PowerMaxWatts: ptr(332.), PowerDefaultWatts: ptr(289.),
		CoreClockMHz: ptr(2660.), MemoryClockMHz: ptr(1000.), PCIeGeneration: ptr(4), PCIeWidth: ptr(16),
	}},
	"rx7800xt": {FirmwareVersion: "113-EXT90249-100", Limits: &gpu.Limits{
		SlowdownCelsius: ptr(100.), ShutdownCelsius: ptr(105.), MemoryCelsius: ptr(108.), PowerMinWatts: ptr(212.), PowerMaxWatts: ptr(280.), PowerDefaultWatts: ptr(236.),
		CoreClockMHz: ptr(2254.), MemoryClockMHz: ptr(1218.), PCIeGeneration: ptr(4), PCIeWidth: ptr(16),
	}},
	"rx7900xtx": {FirmwareVersion: "113-D70401XT-N11", Limits: &gpu.Limits{
		SlowdownCelsius: ptr(100.), ShutdownCelsius: ptr(105.), MemoryCelsius: ptr(108.), PowerMinWatts: ptr(261.), PowerMaxWatts: ptr(333.), PowerDefaultWatts: ptr(290.),
		CoreClockMHz: ptr(2219.), MemoryClockMHz: ptr(1249.), PCIeGeneration: ptr(4), PCIeWidth: ptr(16),
	}},
	"strixpoint": {FirmwareVersion: "113-STRIXEMU-001", Limits: &gpu.Limits{CoreClockMHz: ptr(2900.), MemoryClockMHz: ptr(1000.)}},
	"vega56": {FirmwareVersion: "115-D050PIL-100", Limits: &gpu.Limits{
		SlowdownCelsius: ptr(85.), ShutdownCelsius: ptr(90.), MemoryCelsius: ptr(95.), PowerMaxWatts: ptr(390.), PowerDefaultWatts: ptr(260.),
		CoreClockMHz: ptr(1590.), MemoryClockMHz: ptr(920.), PCIeGeneration: ptr(3), PCIeWidth: ptr(16),
	}},
}

// captureReplays are the counts of pcie_replay_count; the other captures have none. No capture has ras or io_links of a card, an
// energy counter of a certain unit, or processes; none of their sources disagree.
var captureReplays = map[string]uint64{"r7-240": 0, "rx580": 3, "rx6900xt": 0, "vega56": 0}

var exact = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateApprox(0, 1e-9)}

func TestCaptures(t *testing.T) {
	t.Parallel()
	ids := filepath.Join(fixture.Root(t, "amd-mi25x8"), "usr/share/libdrm/amdgpu.ids")
	table, err := os.ReadFile(ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range captures {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.file("usr/share/libdrm/amdgpu.ids", string(table))
			m.copy(m.pci(c.address, c.card), fixture.Path(t, "amd-sysfs", c.name, "card"+c.card, "device"))
			kfd := filepath.Join(filepath.Dir(fixture.Path(t, "amd-sysfs", c.name, "card"+c.card)), "kfd")
			if _, err := os.Stat(kfd); err == nil {
				m.copy("sys/class/kfd/kfd", kfd)
			}
			r, found := m.inventory()
			if len(found.Devices) != 1 {
				t.Fatalf("got %d devices, want 1", len(found.Devices))
			}
			device := found.Devices[0]
			reading := read(t, r, device.ID)
			c.device.FirmwareVersion, c.device.Limits = captureLimits[c.name].FirmwareVersion, captureLimits[c.name].Limits
			c.device.Vendor, c.device.PCIAddress, c.device.DriverVersion = gpu.AMD, c.address, "in-tree 6.14.0"
			if diff := cmp.Diff(c.device, device, exact, cmpopts.IgnoreFields(gpu.Device{}, "Sources")); diff != "" {
				t.Errorf("device (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.reading, reading, exact); diff != "" {
				t.Errorf("reading (-want +got):\n%s", diff)
			}
			checkSources(t, r, device.ID)
			want := gpu.Details{}
			if count, ok := captureReplays[c.name]; ok {
				want.PCIeReplays = &count
			}
			if diff := cmp.Diff(want, details(t, r, device.ID), cmpopts.IgnoreFields(gpu.Details{}, "Time")); diff != "" {
				t.Errorf("details (-want +got):\n%s", diff)
			}
		})
	}
}

// checkSources wants a source for every value of the card, and none for what has no value, once the card has been read.
func checkSources(t *testing.T, r *Reader, id string) {
	t.Helper()
	reading, told := read(t, r, id), details(t, r, id)
	devices := inventory(t, r).Devices
	d := devices[slices.IndexFunc(devices, func(d gpu.Device) bool { return d.ID == id })]
	there := map[string]bool{
		"name": true, "arch": d.Arch != "", "compute_capability": d.ComputeCapability != "", "multi_processor_count": d.MultiprocessorCount != nil,
		"memory_bytes": d.MemoryBytes != nil, "driver_version": d.DriverVersion != "", "firmware_version": d.FirmwareVersion != "", "limits": d.Limits != nil,
		"vendor_index": d.VendorIndex != nil, "serial_number": d.SerialNumber != "", "partition_mode": d.PartitionMode != "", "unified": false,
	}
	for _, values := range []reflect.Value{reflect.ValueOf(reading), reflect.ValueOf(told)} {
		for i := range values.NumField() {
			name, _, _ := strings.Cut(values.Type().Field(i).Tag.Get("json"), ",")
			if kind := values.Field(i).Kind(); kind == reflect.Pointer || kind == reflect.Slice {
				there[name] = !values.Field(i).IsNil()
			}
		}
	}
	for _, about := range []string{"suspect", "partitions", "disagreements", "faults"} { // these have sources of their own
		delete(there, about)
	}
	for field, is := range there {
		if (d.Sources[field] != "") != is {
			t.Errorf("source of %s: got %q, and a value: %v", field, d.Sources[field], is)
		}
	}
}

// The old radeon driver reports almost nothing: its card is no device and takes no work.
func TestRadeonDriverIsNoDevice(t *testing.T) { // trap 36
	t.Parallel()
	m := newMachine(t)
	m.copy(m.pci("0000:01:00.0", "0"), fixture.Path(t, "amd-sysfs", "hd7870", "card0", "device"))
	if _, found := m.inventory(); len(found.Devices) != 0 {
		t.Errorf("got devices %v", found.Devices)
	}
}

// Eight MI25 behind a BMC at card0; KFD order 43,47,83,87,03,07,1a,1d .
func TestRootMI25x8(t *testing.T) { // traps 20, 21
	t.Parallel()
	r := New(fixture.Root(t, "amd-mi25x8"))
	found := inventory(t, r)
	want := []struct {
		address string
		rank    int
		used    uint64
		busy    float64
	}{
		{"0000:03:00.0", 4, 17776640, 0}, {"0000:07:00.0", 5, 1017776640, 12}, {"0000:1a:00.0", 6, 2017776640, 24},
		{"0000:1d:00.0", 7, 3017776640, 36}, {"0000:43:00.0", 0, 4017776640, 48}, {"0000:47:00.0", 1, 5017776640, 60},
		{"0000:83:00.0", 2, 6017776640, 72}, {"0000:87:00.0", 3, 7017776640, 84},
	}
	if len(found.Devices) != len(want) {
		t.Fatalf("got %d devices, want %d", len(found.Devices), len(want))
	}
	for i, w := range want {
		device := gpu.Device{
			ID: "GPU-c34f1a2b0000000" + string(rune('0'+i)), VendorIndex: &w.rank, Vendor: gpu.AMD, Name: "AMD Radeon Instinct MI25",
			PCIAddress: w.address, Arch: "gfx900", ComputeCapability: "9.0", MultiprocessorCount: ptr(64),
			MemoryBytes: ptr[uint64](17163091968), DriverVersion: "6.8.5",
			FirmwareVersion: captureLimits["vega56"].FirmwareVersion, Limits: captureLimits["vega56"].Limits, // whose files the root is made of
		}
		if diff := cmp.Diff(device, found.Devices[i], cmpopts.IgnoreFields(gpu.Device{}, "Sources")); diff != "" {
			t.Errorf("device %d (-want +got):\n%s", i, diff)
		}
		reading := read(t, r, found.Devices[i].ID)
		wantReading := captured("vega56")
		wantReading.MemoryTotalBytes, wantReading.MemoryUsedBytes, wantReading.UtilizationPercent = device.MemoryBytes, &w.used, &w.busy
		if diff := cmp.Diff(wantReading, reading, cmpopts.EquateApprox(0, 0.001)); diff != "" {
			t.Errorf("device %d (-want +got):\n%s", i, diff)
		}
	}
	if found.Host != (gpu.Host{AMDGPUDriver: "6.8.5"}) || len(found.Problems) != 0 {
		t.Errorf("got host %+v, problems %q", found.Host, found.Problems)
	}
}

func TestRootMix3(t *testing.T) {
	t.Parallel()
	r := New(fixture.Root(t, "amd-mix3"))
	found := inventory(t, r)
	want := []gpu.Device{
		{ID: "pci-0000:0b:00.0", VendorIndex: ptr(1), Name: "AMD Radeon RX Vega", PCIAddress: "0000:0b:00.0", Arch: "gfx900",
			ComputeCapability: "9.0", MultiprocessorCount: ptr(56), MemoryBytes: ptr[uint64](8573157376)},
		{ID: "GPU-946d7e1ef9b172dd", VendorIndex: ptr(0), Name: "AMD Radeon RX 6900 XT", PCIAddress: "0000:0c:00.0", Arch: "gfx1030",
			ComputeCapability: "10.3", MultiprocessorCount: ptr(40), MemoryBytes: ptr[uint64](17163091968)},
		{ID: "pci-0000:c1:00.0", VendorIndex: ptr(2), Name: "AMD Radeon 880M Graphics", PCIAddress: "0000:c1:00.0", Arch: "gfx1150",
			ComputeCapability: "11.5", MultiprocessorCount: ptr(6), MemoryBytes: ptr[uint64](536870912), Unified: true},
	}
	for i := range want {
		want[i].Vendor, want[i].DriverVersion = gpu.AMD, "6.8.5"
		capture := captureLimits[[]string{"vega56", "rx6900xt", "strixpoint"}[i]]
		want[i].FirmwareVersion, want[i].Limits = capture.FirmwareVersion, capture.Limits
	}
	if diff := cmp.Diff(want, found.Devices, cmpopts.IgnoreFields(gpu.Device{}, "Sources")); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	for i, name := range []string{"vega56", "rx6900xt", "strixpoint"} {
		if diff := cmp.Diff(captured(name), read(t, r, found.Devices[i].ID), cmpopts.EquateApprox(0, 0.001)); diff != "" {
			t.Errorf("%s in the root (-want +got):\n%s", name, diff)
		}
	}
}

// captured is the reading of a single card's capture.
func captured(name string) gpu.Reading {
	for _, c := range captures {
		if c.name == name {
			return c.reading
		}
	}
	panic("no capture " + name)
}
