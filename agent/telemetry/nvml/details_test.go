//go:build cgo

package nvml

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/agent/telemetry/nvml/fakenvml"
	"muster/shared/gpu"
)

func TestDetails(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("0.energy=1234567", "0.replays=9", "0.margin=24", "0.ecc_corrected_volatile=1", "0.ecc_uncorrected_volatile=2", "0.ecc_corrected_aggregate=3",
		"0.ecc_uncorrected_aggregate=4", "0.rows=5,6,1,1", "0.link3=0", "0.links=5")
	c.inventory()
	got := c.details(uuid(0))
	if age := time.Since(got.Time); age < 0 || age > time.Minute || got.Time.Location() != time.UTC {
		t.Errorf("got time %v", got.Time)
	}
	got.Absent = nil
	want := gpu.Details{
		EnergyJoules: ptr(1234.567), PCIeReplays: ptr[uint64](9), ThermalMarginCelsius: ptr(24.),
		ECC:          &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr[uint64](1), UncorrectedVolatile: ptr[uint64](2), CorrectedAggregate: ptr[uint64](3), UncorrectedAggregate: ptr[uint64](4)},
		RemappedRows: &gpu.RemappedRows{Correctable: 5, Uncorrectable: 6, Pending: true, Failed: true},
		Processes:    []gpu.Process{},
	}
	for i := range 5 { // the one that is down doesn't end the list
		link := gpu.Link{Index: i, Kind: "NVLink", Active: i != 3, Version: 4, GigabytesPerSecond: ptr(26.562)}
		if link.Active {
			link.PeerAddress = fmt.Sprintf("0000:%02x:00.0", 0xc0+i%4)
		}
		want.Links = append(want.Links, link)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(gpu.Details{}, "Time")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(c.details(uuid(1)).Links); n != 18 {
		t.Errorf("got %d links, want all 18", n)
	}
	c.Set("0.link3=1", "0.link4=0", "0.links=5")
	if got := c.details(uuid(0)).Links; !got[3].Active || got[4].Active {
		t.Errorf("links that went up and down: got %+v", got)
	}
}

func TestDetailsThatADeviceLacks(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("energy=N/A", "replays=4294967295", "ecc=N/A", "rows=N/A", "links=0", "nvmlDeviceGetComputeRunningProcesses_v3=4",
		"nvmlDeviceGetGraphicsRunningProcesses_v3=4", "nvmlDeviceGetMPSComputeRunningProcesses_v3=4", "events=0", "power=N/A", "nvmlDeviceGetTemperature=999")
	d := c.inventory().Devices[0]
	c.read(d.ID)
	got := c.details(d.ID)
	if why := got.Absent["power_watts"]; why != gpu.AbsentUnsupported {
		t.Errorf("before the next inventory: got %q", why)
	}
	d = c.inventory().Devices[0]
	if got.EnergyJoules != nil || got.PCIeReplays != nil || got.ECC != nil || got.RemappedRows != nil || got.Links != nil || got.Processes != nil {
		t.Errorf("got %+v", got)
	}
	for field, want := range map[string]gpu.Absence{
		"energy_joules": gpu.AbsentUnsupported, "ecc": gpu.AbsentUnsupported, "remapped_rows": gpu.AbsentUnsupported, "links": gpu.AbsentUnsupported,
		"pcie_replays": gpu.AbsentFailed, "processes": gpu.AbsentNoPermission, "faults": gpu.AbsentUnsupported, "power_watts": gpu.AbsentUnsupported,
		"temperatures": gpu.AbsentFailed, "fan_percent": gpu.AbsentUnsupported, "thermal_margin_celsius": gpu.AbsentUnsupported,
	} {
		if why := gpu.WhyAbsent(d, got, gpu.StateOK, field); why != want {
			t.Errorf("%s: got %q, want %q", field, why, want)
		}
		if d.Sources[field] != "" && want == gpu.AbsentUnsupported && field != "faults" {
			t.Errorf("%s is unsupported, and has the source %s", field, d.Sources[field])
		}
	}
	for _, field := range []string{"energy_joules", "ecc", "power_watts"} {
		if d.Absent[field] != gpu.AbsentUnsupported {
			t.Errorf("%s: got %q in the device", field, d.Absent[field])
		}
	}
}

