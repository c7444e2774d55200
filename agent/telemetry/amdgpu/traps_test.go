package amdgpu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/fixture"
	"muster/agent/telemetry"
	"muster/shared/gpu"
)

func TestConnectorsAndVirtualDisplaysAreSkipped(t *testing.T) { // trap 20
	t.Parallel()
	m := newMachine(t)
	m.plain("0000:1a:00.0", "1")
	m.link("sys/class/drm/card1-DP-1", "../../devices/pci0000:00/0000:1a:00.0/drm/card1")
	m.file("sys/devices/platform/simple-framebuffer.0/uevent", "DRIVER=simple-framebuffer\n")
	m.link("sys/class/drm/card0/device", "../../../devices/platform/simple-framebuffer.0")
	m.file("sys/class/drm/version", "drm 1.1.0 20060810\n")
	_, found := m.inventory()
	if len(found.Devices) != 1 {
		t.Errorf("got %d devices, want the one card", len(found.Devices))
	}
}

func TestUniqueID(t *testing.T) { // trap 22
	t.Parallel()
	const padded, address = "GPU-02150e7d042a1124", "pci-0000:1a:00.0"
	for _, c := range []struct{ name, file, kfd, want string }{
		{"absent", "-", "", address},
		{"empty", "\n", "", address},
		{"zero", "0\n", "0", address},
		{"fifteen digits", "2150e7d042a1124\n", "", padded},
		{"sixteen digits", "c34f1a2b00000002\n", "", "GPU-c34f1a2b00000002"},
		{"decimal in KFD", "-", "150042092690346276", padded},
		{"garbage", "n/a\n", "", address},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain("0000:1a:00.0", "0")
			if c.file != "-" {
				m.file(dir+"/unique_id", c.file)
			}
			if c.kfd != "" {
				m.node("1", "simd_count 256", "simd_per_cu 4", "domain 0", "location_id 6656", "unique_id "+c.kfd)
			}
			if device, _ := m.only(); device.ID != c.want {
				t.Errorf("got %s, want %s", device.ID, c.want)
			}
		})
	}
}

func TestEqualUniqueIDsStayApart(t *testing.T) { // trap 44
	t.Parallel()
	m := newMachine(t)
	m.file(m.plain("0000:1a:00.0", "0")+"/unique_id", "77\n")
	m.file(m.plain("0000:1b:00.0", "1")+"/unique_id", "77\n")
	_, found := m.inventory()
	if got := []string{found.Devices[0].ID, found.Devices[1].ID}; !cmp.Equal(got, []string{"GPU-0000000000000077", "pci-0000:1b:00.0"}) {
		t.Errorf("got %v", got)
	}
}

// While a card resets it answers EPERM: that must not rename it.
func TestResetKeepsID(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file(m.plain("0000:1a:00.0", "0")+"/unique_id", "77\n")
	r, _ := m.inventory()
	watch(r, func(path string) error {
		if strings.HasSuffix(path, "/unique_id") {
			return syscall.EPERM
		}
		return nil
	})
	if found := inventory(t, r); found.Devices[0].ID != "GPU-0000000000000077" {
		t.Errorf("got %s", found.Devices[0].ID)
	}
}

func TestClocksFromTables(t *testing.T) { // trap 26
	t.Parallel()
	for _, c := range []struct {
		name, table string
		want        *float64
	}{
		{"starred", "0: 852Mhz \n1: 991Mhz *\n", ptr(991.)},
		{"deep sleep first", "S: 19Mhz *\n0: 500Mhz \n1: 2400Mhz \n", ptr(19.)},
		{"deep sleep without star", "S: 500Mhz \n0: 600Mhz \n1: 2400Mhz *\n", ptr(2400.)},
		{"no star", "0: 400Mhz \n1: 800Mhz \n", nil},
		{"a level twice", "0: 800Mhz *\n1: 800Mhz *\n2: 900Mhz \n", ptr(800.)},
		{"stars that differ", "0: 800Mhz *\n1: 900Mhz *\n", nil},
		{"empty", "\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain("0000:1a:00.0", "0")
			m.remove(dir + "/hwmon/hwmon4/freq1_input")
			m.file(dir+"/pp_dpm_sclk", c.table)
			if _, reading := m.only(); !cmp.Equal(reading.CoreClockMHz, c.want) {
				t.Errorf("got %s", cmp.Diff(c.want, reading.CoreClockMHz))
			}
		})
	}
}

