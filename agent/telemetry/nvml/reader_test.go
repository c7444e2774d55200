//go:build cgo

package nvml

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/agent/telemetry/nvml/fakenvml"
	"muster/shared/gpu"
)

var ignoreSources = cmpopts.IgnoreFields(gpu.Device{}, "Sources", "Absent")

func h100(i int) gpu.Device {
	return gpu.Device{ID: uuid(i), VendorIndex: &i, Vendor: gpu.NVIDIA, Name: "NVIDIA H100 80GB HBM3", PCIAddress: fmt.Sprintf("0000:%02x:00.0", 0x1a+i),
		Arch: "sm_90", ComputeCapability: "9.0", MultiprocessorCount: ptr(132), MemoryBytes: ptr[uint64](85520809984), DriverVersion: "535.104.05",
		FirmwareVersion: "96.00.61.00.01", SerialNumber: "1650522003820",
		Limits: &gpu.Limits{SlowdownCelsius: ptr(89.), ShutdownCelsius: ptr(92.), MemoryCelsius: ptr(95.), PowerMinWatts: ptr(200.), PowerMaxWatts: ptr(700.),
			PowerDefaultWatts: ptr(700.), CoreClockMHz: ptr(1980.), MemoryClockMHz: ptr(2619.), PCIeGeneration: ptr(5), PCIeWidth: ptr(16)}}
}

func TestEightH100(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.inventory()
	for i := range 8 {
		c.read(uuid(i)) // after which the sources are known
	}
	found := c.inventory()
	if len(found.Devices) != 8 || len(found.Problems) != 0 {
		t.Fatalf("got %d devices, problems %q", len(found.Devices), found.Problems)
	}
	for i, d := range found.Devices {
		if diff := cmp.Diff(h100(i), d, ignoreSources); diff != "" {
			t.Errorf("device %d (-want +got):\n%s", i, diff)
		}
		if d.Sources["power_watts"] != "nvmlDeviceGetPowerUsage" || d.Sources["memory_bytes"] != "nvmlDeviceGetMemoryInfo_v2" {
			t.Errorf("device %d: got sources %v", i, d.Sources)
		}
		want := gpu.Reading{
			UtilizationPercent: ptr(float64(10 * i)), MemoryUtilizationPercent: ptr(float64(5 * i)),
			MemoryTotalBytes: ptr[uint64](85520809984), MemoryUsedBytes: ptr(uint64(i+1) << 30), MemoryReservedBytes: ptr[uint64](614 << 20),
			Temperatures:   []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: float64(40 + i)}, {Sensor: gpu.SensorMemory, Celsius: float64(45 + i)}},
			EncoderPercent: ptr(0.), DecoderPercent: ptr(0.), PerformanceState: ptr(0),
			PowerWatts: ptr(70 + float64(i)), PowerLimitWatts: ptr(700.), CoreClockMHz: ptr(1980.), MemoryClockMHz: ptr(2619.),
			PCIeGeneration: ptr(5), PCIeWidth: ptr(16), Throttle: ptr(gpu.ThrottleIdle),
		}
		if diff := cmp.Diff(want, c.read(d.ID), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("reading %d (-want +got):\n%s", i, diff)
		}
	}
	want := gpu.Host{CUDAVersion: "12.4", NVMLVersion: "12.535.104.05", NVIDIADriver: "535.104.05"}
	if found.Host != want {
		t.Errorf("got host %+v, want %+v", found.Host, want)
	}
}