// trap 15
func TestProcesses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := startAt(t, fakenvml.Build(t), root)
	const lists = "0.compute=100:1048576,200:N/A,300:5242880,500:1,600:2,700:3"
	c.Set(lists, "0.graphics=100:2097152,400:1048576", "0.mps=300:1048576")
	c.inventory()
	want := []gpu.Process{
		{PID: 300, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](5242880)}, {PID: 100, Type: gpu.ProcessBoth, MemoryBytes: ptr[uint64](2097152)},
		{PID: 400, Type: gpu.ProcessGraphics, MemoryBytes: ptr[uint64](1048576)}, {PID: 700, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](3)},
		{PID: 600, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](2)}, {PID: 500, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](1)},
		{PID: 200, Type: gpu.ProcessCompute}, // not available: not 2⁶⁴ − 1, and not 0: trap 13
	}
	got := c.details(uuid(0))
	if diff := cmp.Diff(want, got.Processes); diff != "" || got.ProcessesHidden != "" {
		t.Errorf("hidden %q (-want +got):\n%s", got.ProcessesHidden, diff)
	}
	namespace(t, root, "pid:[4026532000]")
	put(t, root, "proc/100/comm", "x\n")
	if got := c.details(uuid(0)).ProcessesHidden; !strings.HasPrefix(got, "6 of these") || !strings.Contains(got, "--pid=host") {
		t.Errorf("in a container: got %q", got)
	}
	if got := c.details(uuid(1)).ProcessesHidden; !strings.Contains(got, "--pid=host") {
		t.Errorf("in a container, none to be seen: got %q", got)
	}
	c.Set("0.compute=100:1", "0.says=1000")
	if got := c.details(uuid(0)); got.Processes != nil || got.Absent["processes"] != gpu.AbsentFailed {
		t.Errorf("a list with more elements than room: got %+v, %v", got.Processes, got.Absent)
	}
	c.Set(lists, "0.nvmlDeviceGetMPSComputeRunningProcesses_v3=3", "0.nvmlDeviceGetGraphicsRunningProcesses_v3=4")
	if got := c.details(uuid(0)).Processes; len(got) != 6 {
		t.Errorf("one list alone: got %+v", got)
	}
}

func namespace(t *testing.T, root, name string) {
	t.Helper()
	link := filepath.Join(root, "proc/self/ns/pid")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
}

// Of older drivers the lists have shorter elements, and of a few longer ones than their version says: those must not be asked.
func TestProcessLayouts(t *testing.T) {
	t.Parallel()
	without := func(suffixes ...string) (symbols []string) {
		for _, suffix := range suffixes {
			for _, kind := range []string{"Compute", "Graphics", "MPSCompute"} {
				symbols = append(symbols, fmt.Sprintf("nvmlDeviceGet%sRunningProcesses%s", kind, suffix))
			}
		}
		return symbols
	}
	for name, c := range map[string]struct {
		without []string
		drift   bool
		want    int
	}{
		"second version": {without("_v3"), true, 2},
		"first version":  {without("_v2", "_v3"), true, 2},
		"none":           {without("", "_v2", "_v3"), true, -1},
		"535.43":         {[]string{"nvmlDeviceGetRunningProcessDetailList"}, true, -1},
		"510":            {[]string{"nvmlDeviceGetRunningProcessDetailList", "nvmlDeviceGetConfComputeMemSizeInfo"}, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := start(t, c.without...)
			lines := []string{"compute=1:1024,2:2048"}
			if c.drift {
				lines = append(lines, "drift=1")
			}
			child.Set(lines...)
			child.inventory()
			got := child.details(uuid(0))
			if c.want < 0 && (got.Processes != nil || len(child.read(uuid(0)).Temperatures) == 0) || c.want >= 0 && len(got.Processes) != c.want {
				t.Errorf("got %+v", got.Processes)
			}
		})
	}
}

// traps 11, 14
func TestMIGDetails(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("0.mig=1", "0.i0.used=11629756416", "0.i0.gi=2", "0.i1.gi=3", "0.i2.gi=9", "0.compute=21180:2407530496:2:0,21181:1:9:0,7:5")
	d := c.inventory().Devices[0]
	c.read(d.ID)
	d = c.inventory().Devices[0]
	if d.PartitionMode != "MIG" || d.Absent["utilization_percent"] != gpu.AbsentUnsupported {
		t.Errorf("got mode %q, absent %v", d.PartitionMode, d.Absent)
	}
	got := c.details(d.ID)
	want := []gpu.PartitionReading{
		{ID: d.Partitions[0].ID, MemoryTotalBytes: ptr[uint64](42760404992), MemoryUsedBytes: ptr[uint64](11629756416)},
		{ID: d.Partitions[1].ID, MemoryTotalBytes: ptr[uint64](42760404992), MemoryUsedBytes: ptr[uint64](17 << 20)},
		{ID: d.Partitions[2].ID, MemoryTotalBytes: ptr[uint64](42760404992), MemoryUsedBytes: ptr[uint64](17 << 20)},
	}
	if diff := cmp.Diff(want, got.Partitions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantProcesses := []gpu.Process{
		{PID: 21180, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](2407530496), Partition: d.Partitions[0].ID},
		{PID: 7, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](5)},
		{PID: 21181, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](1), Partition: d.Partitions[2].ID},
	}
	if diff := cmp.Diff(wantProcesses, got.Processes); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	if got.Links != nil || gpu.WhyAbsent(d, got, gpu.StateOK, "links") != gpu.AbsentUnsupported {
		t.Errorf("links can't be asked for in MIG mode: got %+v", got.Links)
	}
}

