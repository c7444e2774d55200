package amdsmi

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry"
	"muster/agent/telemetry/amdsmi/fakeamdsmi"
	"muster/shared/gpu"
)

var (
	_ telemetry.DetailReader = (*Reader)(nil)
	_ telemetry.Examiner     = (*Reader)(nil)
)

type finding = telemetry.Finding

// Each symbol taken out alone: the process lives, the device stays, its other values too (the trap 1 of this library).
func TestMissingSymbols(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		symbols []string
		gone    func(gpu.Device, gpu.Reading, gpu.Details) bool // the value is absent
	}{
		{[]string{fnEnumeration}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool { return d.VendorIndex == nil && d.ID == id(0) }}, // trap 39
		{[]string{fnAsic}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool { return d.Name == "" && d.ID == id(0) }},
		{[]string{fnAsic, fnEnumeration}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool { return d.ID == "pci-0000:03:00.0" }},
		{[]string{fnDriver}, func(d gpu.Device, _ gpu.Reading, _ gpu.Details) bool { return d.DriverVersion == "" }},
		{[]string{fnMemory}, func(d gpu.Device, r gpu.Reading, _ gpu.Details) bool {
			return d.MemoryBytes == nil && r.MemoryUsedBytes == nil && r.MemoryTotalBytes == nil
		}},
		{[]string{fnActivity}, func(_ gpu.Device, r gpu.Reading, _ gpu.Details) bool { return r.UtilizationPercent == nil }},
		{[]string{fnTemperature}, func(d gpu.Device, r gpu.Reading, _ gpu.Details) bool {
			return r.Temperatures == nil && d.Limits.SlowdownCelsius == nil
		}},
		{[]string{fnPower}, func(_ gpu.Device, r gpu.Reading, _ gpu.Details) bool {
			return r.PowerWatts == nil && r.PowerLimitWatts != nil
		}},
		{[]string{fnPowerCap}, func(d gpu.Device, r gpu.Reading, _ gpu.Details) bool {
			return r.PowerLimitWatts == nil && d.Limits.PowerMaxWatts == nil && r.PowerWatts != nil
		}},
		{[]string{fnClock}, func(_ gpu.Device, r gpu.Reading, _ gpu.Details) bool {
			return r.CoreClockMHz == nil && r.MemoryClockMHz == nil
		}},
		{[]string{fnFanRPM, fnFanSpeed}, func(_ gpu.Device, r gpu.Reading, _ gpu.Details) bool { return r.FanRPM == nil && r.FanPercent == nil }},
		{[]string{fnFanSpeedMax}, func(_ gpu.Device, r gpu.Reading, _ gpu.Details) bool { return *r.FanRPM == 900 && r.FanPercent == nil }},
		{[]string{fnPCIe}, func(_ gpu.Device, r gpu.Reading, d gpu.Details) bool {
			return r.PCIeWidth == nil && d.PCIeReplays == nil
		}},
		{[]string{fnProcesses}, func(_ gpu.Device, _ gpu.Reading, d gpu.Details) bool { return d.Processes == nil }},
		{[]string{fnEnergy}, func(_ gpu.Device, _ gpu.Reading, d gpu.Details) bool { return d.EnergyJoules == nil }},
		{[]string{fnECC}, func(_ gpu.Device, _ gpu.Reading, d gpu.Details) bool { return d.ECC.CorrectedVolatile == nil }},
		{[]string{fnECCEnabled}, func(_ gpu.Device, _ gpu.Reading, d gpu.Details) bool { return d.ECC == nil }},
		{[]string{"amdsmi_get_processor_type", "amdsmi_shut_down"}, func(gpu.Device, gpu.Reading, gpu.Details) bool { return true }},
	} {
		t.Run(strings.Join(c.symbols, "+"), func(t *testing.T) {
			t.Parallel()
			child := start(t, c.symbols...)
			child.Set("rpm=900", "fan=51", "fanmax=255")
			d := child.four()[0]
			r, details := child.read(d.ID), child.details(d.ID)
			if !c.gone(d, r, details) || (r.PowerWatts == nil && r.UtilizationPercent == nil) {
				t.Errorf("got device %+v, reading %+v, details %+v", d, r, details)
			}
			for _, symbol := range c.symbols {
				if !slices.ContainsFunc(child.ask("examine").Findings, func(f finding) bool { return f.Subject == symbol && f.Costs != "" }) {
					t.Errorf("nobody is told that %s is missing", symbol)
				}
				if slices.Contains(slicesOf(d.Sources), symbol) {
					t.Errorf("%s is named as a source", symbol)
				}
			}
		})
	}
}