func TestPower(t *testing.T) { // trap 27
	t.Parallel()
	for _, c := range []struct {
		name        string
		files       map[string]string // "" removes
		draw, limit *float64
	}{
		{"average", nil, ptr(8.), ptr(220.)},
		{"average and input", map[string]string{"power1_input": "9000000\n"}, ptr(8.), ptr(220.)},
		{"input only", map[string]string{"power1_average": "", "power1_input": "9000000\n"}, ptr(9.), ptr(220.)},
		{"none, and no cap", map[string]string{"power1_average": "", "power1_cap": ""}, nil, nil},
		{"no limit", map[string]string{"power1_cap": "0\n"}, ptr(8.), nil},
		{"nonsense", map[string]string{"power1_average": "4294967295000000\n"}, nil, ptr(220.)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			hwmon := m.plain("0000:1a:00.0", "0") + "/hwmon/hwmon4/"
			for name, content := range c.files {
				if m.remove(hwmon + name); content != "" {
					m.file(hwmon+name, content)
				}
			}
			_, reading := m.only()
			if !cmp.Equal(reading.PowerWatts, c.draw) || !cmp.Equal(reading.PowerLimitWatts, c.limit) {
				t.Errorf("got %s%s", cmp.Diff(c.draw, reading.PowerWatts), cmp.Diff(c.limit, reading.PowerLimitWatts))
			}
		})
	}
}

func TestTemperaturesGoByLabel(t *testing.T) { // trap 28
	t.Parallel()
	m := newMachine(t)
	hwmon := m.plain("0000:1a:00.0", "0") + "/hwmon/hwmon4/"
	m.file(hwmon+"temp1_label", "mem\n") // MI300: no edge, and its memory first
	m.remove(hwmon + "temp3_label")
	_, reading := m.only()
	want := []gpu.Temperature{{Sensor: gpu.SensorJunction, Celsius: 41}, {Sensor: gpu.SensorMemory, Celsius: 38}}
	if diff := cmp.Diff(want, reading.Temperatures); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUtilisation(t *testing.T) { // trap 30
	t.Parallel()
	for _, c := range []struct {
		name    string
		content string
		err     error
		metrics bool
		want    *float64
	}{
		{"reported", "100\n", nil, true, ptr(100.)}, // stuck or not: it is what the driver says
		{"missing", "", nil, false, nil},
		{"busy", "1\n", syscall.EBUSY, false, nil},
		{"invalid", "1\n", syscall.EINVAL, false, nil},
		{"refused by the firmware", "1\n", syscall.EINVAL, true, ptr(64.)},
		{"beyond 100", "101\n", nil, false, nil},
		{"negative", "-1\n", nil, false, nil},
		{"empty", "", nil, true, ptr(64.)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain("0000:1a:00.0", "0")
			if m.remove(dir + "/gpu_busy_percent"); c.content != "" {
				m.file(dir+"/gpu_busy_percent", c.content)
			}
			if c.metrics {
				m.file(dir+"/gpu_metrics", string(blob(1, 3, 120, map[int]uint16{16: 64})))
			}
			_, found := m.inventory()
			r := New(m.root)
			watch(r, func(path string) error {
				if c.err != nil && strings.HasSuffix(path, "gpu_busy_percent") {
					return &os.PathError{Op: "read", Path: path, Err: c.err}
				}
				return nil
			})
			inventory(t, r)
			if reading := read(t, r, found.Devices[0].ID); !cmp.Equal(reading.UtilizationPercent, c.want) {
				t.Errorf("got %s", cmp.Diff(c.want, reading.UtilizationPercent))
			}
		})
	}
}