func TestPCIeThroughput(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("1.rx=N/A", "2.rx=N/A", "2.tx=N/A")
	c.inventory()
	want := gpu.PCIeThroughput{ReceiveBytesPerSecond: ptr(19191000.), TransmitBytesPerSecond: ptr(9139000.)}
	if diff := cmp.Diff(want, c.ask("throughput "+uuid(0)).Throughput); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := c.ask("throughput " + uuid(1)); got.Err != "" || got.Throughput.ReceiveBytesPerSecond != nil || got.Throughput.TransmitBytesPerSecond == nil {
		t.Errorf("one direction: got %+v", got)
	}
	if got := c.ask("throughput " + uuid(2)); got.State != gpu.StateUnsupported {
		t.Errorf("got %+v", got)
	}
}

func TestFans(t *testing.T) {
	t.Parallel()
	c := start(t, "nvmlDeviceGetFanSpeedRPM")
	c.Set("0.fan=30", "0.fans=3", "0.fan1=55", "0.fan2=40", "1.fan=20", "1.fanrpm=1200", "2.fan=30", "2.nvmlDeviceGetNumFans=3", "3.fan=30", "3.nvmlDeviceGetFanSpeed_v2=3")
	c.inventory()
	for i, want := range []*float64{ptr(55.), ptr(20.), ptr(30.), ptr(30.), nil} { // trap 12: of a passive card there is none
		if r := c.read(uuid(i)); !cmp.Equal(r.FanPercent, want) || r.FanRPM != nil {
			t.Errorf("device %d: got %v %%, %v rpm, want %v", i, r.FanPercent, r.FanRPM, want)
		}
	}
	devices := c.inventory().Devices
	if devices[4].Absent["fan_percent"] != gpu.AbsentUnsupported {
		t.Errorf("got %v", devices[4].Absent)
	}
	with := start(t)
	with.Set("fan=20", "fanrpm=1200")
	with.inventory()
	if r := with.read(uuid(1)); r.FanRPM == nil || *r.FanRPM != 1200 {
		t.Errorf("got %v rpm", r.FanRPM)
	}
}

func TestDecodeField(t *testing.T) {
	t.Parallel()
	raw := func(v uint64) (b [8]byte) { binary.LittleEndian.PutUint64(b[:], v); return b }
	for _, c := range []struct {
		kind uint32
		raw  uint64
		want float64
		s    status
	}{
		{0, math.Float64bits(1.5), 1.5, success}, {0, math.Float64bits(math.NaN()), 0, nonsense}, {1, 0xFFFFFFFF_00000007, 7, success},
		{2, 1 << 40, 1 << 40, success}, {3, 1 << 40, 1 << 40, success}, {4, math.MaxUint64, -1, success}, {5, 0xFFFFFFFE, -2, success},
		{6, 0x10005, 5, success}, {7, 1, 0, nonsense}, {math.MaxUint32, 1, 0, nonsense},
	} {
		if got, s := decodeField(c.kind, raw(c.raw)); got != c.want || s != c.s {
			t.Errorf("kind %d of %#x: got %v, %v, want %v, %v", c.kind, c.raw, got, s, c.want, c.s)
		}
	}
	for version, want := range map[uint32]int{0: 0, 1: 1, 3: 2, 5: 3, 6: 4, 8: 6, 9: 0, math.MaxUint32: 0} {
		if got := linkGeneration(version); got != want {
			t.Errorf("NVLink version %d: got %d, want %d", version, got, want)
		}
	}
}

func FuzzDecodeField(f *testing.F) {
	f.Add(uint32(0), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, kind uint32, b []byte) {
		var raw [8]byte
		copy(raw[:], b)
		if v, s := decodeField(kind, raw); math.IsNaN(v) || math.IsInf(v, 0) || s != success && v != 0 {
			t.Errorf("kind %d of %x: got %v, %v", kind, raw, v, s)
		}
	})
}