func slicesOf(m map[string]string) (values []string) {
	for _, v := range m {
		values = append(values, v)
	}
	return values
}

func TestNotAMDSMIAtAll(t *testing.T) {
	t.Parallel()
	c := start(t, "amdsmi_init")
	if found := c.inventory(); len(found.Devices) != 0 || len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "lacks amdsmi_init") {
		t.Errorf("got %+v", found)
	}
	broken := startAt(t, filepath.Join(c.root, "sys"), c.machine)
	if found := broken.inventory(); len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "--amdsmi") {
		t.Errorf("got %+v", found)
	}
}

// Without a library, or without a card, there is nothing to complain about (the trap 3 of this library).
func TestNoLibrary(t *testing.T) {
	t.Parallel()
	c := startAt(t, "", fourCards(t))
	if found := c.inventory(); len(found.Devices)+len(found.Problems) > 0 {
		t.Errorf("got %+v", found)
	}
	findings := c.ask("examine").Findings
	if len(findings) != 1 || findings[0].Level != telemetry.LevelNote || !strings.Contains(findings[0].Mend, "amd-smi-lib") {
		t.Errorf("got %+v", findings)
	}
	empty := startAt(t, "", machine{t, t.TempDir()})
	if found := empty.inventory(); len(found.Devices)+len(found.Problems) > 0 {
		t.Errorf("got %+v", found)
	}
	if findings := empty.ask("examine").Findings; len(findings) > 0 {
		t.Errorf("got %+v", findings)
	}
}

func TestProcessListThatGrows(t *testing.T) { // trap 40
	t.Parallel()
	for _, c := range []struct {
		scenario string
		want     int
	}{
		{"processes=0", 0}, {"processes=32", 32}, {"processes=33", 33}, {"processes=1000", 1000}, {"growing=1", 200},
		{"processes=9000", -1}, // more than anybody has: refused, after a bounded number of tries
	} {
		for _, version := range []string{"23.2", "24.7", "26.2"} { // the first doesn't say how many there are
			child := start(t)
			child.Set(c.scenario, "version="+version)
			got := child.details(child.four()[1].ID)
			if c.want < 0 {
				if got.Processes != nil || got.Absent["processes"] != gpu.AbsentFailed {
					t.Errorf("%s of %s: got %d processes, absent %v", c.scenario, version, len(got.Processes), got.Absent)
				}
				continue
			}
			if got.Processes == nil || len(got.Processes) != c.want {
				t.Errorf("%s of %s: got %d processes, want %d", c.scenario, version, len(got.Processes), c.want)
			}
			for i, p := range got.Processes {
				if p.PID != 2000+i {
					t.Errorf("%s of %s: process %d has the number %d", c.scenario, version, i, p.PID)
				}
			}
			if left := child.leftOut(); len(left) > 0 {
				t.Errorf("%s of %s: left out %v", c.scenario, version, left)
			}
		}
	}
}