// What gpu_metrics had to fill in is named as its source from the next inventory on.
func TestSourceOfWhatMetricsFilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.plain("0000:1a:00.0", "0")
	m.remove(dir + "/gpu_busy_percent")
	m.file(dir+"/gpu_metrics", string(blob(1, 3, 120, map[int]uint16{16: 64})))
	r, found := m.inventory()
	read(t, r, found.Devices[0].ID)
	if got := inventory(t, r).Devices[0].Sources["utilization_percent"]; got != "gpu_metrics" {
		t.Errorf("got %q, want gpu_metrics", got)
	}
}

func TestSuspended(t *testing.T) { // trap 31
	t.Parallel()
	for _, c := range []struct {
		status string // "" for no such file
		want   error
	}{
		{"suspended", telemetry.ErrSuspended}, {"suspending", telemetry.ErrSuspended}, {"resuming", telemetry.ErrSuspended},
		{"active", nil}, {"unsupported", nil}, {"error", nil}, {"", nil},
	} {
		t.Run("status "+c.status, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain("0000:1a:00.0", "0")
			m.file(dir+"/gpu_metrics", "")
			m.file(dir+"/unique_id", "77\n")
			if m.remove(dir + "/power/runtime_status"); c.status != "" {
				m.file(dir+"/power/runtime_status", c.status+"\n")
			}
			r := New(m.root)
			f := watch(r, nil)
			device := inventory(t, r).Devices[0]
			if device.ID != "GPU-0000000000000077" || *device.MemoryBytes != 17163091968 || device.ComputeCapability != "9.0" {
				t.Errorf("static facts: got %+v", device)
			}
			if c.want == nil {
				read(t, r, device.ID)
				return
			}
			reading := readError(t, r, device.ID, c.want)
			want := gpu.Reading{MemoryTotalBytes: ptr[uint64](17163091968), SharedMemoryTotalBytes: ptr[uint64](8342863872)}
			if diff := cmp.Diff(want, reading); diff != "" {
				t.Errorf("reading (-want +got):\n%s", diff)
			}
			if woke := f.matching("hwmon", "gpu_metrics", "gpu_busy", "pp_", "_used", "mem_busy"); woke != nil {
				t.Errorf("opened %v of a suspended card", woke)
			}
			m.file(dir+"/power/runtime_status", "active\n")
			if reading := read(t, r, device.ID); len(reading.Temperatures) != 3 {
				t.Errorf("awake again: got %+v", reading)
			}
		})
	}
}

// A sleeping card keeps the sources it had while awake: going to sleep is no change of the inventory.
func TestSleepKeepsSources(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.plain("0000:1a:00.0", "0")
	r, awake := m.inventory()
	m.file(dir+"/power/runtime_status", "suspended\n")
	if diff := cmp.Diff(awake, inventory(t, r)); diff != "" {
		t.Errorf("(-awake +asleep):\n%s", diff)
	}
}

func TestWhyNothingCanBeRead(t *testing.T) { // traps 31, 34, 38
	t.Parallel()
	for _, c := range []struct {
		err  syscall.Errno
		want error
	}{
		{syscall.EPERM, telemetry.ErrSuspended}, // asleep since Linux 6.15, or in reset
		{syscall.EACCES, telemetry.ErrNoPermission},
		{syscall.ENODEV, telemetry.ErrLost},
		{syscall.EIO, telemetry.ErrUnsupported},
		{syscall.ENOENT, telemetry.ErrUnsupported},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.plain("0000:1a:00.0", "0")
			r := New(m.root)
			inventory(t, r)
			watch(r, func(path string) error {
				if strings.Contains(path, "runtime_status") || strings.HasSuffix(path, "/uevent") || strings.Contains(path, "mem_info_vram_total") {
					return nil
				}
				return &os.PathError{Op: "read", Path: path, Err: c.err}
			})
			inventory(t, r)
			readError(t, r, "pci-0000:1a:00.0", c.want)
		})
	}
}