// Each symbol taken out alone: the process lives, the device stays, its other values too.
//
// trap 1
func TestMissingSymbols(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		symbols []string
		gone    func(gpu.Device, gpu.Reading) bool // the value is absent
	}{
		{[]string{"nvmlDeviceGetNumGpuCores"}, func(d gpu.Device, _ gpu.Reading) bool { return d.MultiprocessorCount == nil }},
		{[]string{"nvmlDeviceGetMemoryInfo_v2"}, func(_ gpu.Device, r gpu.Reading) bool {
			return r.MemoryReservedBytes == nil && *r.MemoryUsedBytes == 1<<30+614<<20
		}},
		{[]string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo"}, func(d gpu.Device, r gpu.Reading) bool { return d.MemoryBytes == nil && r.MemoryUsedBytes == nil }},
		{[]string{"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetFanSpeed"}, func(_ gpu.Device, r gpu.Reading) bool { return r.UtilizationPercent == nil }},
		{[]string{"nvmlDeviceGetTemperature", "nvmlErrorString"}, func(_ gpu.Device, r gpu.Reading) bool {
			return len(r.Temperatures) == 1 && r.Temperatures[0].Sensor == gpu.SensorMemory
		}},
		{[]string{"nvmlDeviceGetFieldValues"}, func(_ gpu.Device, r gpu.Reading) bool {
			return len(r.Temperatures) == 1 && r.Temperatures[0].Sensor == gpu.SensorEdge
		}},
		{[]string{"nvmlDeviceGetPowerUsage"}, func(_ gpu.Device, r gpu.Reading) bool { return r.PowerWatts == nil }},
		{[]string{"nvmlDeviceGetEnforcedPowerLimit"}, func(_ gpu.Device, r gpu.Reading) bool { return *r.PowerLimitWatts == 650 }},
		{[]string{"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit"}, func(_ gpu.Device, r gpu.Reading) bool { return r.PowerLimitWatts == nil }},
		{[]string{"nvmlDeviceGetClockInfo"}, func(_ gpu.Device, r gpu.Reading) bool { return r.CoreClockMHz == nil && r.MemoryClockMHz == nil }},
		{[]string{"nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth"}, func(_ gpu.Device, r gpu.Reading) bool { return r.PCIeGeneration == nil && r.PCIeWidth == nil }},
		{[]string{"nvmlDeviceGetCurrentClocksEventReasons"}, func(_ gpu.Device, r gpu.Reading) bool { return *r.Throttle == gpu.ThrottleIdle }},
		{[]string{"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"}, func(_ gpu.Device, r gpu.Reading) bool { return r.Throttle == nil }},
		{[]string{"nvmlDeviceGetMigMode"}, func(d gpu.Device, _ gpu.Reading) bool { return d.Partitions == nil }},
		{[]string{"nvmlDeviceGetCudaComputeCapability"}, func(d gpu.Device, _ gpu.Reading) bool {
			return d.ComputeCapability == "" && d.MultiprocessorCount == nil
		}},
		{[]string{"nvmlDeviceGetName"}, func(d gpu.Device, _ gpu.Reading) bool { return d.Name == "NVIDIA GPU" }},
		{[]string{"nvmlDeviceGetUUID"}, func(d gpu.Device, _ gpu.Reading) bool { return d.ID == "pci-0000:1a:00.0" }},
		{[]string{"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2"}, func(d gpu.Device, _ gpu.Reading) bool { return d.PCIAddress == "0000:1a:00.0" }},
		{[]string{"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"}, func(d gpu.Device, _ gpu.Reading) bool { return d.PCIAddress == "" }},
		{[]string{"nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlShutdown"}, func(gpu.Device, gpu.Reading) bool { return true }},
		{[]string{"nvmlSystemGetDriverVersion", "nvmlSystemGetNVMLVersion", "nvmlSystemGetCudaDriverVersion"}, func(d gpu.Device, _ gpu.Reading) bool { return d.DriverVersion == "" }},
	} {
		t.Run(strings.Join(c.symbols, "+"), func(t *testing.T) {
			t.Parallel()
			child := start(t, c.symbols...)
			found := child.inventory()
			if len(found.Devices) != 8 || found.Devices[0].Error != "" {
				t.Fatalf("got %d devices, the first with error %q", len(found.Devices), found.Devices[0].Error)
			}
			r := child.read(found.Devices[0].ID)
			if !c.gone(found.Devices[0], r) || (r.PowerWatts == nil && r.UtilizationPercent == nil) {
				t.Errorf("got device %+v, reading %+v", found.Devices[0], r)
			}
		})
	}
}

func TestNotNVMLAtAll(t *testing.T) {
	t.Parallel()
	c := start(t, "nvmlInit", "nvmlInit_v2")
	if found := c.inventory(); len(found.Devices) != 0 || len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "--nvml") {
		t.Errorf("got %+v", found)
	}
}

func TestNotSupportedEverywhere(t *testing.T) { // traps 10, 12
	t.Parallel()
	c := start(t)
	c.Set("unsupported=1")
	d := c.inventory().Devices[2]
	if d.ID != uuid(2) || d.MultiprocessorCount != nil || d.MemoryBytes != nil || d.Unified || d.Error != "" {
		t.Errorf("got %+v", d)
	}
	if state := c.state(d.ID); state != gpu.StateUnsupported {
		t.Errorf("got state %q", state)
	}
}