func TestErrorCodes(t *testing.T) { // trap 40
	t.Parallel()
	c := start(t)
	d := c.four()[2]
	for _, e := range []struct {
		code  uint32
		state gpu.State
		why   gpu.Absence
		text  string
	}{
		{0xffffffff, "", gpu.AbsentFailed, "unknown error"},
		{0xfffffffe, "", gpu.AbsentFailed, "no name"},
		{2, gpu.StateUnsupported, gpu.AbsentUnsupported, "nothing that muster can read"},
		{8, "", gpu.AbsentTimedOut, "timed out"},
		{10, gpu.StateNoPermission, gpu.AbsentNoPermission, "render"},
		{30, "", gpu.AbsentAsleep, "busy"},
		{77, "", gpu.AbsentFailed, "AMD SMI error 77"},
	} {
		var all []string
		for _, function := range []string{fnMemory, fnActivity, fnTemperature, fnPower, fnPowerCap, fnClock, fnFanRPM, fnPCIe} {
			all = append(all, fmt.Sprintf("2.%s=%d", function, e.code))
		}
		c.Set(all...)
		if a := c.ask("read " + d.ID); a.State != e.state || !strings.Contains(a.Err, e.text) {
			t.Errorf("code %#x: got state %q, error %q", e.code, a.State, a.Err)
		}
		absent := c.details(d.ID).Absent
		for _, field := range []string{"power_watts", "temperatures", "pcie_replays", "utilization_percent"} {
			if absent[field] != e.why {
				t.Errorf("code %#x: %s is absent for %q, want %q", e.code, field, absent[field], e.why)
			}
		}
		c.Set(all[3:]...)
		if r := c.read(d.ID); r.UtilizationPercent == nil || r.PowerWatts != nil {
			t.Errorf("code %#x of some: got %+v", e.code, r)
		}
		c.read(id(3))
	}
}