func TestUnplugged(t *testing.T) { // trap 38
	t.Parallel()
	m := newMachine(t)
	dir := m.plain("0000:1a:00.0", "0")
	m.plain("0000:1b:00.0", "1")
	r, _ := m.inventory()
	m.remove(dir)
	m.remove("sys/bus/pci/devices/0000:1a:00.0")
	readError(t, r, "pci-0000:1a:00.0", telemetry.ErrLost)
	read(t, r, "pci-0000:1b:00.0")
	if found := inventory(t, r); len(found.Devices) != 1 {
		t.Errorf("got %d devices after the card was removed", len(found.Devices))
	}
	readError(t, r, "pci-0000:1a:00.0", telemetry.ErrLost)
}

func TestUnifiedMemory(t *testing.T) { // trap 32
	t.Parallel()
	for _, c := range []struct {
		name, device string
		node         []string
		bank         string
		want         bool
	}{
		{"discrete", "6860", []string{"simd_count 256"}, "17163091968", false},
		{"known part", "150E", nil, "", true},
		{"processor and GPU in one node", "6860", []string{"simd_count 32", "cpu_cores_count 8"}, "", true},
		{"KFD counts the shared memory", "6860", []string{"simd_count 32"}, "8342863872", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain("0000:1a:00.0", "0")
			m.file(dir+"/uevent", "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:"+c.device+"\n")
			if c.node != nil {
				m.node("1", append(c.node, "simd_per_cu 4", "location_id 6656", "domain 0")...)
				m.file("sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes "+c.bank+"\n")
			}
			if device, _ := m.only(); device.Unified != c.want || *device.MemoryBytes != 17163091968 {
				t.Errorf("got unified %v, %d bytes; want %v and its own memory", device.Unified, *device.MemoryBytes, c.want)
			}
		})
	}
}

func TestHwmonNumberChanges(t *testing.T) { // trap 33
	t.Parallel()
	m := newMachine(t)
	dir := m.plain("0000:1a:00.0", "0")
	r, _ := m.inventory()
	if err := os.Rename(m.path(dir+"/hwmon/hwmon4"), m.path(dir+"/hwmon/hwmon11")); err != nil {
		t.Fatal(err)
	}
	m.file(dir+"/hwmon/hwmon9/name", "other\n") // a second folder, of another driver
	m.file(dir+"/hwmon/hwmon9/power1_average", "1\n")
	f := watch(r, nil) // of the next inventory; this Reader's cards keep theirs
	reading := read(t, r, "pci-0000:1a:00.0")
	if len(reading.Temperatures) != 3 || *reading.PowerWatts != 8 || *reading.UtilizationPercent != 24 {
		t.Errorf("got %+v", reading)
	}
	inventory(t, r)
	f.forget()
	read(t, r, "pci-0000:1a:00.0")
	if f.matching("hwmon4/") != nil || f.matching("hwmon11/") == nil {
		t.Errorf("still looks in the old folder: %v", f.opened)
	}
}