func TestNonsenseValues(t *testing.T) { // trap 13
	t.Parallel()
	c := start(t)
	c.Set("util=4294967295", "memutil=101", "temperature=4294967295", "power=4294967295", "limit=4294967295", "clock=4294967295",
		"memclock=4294967295", "fan=4294967295", "fanrpm=4294967295", "encoder=4294967295", "decoder=101", "pstate=33", "memtemp=4294967295", "generation=4294967295", "width=0", "cores=16897", "used=18446744073709551615",
		"reserved=0", "reasons=18446744073709551615")
	d := c.inventory().Devices[0]
	if d.MultiprocessorCount != nil || d.MemoryBytes != nil {
		t.Errorf("got %+v", d)
	}
	if diff := cmp.Diff(gpu.Reading{}, c.read(d.ID)); diff != "" {
		t.Errorf("reading (-want +got):\n%s", diff)
	}
	c.Set("fan=120", "reasons=236", "util=100")
	if r := c.read(d.ID); *r.FanPercent != 100 || *r.Throttle != gpu.ThrottlePower|gpu.ThrottleHardware|gpu.ThrottleThermal {
		t.Errorf("got fan %v, throttle %v", *r.FanPercent, r.Throttle.Reasons())
	}
}

func TestParts(t *testing.T) { // traps 10, 11
	t.Parallel()
	root := t.TempDir()
	put(t, root, "proc/meminfo", "MemTotal:       125000000 kB\nMemFree: 1 kB\nMemAvailable:   100000000 kB\n")
	c := startAt(t, fakenvml.Build(t), root)
	c.Set("1.part=1", "2.part=2", "3.part=3", "4.part=4", "4.nvmlDeviceGetMemoryInfo=3", "4.nvmlDeviceGetMemoryInfo_v2=3", "5.part=5",
		"6.nvmlDeviceGetMemoryInfo_v2=3")
	devices := c.inventory().Devices
	for i, want := range []struct {
		capability string
		sm         *int
	}{{"9.0", ptr(132)}, {"8.0", ptr(108)}, {"8.9", ptr(58)}, {"7.5", ptr(40)}, {"12.1", ptr(48)}, {"99.0", nil}} {
		if d := devices[i]; d.ComputeCapability != want.capability || !cmp.Equal(d.MultiprocessorCount, want.sm) {
			t.Errorf("%s: got %s with %v multiprocessors, want %v", d.Name, d.ComputeCapability, d.MultiprocessorCount, want)
		}
	}
	c.read(uuid(4))
	devices = c.inventory().Devices
	if d := devices[4]; !d.Unified || *d.MemoryBytes != 125000000<<10 || d.Sources["memory_bytes"] != "/proc/meminfo" {
		t.Errorf("integrated: got %+v", d)
	}
	if r := c.read(uuid(4)); *r.MemoryTotalBytes != 125000000<<10 || *r.MemoryUsedBytes != 25000000<<10 || r.MemoryReservedBytes != nil {
		t.Errorf("integrated: got %+v", r)
	}
	if r := c.read(uuid(6)); *r.MemoryUsedBytes != 7<<30+614<<20 || r.MemoryReservedBytes != nil {
		t.Errorf("first version only: got %+v", r)
	}
}

func TestMIG(t *testing.T) { // traps 11, 14
	t.Parallel()
	c := start(t)
	c.Set("0.mig=1")
	d := c.inventory().Devices[0]
	var got []string
	for _, p := range d.Partitions {
		got = append(got, fmt.Sprint(p.ID, " ", *p.MultiprocessorCount, " ", *p.MemoryBytes, " ", p.PCIAddress, " ", p.ComputeCapability))
	}
	want := []string{"MIG-00000000-0000-0000-0000-000000000000 60 42760404992 0000:1a:00.0 9.0", "MIG-00000000-0000-0000-0001-000000000000 32 42760404992 0000:1a:00.0 9.0",
		"MIG-00000000-0000-0000-0002-000000000000 16 42760404992 0000:1a:00.0 9.0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r := c.read(d.ID); r.UtilizationPercent != nil || r.PowerWatts == nil {
		t.Errorf("parent: got %+v", r)
	}
}