func TestNonsenseValues(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("util=4294967295", "memutil=101", "edge=99999", "hotspot=-61", "memtemp=-1", "power=3000", "average=4294967295", "socket=18446744073709551615",
		"cap=0", "clock=4294967295", "memclock=20001", "maxclock=0", "rpm=4294967295", "fan=256", "fanmax=255", "width=0", "speed=7", "replays=18446744073709551615",
		"total=0", "cu=4294967295", "gfx=18446744073709551615", "energy=18446744073709551615", "corrected=18446744073709551615", "hip=4294967295",
		"hipuuid=GPU-XX", "serial=N/A", "market=0x6860", "critical=0")
	got := c.four()[0]
	want := gpu.Device{ID: "pci-0000:03:00.0", Vendor: gpu.AMD, PCIAddress: "0000:03:00.0", DriverVersion: "6.8.5",
		Limits: &gpu.Limits{PowerMaxWatts: ptr(264.), PowerDefaultWatts: ptr(220.), MemoryClockMHz: ptr(945.), SlowdownCelsius: ptr(1.), ShutdownCelsius: ptr(6.), MemoryCelsius: ptr(2.)}}
	if diff := cmp.Diff(want, got, ignoreSources); diff != "" {
		t.Errorf("device (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(gpu.Reading{}, c.read(got.ID)); diff != "" {
		t.Errorf("reading (-want +got):\n%s", diff)
	}
	details := c.details(got.ID)
	if details.EnergyJoules != nil || details.PCIeReplays != nil || details.ECC.CorrectedVolatile != nil || *details.ECC.UncorrectedVolatile != 0 {
		t.Errorf("got %+v", details)
	}
	if left := c.leftOut(); len(left) > 0 {
		t.Errorf("left out: %v", left)
	}
}

func TestCountsOfPartsThatDoNotCountAreLeftOut(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("eccblocks=0", "corrected=0")
	got := c.details(c.four()[0].ID).ECC
	if diff := cmp.Diff(&gpu.ECC{Enabled: ptr(false)}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFan(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("rpm=1944", "fan=51", "fanmax=255")
	if r := c.read(c.four()[0].ID); *r.FanRPM != 1944 || *r.FanPercent != 20 {
		t.Errorf("got %v, %v", *r.FanRPM, *r.FanPercent)
	}
	c.Set()
	if r := c.read(c.four()[0].ID); r.FanRPM != nil || r.FanPercent != nil {
		t.Errorf("passive card: got %+v", r)
	}
}

func TestMI300TellsThePowerOfNow(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"24.6", "25.0", "26.2"} {
		c := start(t)
		c.Set("version="+version, "power=612", "average=65535")
		if r := c.read(c.four()[0].ID); *r.PowerWatts != 612 {
			t.Errorf("%s: got %v", version, *r.PowerWatts)
		}
	}
}

func TestPartitionsAreOneCard(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("1.parts=8", "1.cu=38", "1.gfx=0x942", "3.gfx=0x1100", "3.cu=96")
	devices := c.four()
	d := devices[1]
	if d.PCIAddress != "0000:13:00.0" || *d.MultiprocessorCount != 304 || d.MemoryBytes != nil || d.Arch != "gfx942" {
		t.Errorf("got %+v", d)
	}
	if r := c.read(d.ID); *r.PowerWatts != 71 || r.MemoryUsedBytes != nil || r.MemoryTotalBytes != nil {
		t.Errorf("got %+v", r)
	}
	if d := devices[3]; *d.MultiprocessorCount != 48 || d.ComputeCapability != "11.0" { // as PyTorch counts on RDNA
		t.Errorf("got %+v", d)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("0.serial=0x2150e7d042a1124", "1.serial=", "1.hipuuid=GPU-00000000000000AB", "2.serial=0xD1F1", "3.serial=d1f1")
	var got []string
	for _, d := range c.four() {
		got = append(got, d.ID)
	}
	want := []string{"GPU-02150e7d042a1124", "GPU-00000000000000ab", "GPU-000000000000d1f1", "pci-0000:33:00.0"} // two claim one id
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Set("3.type=2", "1.bdf=281474976710656")
	if found := c.inventory(); len(found.Devices) != 2 {
		t.Errorf("a processor that is no GPU and an address that can't be: got %d devices", len(found.Devices))
	}
}

func TestInitFails(t *testing.T) {
	t.Parallel()
	for code, mend := range map[int]string{34: "modprobe amdgpu", 10: "usermod -aG render,video $USER", 18: "/dev/kfd", 4: "libdrm", -1: "kernel log"} {
		c := start(t)
		c.Set(fmt.Sprintf("amdsmi_init=%d", code))
		found := c.inventory()
		if len(found.Devices) != 0 || len(found.Problems) != 1 || !strings.Contains(found.Problems[0], mend) {
			t.Errorf("code %d: got %+v", code, found)
		}
		if !slices.ContainsFunc(c.ask("examine").Findings, func(f finding) bool {
			return f.Level == telemetry.LevelFault && strings.Contains(f.Mend, mend)
		}) {
			t.Errorf("code %d: nobody is told how to mend it", code)
		}
		c.Set()
		c.four()
	}
}

// A driver that is reloaded, or goes, takes the connection with it: the devices stay listed with the reason.
func TestDriverGoesAndComesBack(t *testing.T) {
	t.Parallel()
	c := start(t)
	before := c.four()
	c.Set(fnMemory+"=34", "amdsmi_init=34")
	if state := c.state(before[0].ID); state != gpu.StateNoDriver {
		t.Errorf("got state %q", state)
	}
	found := c.inventory()
	if len(found.Devices) != 4 || !strings.Contains(found.Devices[0].Error, "modprobe") || found.Devices[0].SerialNumber != before[0].SerialNumber {
		t.Errorf("got %+v", found)
	}
	if state := c.state(before[0].ID); state != gpu.StateNoDriver {
		t.Errorf("got state %q", state)
	}
	c.Set()
	if diff := cmp.Diff(before, c.four()); diff != "" {
		t.Errorf("after it came back (-want +got):\n%s", diff)
	}
	c.read(before[0].ID)
	c.Set("devices=3")
	if found := c.inventory(); len(found.Devices) != 3 {
		t.Errorf("got %d devices, want 3", len(found.Devices))
	}
	if state := c.state(before[3].ID); state != gpu.StateUnsupported {
		t.Errorf("of a device that is not listed: got state %q", state)
	}
}

func TestOneDeviceHangs(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.four()
	c.ask("patience 50ms")
	c.Set("1.hang=1")
	c.ask("hang " + id(1))
	for range 3 {
		found := c.inventory()
		if len(found.Devices) != 4 || len(found.Problems) != 1 {
			t.Errorf("got %d devices, problems %q", len(found.Devices), found.Problems)
		}
		for _, i := range []int{0, 2, 3} {
			if diff := cmp.Diff(plainReading(i), c.read(id(i)), approx); diff != "" {
				t.Errorf("reading %d (-want +got):\n%s", i, diff)
			}
		}
	}
	calls := 0
	for _, call := range c.Calls() {
		if call == "amdsmi_get_gpu_device_bdf" {
			calls++
		}
	}
	if calls != 4+4+3+3 { // the hung one is described once, and not again before that returned
		t.Errorf("got %d descriptions", calls)
	}
	c.Set()
	c.ask("settle")
	c.ask("patience 1m")
	if found := c.inventory(); len(found.Devices) != 4 || len(found.Problems) != 0 {
		t.Errorf("after it went on: got %+v", found)
	}
	c.read(id(1))
}

func TestSlowDevice(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("2.slow=20")
	c.four()
	c.read(id(2))
}

// An abort inside the library ends the process that called it, and nothing that another can't start again.
func TestAbort(t *testing.T) {
	t.Parallel()
	library := fakeamdsmi.Build(t)
	c := startAt(t, library, fourCards(t))
	c.mess = true
	c.four()
	c.Set("1.abort=" + fnActivity)
	c.read(id(0))
	fmt.Fprintln(c.in, "read "+id(1))
	var a answer
	if err := c.out.Decode(&a); err == nil {
		t.Fatalf("got %+v, want a process that died", a)
	}
	startAt(t, library, fourCards(t)).four()
}

func TestLibraryThatPrints(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("chatty=1")
	if r := c.read(c.four()[0].ID); r.PCIeWidth == nil {
		t.Errorf("got %+v", r)
	}
}

func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.four()
	c.ask("storm " + strings.Join([]string{id(0), id(1), id(2), id(3)}, " "))
	c.four()
	c.read(id(3))
}

func TestExamine(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.put("sys/bus/pci/devices/0000:03:00.0/drm/renderD128/dev", "226:128")
	c.four()
	c.put("dev/dri/by-path", "")
	refused := filepath.Join(c.root, "dev/dri/renderD128")
	if err := os.Symlink(refused, refused); err != nil { // nobody may open a loop, not even root
		t.Fatal(err)
	}
	var texts []string
	for _, f := range c.ask("examine").Findings {
		texts = append(texts, string(f.Level)+" "+f.Subject+" "+f.Text+" | "+f.Mend)
	}
	if len(texts) != 2 || !strings.Contains(texts[0], "version 26.2, read as ROCm 7.0 to 7.2") ||
		!strings.Contains(texts[1], "/dev/dri/renderD128") || !strings.Contains(texts[1], "usermod -aG render,video $USER") {
		t.Errorf("got %q", texts)
	}
	untouched := New(Config{Root: c.root}).Examine(t.Context())
	if len(untouched) != 2 || untouched[0].Text != "libamd_smi.so was not found" {
		t.Errorf("of a reader that was never asked: got %+v", untouched)
	}
	c.put("opt/rocm/lib/libamd_smi.so.26", "")
	if untouched = New(Config{Root: c.root}).Examine(t.Context()); untouched[0].Level != telemetry.LevelOK || !strings.HasSuffix(untouched[0].Text, "/opt/rocm/lib/libamd_smi.so.26, not loaded") {
		t.Errorf("of a reader that was never asked: got %+v", untouched)
	}
	if err := os.Remove(refused); err != nil {
		t.Fatal(err)
	}
	if findings := c.ask("examine").Findings; len(findings) != 2 || !strings.Contains(findings[1].Text, "are not there") || !strings.Contains(findings[1].Mend, "--device /dev/dri") {
		t.Errorf("without the node: got %+v", findings)
	}
	c.put("dev/dri/renderD128", "")
	if findings := c.ask("examine").Findings; len(findings) != 1 && os.Geteuid() == 0 {
		t.Errorf("got %+v", findings)
	}
}