func TestKFDOfOthers(t *testing.T) { // trap 34
	t.Parallel()
	m := newMachine(t)
	m.plain("0000:1a:00.0", "0")
	m.plain("0000:1b:00.0", "1")
	m.node("0", "cpu_cores_count 8", "simd_count 0", "simd_per_cu 0") // trap 18
	m.node("1", "simd_count 256", "simd_per_cu 4", "domain 0", "location_id 6656")
	m.node("2", "simd_count 256", "simd_per_cu 0", "domain 0", "location_id 6912") // trap 18
	r := New(m.root)
	watch(r, func(path string) error {
		if strings.Contains(path, "nodes/1/") {
			return syscall.EPERM // the container's device group doesn't have this card
		}
		return nil
	})
	found := inventory(t, r)
	if d := found.Devices[0]; d.VendorIndex != nil || d.MultiprocessorCount != nil || d.ComputeCapability != "9.0" {
		t.Errorf("hidden card: got %+v", d)
	}
	if got := found.Devices[0].Absent; got["vendor_index"] != gpu.AbsentNoPermission || got["multi_processor_count"] != gpu.AbsentNoPermission {
		t.Errorf("hidden card: got %v, want to know why", got)
	}
	if d := found.Devices[1]; *d.VendorIndex != 0 || d.MultiprocessorCount != nil {
		t.Errorf("own card: got %+v, want HIP index 0", d)
	}
}

// Why a card's memory is not told, and that KFD may tell it all the same.
func TestMemoryThatCannotBeRead(t *testing.T) { // trap 34
	t.Parallel()
	m := newMachine(t)
	m.plain("0000:1a:00.0", "0")
	m.plain("0000:1b:00.0", "1")
	m.node("1", "simd_count 256", "simd_per_cu 4", "domain 0", "location_id 6656")
	m.file("sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 17163091968\n")
	r := New(m.root)
	watch(r, func(path string) error {
		if strings.HasSuffix(path, "mem_info_vram_total") {
			return &os.PathError{Op: "open", Path: path, Err: syscall.EACCES}
		}
		return nil
	})
	found := inventory(t, r)
	if d := found.Devices[0]; d.MemoryBytes == nil || d.Absent["memory_bytes"] != "" || d.Sources["memory_bytes"] != "KFD mem_banks" {
		t.Errorf("by KFD: got %v, absent %v, sources %v", d.MemoryBytes, d.Absent, d.Sources)
	}
	if d := found.Devices[1]; d.MemoryBytes != nil || d.Absent["memory_bytes"] != gpu.AbsentNoPermission {
		t.Errorf("got %v, absent %v", d.MemoryBytes, d.Absent)
	}
}

func TestNames(t *testing.T) { // trap 35
	t.Parallel()
	const amd = "# comment\n1.0.0\n6860,\t00,\tAMD Radeon Instinct MI25\n6860,\t04,\tAMD Radeon Instinct MI25x2\n"
	const pci = "1001  Other\n\t6860  Not this\n1002  AMD\n\t6860  Vega 10 [Radeon Instinct MI25/MI25x2]\n\t\t1002 0c35  Radeon Instinct MI25 Board\n\t6861  Vega\n1003  Third\n"
	for _, c := range []struct{ name, product, revision, amd, pci, want string }{
		{"product_name", "AMD Instinct MI100\n", "0x00", amd, pci, "AMD Instinct MI100"},
		{"revision", "\n", "0x04", amd, pci, "AMD Radeon Instinct MI25x2"},
		{"unknown revision, board", "", "0x09", amd, pci, "AMD Radeon Instinct MI25 Board"},
		{"chip", "", "0x09", amd, strings.Replace(pci, "0c35", "ffff", 1), "AMD Radeon Instinct MI25/MI25x2"},
		{"number", "", "0x09", amd, "", "AMD GPU 0x6860"},
		{"garbage in product_name", "\x01\x02\n", "0x00", amd, "", "AMD Radeon Instinct MI25"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain("0000:1a:00.0", "0")
			m.file(dir+"/product_name", c.product)
			m.file(dir+"/revision", c.revision+"\n")
			m.file("usr/share/libdrm/amdgpu.ids", c.amd)
			m.file("usr/share/misc/pci.ids", c.pci)
			if device, _ := m.only(); device.Name != c.want {
				t.Errorf("got %q, want %q", device.Name, c.want)
			}
		})
	}
}