func TestLostMidSample(t *testing.T) { // trap 5
	t.Parallel()
	c := start(t)
	c.inventory()
	c.Set("1.nvmlDeviceGetPowerUsage=15") // after memory and temperature were read
	if state := c.state(uuid(1)); state != gpu.StateLost {
		t.Errorf("got state %q", state)
	}
	c.Set("1.lost=1", "1.handle=15")
	found := c.inventory()
	if len(found.Devices) != 8 {
		t.Fatalf("got %d devices, want all 8", len(found.Devices))
	}
	d := found.Devices[1]
	if d.Error == "" || c.state(uuid(1)) != gpu.StateLost {
		t.Errorf("got %+v", d)
	}
	d.Error = ""
	if diff := cmp.Diff(h100(1), d, ignoreSources); diff != "" {
		t.Errorf("lost device (-want +got):\n%s", diff)
	}
	c.read(uuid(0))
	c.Set()
	if found := c.inventory(); found.Devices[1].Error != "" {
		t.Errorf("back again: got error %q", found.Devices[1].Error)
	}
	c.read(uuid(1))
}

// Lost before it was ever known: a stand-in from the bus, with the UUID that the kernel module remembers.
func TestLostFromTheStart(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for i := range 8 {
		card(t, root, fmt.Sprintf("0000:%02x:00.0", 0x1a+i), "nvidia")
	}
	put(t, root, "proc/driver/nvidia/gpus/0000:1c:00.0/information", "Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t "+uuid(2)+"\n")
	c := startAt(t, fakenvml.Build(t), root)
	c.Set("2.handle=15", "3.lost=1")
	found := c.inventory()
	if len(found.Devices) != 8 {
		t.Fatalf("got %d devices, want 8", len(found.Devices))
	}
	for i, want := range map[int]string{2: uuid(2), 3: "pci-0000:1d:00.0"} {
		if d := found.Devices[i]; d.ID != want || d.Error == "" || d.PCIAddress != fmt.Sprintf("0000:%02x:00.0", 0x1a+i) || c.state(d.ID) != gpu.StateLost {
			t.Errorf("device %d: got %+v, want ID %s", i, d, want)
		}
	}
}

// One device hangs: the others are listed and read, and a hundred inventories cost no more than the one stuck call.
//
// trap 6
func TestHang(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.inventory()
	before := c.ask("inventory").Goroutines
	c.ask("patience 200ms")
	c.Set("1.hang=1")
	c.ask("hang " + uuid(1))
	for range 10 {
		found := c.inventory()
		if len(found.Devices) != 8 || found.Devices[1].ID != uuid(1) || found.Devices[1].Error != "" {
			t.Fatalf("got %d devices, the stuck one %+v", len(found.Devices), found.Devices[1])
		}
		c.read(uuid(0))
		c.read(uuid(7))
	}
	if a := c.ask("glance " + uuid(1)); a.State != gpu.StateStuck {
		t.Errorf("who asks while a call hangs: got %+v", a)
	}
	if after := c.ask("inventory"); after.Goroutines > before+2 || after.Inside != 1 {
		t.Errorf("got %d goroutines, %d before, %d calls inside", after.Goroutines, before, after.Inside)
	}
	c.Set()
	c.ask("settle")
	if found := c.inventory(); found.Devices[1].Error != "" {
		t.Errorf("the stuck call has returned: got error %q", found.Devices[1].Error)
	}
	c.read(uuid(1))
}

// A device that hangs from the start is listed, and stuck.
func TestHangFromTheStart(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ask("patience 5s") // healthy devices answer within it on a busy machine too
	c.Set("1.hang=1")
	found := c.inventory()
	if len(found.Devices) != 8 || found.Devices[1].ID != "nvml-1" || found.Devices[1].Error == "" {
		t.Fatalf("got %+v", found.Devices)
	}
	if state := c.state("nvml-1"); state != gpu.StateStuck {
		t.Errorf("got state %q", state)
	}
	c.read(uuid(0))
}

func TestVersionMismatch(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	card(t, root, "0000:1a:00.0", "nvidia")
	c := startAt(t, fakenvml.Build(t), root)
	c.Set("devices=1")
	c.inventory()
	c.Set("devices=1", "nvmlDeviceGetCount_v2=1", "init=18") // reloaded, with another version
	found := c.inventory()
	if len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "reboot") {
		t.Errorf("got problems %q", found.Problems)
	}
	want := h100(0) // it keeps its identity
	want.Error = found.Problems[0]
	if diff := cmp.Diff([]gpu.Device{want}, found.Devices, ignoreSources); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if state := c.state(uuid(0)); state != gpu.StateDriverMismatch {
		t.Errorf("got state %q", state)
	}
}