// Things in place of a sysfs file that must neither hang nor leak out of the root.
func TestHostileFiles(t *testing.T) { // traps 25, 42
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("77\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(path string) error
		want *float64
	}{
		{"FIFO", func(path string) error { return syscall.Mkfifo(path, 0o644) }, nil},
		{"folder", func(path string) error { return os.Mkdir(path, 0o755) }, nil},
		{"megabyte", func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("1", 1<<20)), 0o644) }, nil},
		{"padded with NUL", func(path string) error {
			return os.WriteFile(path, append([]byte("24\n"), make([]byte, 4093)...), 0o644)
		}, ptr(24.)},
		{"link out of the root", func(path string) error { return os.Symlink(outside, path) }, nil},
		{"text", func(path string) error { return os.WriteFile(path, []byte("N/A\n"), 0o644) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain("0000:1a:00.0", "0")
			m.remove(dir + "/gpu_busy_percent")
			if err := c.make(m.path(dir + "/gpu_busy_percent")); err != nil {
				t.Fatal(err)
			}
			if _, reading := m.only(); !cmp.Equal(reading.UtilizationPercent, c.want) {
				t.Errorf("got %s", cmp.Diff(c.want, reading.UtilizationPercent))
			}
		})
	}
}

func TestFoldersThatLeadOut(t *testing.T) {
	t.Parallel()
	other := newMachine(t)
	other.plain("0000:1a:00.0", "0")
	m := newMachine(t)
	m.link("sys/bus/pci/devices/0000:1a:00.0", other.path("sys/devices/pci0000:00/0000:1a:00.0"))
	dir := m.plain("0000:1b:00.0", "0")
	m.remove(dir + "/hwmon")
	m.link(dir+"/hwmon", other.path("sys/devices/pci0000:00/0000:1a:00.0/hwmon"))
	device, reading := m.only()
	if device.PCIAddress != "0000:1b:00.0" || reading.Temperatures != nil {
		t.Errorf("got %s with temperatures %v, want only what is inside the root", device.PCIAddress, reading.Temperatures)
	}
}

// A second at 1 Hz costs one card few reads, and never opens pcie_bw, which sleeps.
func TestReadsOfOneSecond(t *testing.T) { // trap 43
	t.Parallel()
	m := newMachine(t)
	dir := m.plain("0000:1a:00.0", "0")
	m.file(dir+"/gpu_metrics", string(blob(1, 3, 120, nil)))
	m.file(dir+"/mem_busy_percent", "1\n")
	m.file(dir+"/hwmon/hwmon4/fan1_input", "900\n")
	m.file(dir+"/hwmon/hwmon4/pwm1", "90\n")
	r := New(m.root)
	f := watch(r, nil)
	inventory(t, r)
	read(t, r, "pci-0000:1a:00.0")
	if f.matching("pcie_bw") != nil {
		t.Error("opened pcie_bw")
	}
	f.forget()
	read(t, r, "pci-0000:1a:00.0")
	if len(f.opened) > 16 {
		t.Errorf("%d files opened, want at most 16: %v", len(f.opened), f.opened)
	}
}

func TestLinkPastTheCardsOwnSwitch(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const port, gpuAt = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0", "0000:02:00.0/0000:03:00.0"
	m.link("sys/bus/pci/devices/0000:03:00.0", "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/"+gpuAt)
	bridge := func(dir, device, speed, width string) {
		m.file(dir+"/vendor", "0x1002\n")
		m.file(dir+"/device", device+"\n")
		m.file(dir+"/current_link_speed", speed+" GT/s PCIe\n")
		m.file(dir+"/current_link_width", width+"\n")
	}
	bridge("sys/devices/pci0000:00/0000:00:01.0", "0x1234", "32.0", "16")
	bridge(port, "0x1478", "8.0", "8")
	bridge(port+"/0000:02:00.0", "0x1479", "16.0", "16")
	bridge(port+"/"+gpuAt, "0x744c", "16.0", "16")
	for dir, most := range map[string][2]string{"sys/devices/pci0000:00/0000:00:01.0": {"32.0", "8"}, port: {"16.0", "16"}, port + "/" + gpuAt: {"32.0", "16"}} {
		m.file(dir+"/max_link_speed", most[0]+" GT/s PCIe\n")
		m.file(dir+"/max_link_width", most[1]+"\n")
	}
	m.file(port+"/"+gpuAt+"/uevent", "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:744C\n")
	m.file(port+"/"+gpuAt+"/gpu_busy_percent", "1\n")
	device, reading := m.only()
	if diff := cmp.Diff(&gpu.Limits{PCIeGeneration: ptr(4), PCIeWidth: ptr(8)}, device.Limits); diff != "" {
		t.Errorf("what card and slot can agree on (-want +got):\n%s", diff)
	}
	if reading.PCIeGeneration == nil || *reading.PCIeGeneration != 3 || *reading.PCIeWidth != 8 {
		t.Errorf("got %v x%v, want generation 3 x8, the link of the slot", reading.PCIeGeneration, reading.PCIeWidth)
	}
}