// The driver is unloaded and loaded again: Read says so, the next Inventory connects anew.
func TestReconnect(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.inventory()
	c.Set("gone=1", "init=9")
	if state := c.state(uuid(3)); state != gpu.StateNoDriver {
		t.Errorf("got state %q", state)
	}
	if found := c.inventory(); len(found.Devices) != 0 || len(found.Problems) != 0 {
		t.Errorf("unloaded, nothing on the bus: got %+v", found)
	}
	c.Set()
	if found := c.inventory(); len(found.Devices) != 8 {
		t.Fatalf("loaded again: got %d devices", len(found.Devices))
	}
	c.read(uuid(3))
}

// Nothing is closed under a call that hangs: the reconnection waits for it.
func TestReconnectWaitsForHang(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.inventory()
	c.Set("1.hang=1")
	c.ask("hang " + uuid(1))
	c.Set("1.hang=1", "gone=1")
	c.state(uuid(3))
	if found := c.inventory(); len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "has not returned") {
		t.Errorf("got problems %q", found.Problems)
	}
	c.Set()
	c.ask("settle")
	if found := c.inventory(); len(found.Devices) != 8 || found.Devices[3].Error != "" {
		t.Fatalf("the stuck call has returned: got %+v", found)
	}
	c.read(uuid(1))
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("2.handle=4")
	if found := c.inventory(); len(found.Devices) != 8 || !strings.Contains(found.Devices[2].Error, "permission") {
		t.Fatalf("got %+v", found.Devices)
	}
	if state := c.state("nvml-2"); state != gpu.StateNoPermission {
		t.Errorf("got state %q", state)
	}
}

func TestNoLibrary(t *testing.T) { // trap 3
	t.Parallel()
	root := t.TempDir()
	c := startAt(t, filepath.Join(root, "none.so"), root)
	if found := c.inventory(); len(found.Devices)+len(found.Problems)+len(found.Adapters) != 0 {
		t.Errorf("no hardware: got %+v", found)
	}
	c.state("anything")
	card(t, root, "0000:41:00.0", "")
	card(t, root, "0000:42:00.0", "vfio-pci")
	card(t, root, "0000:43:00.0", "nouveau")
	put(t, root, "sys/bus/pci/devices/0000:41:00.1/uevent", "PCI_CLASS=40300\nPCI_ID=10DE:22BA\n")
	put(t, root, "sys/bus/pci/devices/0000:03:00.0/uevent", "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\n")
	found := c.inventory()
	if len(found.Devices) != 1 || found.Devices[0].ID != "pci-0000:41:00.0" || !strings.Contains(found.Devices[0].Error, "install the NVIDIA driver") {
		t.Errorf("got devices %+v", found.Devices)
	}
	if len(found.Adapters) != 0 || len(found.Problems) != 1 {
		t.Errorf("got adapters %+v, problems %q", found.Adapters, found.Problems)
	}
	if state := c.state("pci-0000:41:00.0"); state != gpu.StateNoDriver {
		t.Errorf("got state %q", state)
	}
}

func TestSuspended(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	card(t, root, "0000:1a:00.0", "nvidia")
	card(t, root, "0000:1b:00.0", "nvidia")
	put(t, root, "sys/bus/pci/devices/0000:1b:00.0/power/runtime_status", "active\n")
	c := startAt(t, fakenvml.Build(t), root)
	c.Set("devices=2")
	c.inventory()
	put(t, root, "sys/bus/pci/devices/0000:1b:00.0/power/runtime_status", "suspended\n")
	c.Set("devices=2", "1.hang=1") // any call would be seen
	if state := c.state(uuid(1)); state != gpu.StateSuspended {
		t.Errorf("got state %q", state)
	}
	if a := c.ask("details " + uuid(1)); a.State != gpu.StateSuspended {
		t.Errorf("details: got %+v", a)
	}
	c.read(uuid(0))
	want := h100(1)
	if diff := cmp.Diff(want, c.inventory().Devices[1], ignoreSources); diff != "" {
		t.Errorf("asleep (-want +got):\n%s", diff)
	}
}

func card(t *testing.T, root, address, driver string) {
	t.Helper()
	text := "PCI_CLASS=30200\nPCI_ID=10DE:2330\nPCI_SLOT_NAME=" + address + "\n"
	if driver != "" {
		text = "DRIVER=" + driver + "\n" + text
	}
	put(t, root, "sys/bus/pci/devices/"+address+"/uevent", text)
}

func put(t *testing.T, root, path, text string) {
	t.Helper()
	write(t, filepath.Join(root, path), text)
}