// In a virtual machine the card's own switch is not to be seen: what its files then say of the link is wrong since Vega.
func TestLinkBehindASwitchThatIsHidden(t *testing.T) {
	t.Parallel()
	for id, inside := range map[string]bool{"67DF": false, "687F": true, "7310": true, "73BF": true} {
		m := newMachine(t)
		dir := m.pci("0000:03:00.0", "0")
		m.file(dir+"/uevent", "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:"+id+"\n")
		m.file(dir+"/gpu_busy_percent", "1\n")
		m.file(dir+"/current_link_speed", "16.0 GT/s PCIe\n")
		m.file(dir+"/current_link_width", "16\n")
		_, reading := m.only()
		if hidden := reading.PCIeGeneration == nil && reading.PCIeWidth == nil; hidden != inside {
			t.Errorf("card %s has a switch of its own: %v, and its link is left out: %v", id, inside, hidden)
		}
	}
}

func TestNoMachine(t *testing.T) {
	t.Parallel()
	if found := inventory(t, New(t.TempDir())); len(found.Devices)+len(found.Problems) != 0 {
		t.Errorf("empty root: got %+v", found)
	}
	if _, err := New(filepath.Join(t.TempDir(), "none")).Inventory(context.Background()); err == nil || !strings.Contains(err.Error(), "system root") {
		t.Errorf("missing root: got error %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m := newMachine(t)
	m.plain("0000:1a:00.0", "0")
	if _, err := New(m.root).Inventory(ctx); err == nil {
		t.Error("cancelled inventory: got no error")
	}
}

func TestReadsBesideInventories(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for i := range 4 {
		m.plain(fmt.Sprintf("0000:0%d:00.0", i), fmt.Sprint(i))
	}
	r, found := m.inventory()
	done := make(chan error)
	for _, d := range found.Devices {
		go func() {
			var err error
			for range 50 {
				if _, e := r.Read(context.Background(), d.ID); e != nil {
					err = e
				}
			}
			done <- err
		}()
	}
	for range 20 {
		inventory(t, r)
	}
	for range found.Devices {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The cost of one card of eight, on a machine with some processes.
func BenchmarkRead(b *testing.B) {
	r := New(fixture.Root(b, "amd-mi25x8"))
	id := inventory(b, r).Devices[2].ID
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(context.Background(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDetails(b *testing.B) {
	root := machine{b, fixture.Root(b, "amd-mi25x8")}
	for pid := range 100 {
		root.opens(fmt.Sprint(pid+1), "3", "renderD128", fdinfoText("1", "1", "1", "1"))
		root.file(fmt.Sprintf("sys/class/kfd/kfd/proc/%d/vram_1", pid+1), "1\n")
	}
	r := New(root.root)
	id := inventory(b, r).Devices[2].ID
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Details(context.Background(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInventory(b *testing.B) {
	r := New(fixture.Root(b, "amd-mi25x8"))
	b.ReportAllocs()
	for b.Loop() {
		inventory(b, r)
	}
}
