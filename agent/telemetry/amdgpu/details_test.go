package amdgpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/agent/fixture"
	"muster/agent/telemetry"
	"muster/shared/gpu"
)

var (
	_ telemetry.DetailReader = (*Reader)(nil)
	_ telemetry.Examiner     = (*Reader)(nil)
)

const (
	mi25   = "0000:1a:00.0"
	mi25ID = "pci-" + mi25
)

// detailed puts an MI25 with its KFD node and a DRM node on the bus, and process 1 into /proc.
func detailed(t testing.TB) (m machine, dir string) {
	m = newMachine(t)
	dir = m.plain(mi25, "0")
	m.file(dir+"/drm/renderD128/dev", "226:128\n")
	m.node("1", "simd_count 256", "simd_per_cu 4", "domain 0", "location_id 6656", "drm_render_minor 128")
	m.file("sys/class/kfd/kfd/topology/nodes/1/gpu_id", "13261\n")
	m.file("proc/1/comm", "init\n")
	return m, dir
}

// holds lets a process hold so many bytes of the node's memory, by KFD.
func (m machine) holds(pid, gpuID, bytes string) {
	m.file("sys/class/kfd/kfd/proc/"+pid+"/vram_"+gpuID, bytes+"\n")
}

// opens lets a process have a node open, with that fdinfo.
func (m machine) opens(pid, fd, node, info string) {
	m.remove("proc/" + pid + "/fd/" + fd)
	m.link("proc/"+pid+"/fd/"+fd, "/dev/dri/"+node)
	m.file("proc/"+pid+"/fdinfo/"+fd, info)
}

// fdinfoText is an fdinfo as Linux 6.14 writes it.
func fdinfoText(client, vramKiB, gfx, compute string) string {
	return "drm-driver:\tamdgpu\ndrm-client-id:\t" + client + "\ndrm-pdev:\t0000:1a:00.0\ndrm-memory-vram:\t" + vramKiB + " KiB\ndrm-engine-gfx:\t" + gfx + " ns\ndrm-engine-compute:\t" + compute + " ns\n"
}

func TestCounters(t *testing.T) {
	t.Parallel()
	full := map[string]string{"pcie_replay_count": "3\n", "ras/umc_err_count": "ue: 1\nce: 20\nde: 0\n", "ras/features": "feature mask: 0x1\n",
		"hwmon/hwmon4/energy1_input": "5000000\n"}
	ecc := &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr[uint64](20), UncorrectedVolatile: ptr[uint64](1)}
	for _, c := range []struct {
		name  string
		files map[string]string
		fail  map[string]syscall.Errno
		want  gpu.Details
	}{
		{"all", full, nil, gpu.Details{EnergyJoules: ptr(5.), PCIeReplays: ptr[uint64](3), ECC: ecc}},
		{"none", nil, nil, gpu.Details{}},
		{"errors not counted", map[string]string{"ras/umc_err_count": "ue: 0\nce: 0\n", "ras/features": "feature mask: 0x2\n"}, nil,
			gpu.Details{ECC: &gpu.ECC{Enabled: ptr(false), CorrectedVolatile: ptr[uint64](0), UncorrectedVolatile: ptr[uint64](0)}}},
		{"no features", map[string]string{"ras/umc_err_count": "ue: 0\nce: 0\n"}, nil,
			gpu.Details{ECC: &gpu.ECC{CorrectedVolatile: ptr[uint64](0), UncorrectedVolatile: ptr[uint64](0)}}},
		{"refused", full, map[string]syscall.Errno{"pcie_replay_count": syscall.EACCES, "umc_err_count": syscall.EIO, "energy1_input": syscall.ETIMEDOUT},
			gpu.Details{Absent: map[string]gpu.Absence{"pcie_replays": gpu.AbsentNoPermission, "ecc": gpu.AbsentFailed, "energy_joules": gpu.AbsentTimedOut}}},
		{"gone since they were listed", full, map[string]syscall.Errno{"pcie_replay_count": syscall.ENOENT, "umc_err_count": syscall.ENOENT, "energy1_input": syscall.EOPNOTSUPP},
			gpu.Details{}},
		{"nonsense", map[string]string{"pcie_replay_count": "N/A\n", "ras/umc_err_count": "query failed\n", "hwmon/hwmon4/energy1_input": "-5\n"}, nil,
			gpu.Details{Absent: map[string]gpu.Absence{"pcie_replays": gpu.AbsentFailed, "ecc": gpu.AbsentFailed, "energy_joules": gpu.AbsentFailed}}},
		{"by gpu_metrics", map[string]string{"gpu_metrics": string(put(blob(1, 7, 2208, nil), nil, map[int]uint64{24: 1 << 20, 112: 9}))}, nil,
			gpu.Details{EnergyJoules: ptr(16.), PCIeReplays: ptr[uint64](9)}},
		{"gpu_metrics refused", map[string]string{"gpu_metrics": ""}, map[string]syscall.Errno{"gpu_metrics": syscall.EBUSY},
			gpu.Details{Absent: map[string]gpu.Absence{"energy_joules": gpu.AbsentFailed}}},
		{"empty", map[string]string{"pcie_replay_count": "", "ras/umc_err_count": "", "ras/features": "", "gpu_metrics": ""}, nil,
			gpu.Details{Absent: map[string]gpu.Absence{"pcie_replays": gpu.AbsentFailed, "ecc": gpu.AbsentFailed}}},
		{"padded with NUL", map[string]string{"pcie_replay_count": "3\n\x00\x00\x00", "ras/umc_err_count": "ue: 1\nce: 20\n\x00\x00", "ras/features": "feature mask: 0x1\x00\x00"}, nil,
			gpu.Details{PCIeReplays: ptr[uint64](3), ECC: ecc}}, // trap 25
		{"megabytes", map[string]string{"pcie_replay_count": strings.Repeat("1", 1<<20), "ras/umc_err_count": strings.Repeat("ue", 1<<19)}, nil,
			gpu.Details{Absent: map[string]gpu.Absence{"pcie_replays": gpu.AbsentFailed, "ecc": gpu.AbsentFailed}}},
		{"FIFOs", map[string]string{"pcie_replay_count": "fifo", "ras/umc_err_count": "fifo", "ras/features": "fifo", "gpu_metrics": "fifo"}, nil, // trap 42
			gpu.Details{Absent: map[string]gpu.Absence{"pcie_replays": gpu.AbsentFailed, "ecc": gpu.AbsentFailed, "energy_joules": gpu.AbsentFailed}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir := m.plain(mi25, "0")
			for name, content := range c.files {
				m.file(dir+"/"+name, content)
				if content == "fifo" {
					m.remove(dir + "/" + name)
					if err := syscall.Mkfifo(m.path(dir+"/"+name), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := New(m.root)
			watch(r, func(path string) error {
				if errno := c.fail[filepath.Base(path)]; errno != 0 {
					return &os.PathError{Op: "read", Path: path, Err: errno}
				}
				return nil
			})
			inventory(t, r)
			d := details(t, r, mi25ID)
			if diff := cmp.Diff(c.want, d, cmpopts.IgnoreFields(gpu.Details{}, "Time", "Processes", "Links"), cmpopts.EquateEmpty()); diff != "" || d.Time.IsZero() {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// MI210 of the capture: each is linked to the three others of its hive, at 50 GB/s.
func TestLinksOfMI210(t *testing.T) {
	t.Parallel()
	r, found := kfdMachine(t, "mi210x8").inventory()
	for i, peers := range map[int][]string{3: {"0000:43:00.0", "0000:26:00.0", "0000:03:00.0"}, 6: {"0000:e3:00.0", "0000:83:00.0", "0000:a3:00.0"}} {
		var got, want []gpu.Link
		if d, err := r.Details(context.Background(), found.Devices[i].ID); err == nil {
			got = d.Links
		} else {
			got = r.known()[found.Devices[i].ID].links(metrics{}) // nothing of these cards can be read, but what KFD shows
		}
		for n, peer := range peers {
			want = append(want, gpu.Link{Index: n, Kind: "XGMI", Active: true, GigabytesPerSecond: ptr(50.), PeerAddress: peer})
		}
		if len(got) == 3 {
			sortLinks := cmpopts.SortSlices(func(a, b gpu.Link) bool { return a.PeerAddress < b.PeerAddress })
			if diff := cmp.Diff(want, got, sortLinks, cmpopts.IgnoreFields(gpu.Link{}, "Index")); diff != "" {
				t.Errorf("device %d (-want +got):\n%s", i, diff)
			}
			continue
		}
		t.Errorf("device %d: got %+v", i, got)
	}
}

func TestLinksByMetrics(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.plain(mi25, "0")
	m.file(dir+"/gpu_metrics", string(blob(1, 7, 2208, map[int]uint16{72: 16, 74: 32, 264: 1, 266: 0, 268: 2})))
	want := []gpu.Link{{Index: 0, Kind: "XGMI", Active: true, GigabytesPerSecond: ptr(64.)}, {Index: 1, Kind: "XGMI", GigabytesPerSecond: ptr(64.)}}
	if diff := cmp.Diff(want, details(t, newReader(t, m), mi25ID).Links); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A divided MI300: memory by KFD or by the partition's own DRM device, work by gpu_metrics, processes by partition.
func TestPartitionReadings(t *testing.T) { // trap 23
	t.Parallel()
	m := newMachine(t)
	dir := m.plain("0000:05:00.0", "0")
	m.file(dir+"/unique_id", "77\n")
	m.file(dir+"/current_compute_partition", "CPX\n")
	m.file(dir+"/current_memory_partition", "NPS4\n")
	m.file(dir+"/drm/renderD128/dev", "226:128\n")
	m.file("proc/1/comm", "init\n")
	for i := range 3 {
		id := fmt.Sprint(2 + i)
		m.node(id, "simd_count 152", "simd_per_cu 4", "gfx_target_version 90402", "domain 0", fmt.Sprint("location_id ", 1280+i), "unique_id 119", fmt.Sprint("drm_render_minor ", 128+i))
		m.file("sys/class/kfd/kfd/topology/nodes/"+id+"/gpu_id", fmt.Sprint(1000+i, "\n"))
		m.file("sys/class/kfd/kfd/topology/nodes/"+id+"/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 51522830336\n")
	}
	m.file("sys/class/kfd/kfd/topology/nodes/2/mem_banks/0/used_memory", "1000\n")
	m.file("sys/devices/platform/amdgpu_xcp_1/mem_info_vram_used", "2000\n")
	m.link("sys/class/drm/renderD129/device", "../../../devices/platform/amdgpu_xcp_1")
	m.file(dir+"/gpu_metrics", string(put(blob(1, 7, 2208, nil), map[int]uint32{344: 80, 344 + 4: 90, 344 + 232: 5, 344 + 2*232: 0}, nil)))
	m.file("proc/40/comm", "x\n")
	m.holds("40", "1001", "700")
	m.holds("40", "1002", "800")
	m.opens("41", "3", "renderD128", fdinfoText("1", "1", "0", "7"))
	r, found := m.inventory()
	if got := found.Devices[0].PartitionMode; got != "CPX/NPS4" {
		t.Errorf("got mode %q", got)
	}
	const id = "GPU-0000000000000077"
	d := details(t, r, id)
	total := ptr[uint64](51522830336)
	want := []gpu.PartitionReading{
		{ID: id + "-p0", MemoryTotalBytes: total, MemoryUsedBytes: ptr[uint64](1000), UtilizationPercent: ptr(85.)},
		{ID: id + "-p1", MemoryTotalBytes: total, MemoryUsedBytes: ptr[uint64](2000), UtilizationPercent: ptr(5.)},
		{ID: id + "-p2", MemoryTotalBytes: total, UtilizationPercent: ptr(0.)},
	}
	if diff := cmp.Diff(want, d.Partitions); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
	processes := []gpu.Process{
		{PID: 41, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](1024), Partition: id + "-p0"},
		{PID: 40, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](800), Partition: id + "-p2"},
		{PID: 40, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](700), Partition: id + "-p1"},
	}
	if diff := cmp.Diff(processes, d.Processes); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

// An MI300 that is not divided: KFD shows its links too, but only gpu_metrics says which are down.
func TestLinksOfWholeMI300(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.plain("0000:05:00.0", "0")
	m.node("1", "simd_count 1216", "simd_per_cu 4", "gfx_target_version 90402", "domain 0", "location_id 1280")
	m.node("2", "simd_count 1216", "simd_per_cu 4", "gfx_target_version 90402", "domain 0", "location_id 1536")
	m.file("sys/class/kfd/kfd/topology/nodes/1/io_links/0/properties", "type 2\nnode_from 1\nnode_to 0\nmax_bandwidth 64000\nflags 1\n")
	m.file("sys/class/kfd/kfd/topology/nodes/1/io_links/1/properties", "type 11\nnode_from 1\nnode_to 2\nmax_bandwidth 64000\nflags 0\n")
	r, _ := m.inventory()
	const id = "pci-0000:05:00.0"
	want := []gpu.Link{{Kind: "XGMI", GigabytesPerSecond: ptr(64.), PeerAddress: "0000:06:00.0"}}
	if diff := cmp.Diff(want, details(t, r, id).Links); diff != "" {
		t.Errorf("by KFD (-want +got):\n%s", diff)
	}
	m.file(dir+"/gpu_metrics", string(blob(1, 7, 2208, map[int]uint16{264: 0, 266: 1})))
	want = []gpu.Link{{Index: 0, Kind: "XGMI"}, {Index: 1, Kind: "XGMI", Active: true}}
	if diff := cmp.Diff(want, details(t, newReader(t, m), id).Links); diff != "" {
		t.Errorf("by gpu_metrics (-want +got):\n%s", diff)
	}
}

func TestPartitionMode(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{{"SPX", "NPS1", ""}, {"", "", ""}, {"UNKNOWN", "NPS1", ""}, {"DPX", "", "DPX"}, {"CPX", "UNKNOWN", "CPX"}, {"CPX", "NPS4", "CPX/NPS4"}} {
		if got := partitionMode(c[0], c[1]); got != c[2] {
			t.Errorf("%s, %s: got %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// Nothing that wakes is opened of a sleeping card, for Details and Examine neither.
func TestDetailsOfSleepingCard(t *testing.T) { // trap 31
	t.Parallel()
	m, dir := detailed(t)
	for _, name := range []string{"gpu_metrics", "ras/umc_err_count", "ras/features", "pcie_replay_count", "vbios_version", "serial_number", "current_compute_partition", "vcn_busy_percent"} {
		m.file(dir+"/"+name, "")
	}
	m.file(dir+"/power/runtime_status", "suspended\n")
	m.holds("1", "13261", "1")
	m.opens("1", "3", "renderD128", fdinfoText("1", "1", "1", "1"))
	r := New(m.root)
	f := watch(r, nil)
	inv := inventory(t, r)
	if _, err := r.Details(context.Background(), mi25ID); !errors.Is(err, telemetry.ErrSuspended) {
		t.Errorf("got %v", err)
	}
	r.Examine(context.Background())
	if woke := f.matching("hwmon", "gpu_metrics", "gpu_busy", "vcn_", "pp_", "_used", "mem_busy", "ras/", "replay", "vbios", "serial", "partition", "vram_13261", "fdinfo", "pcie_bw"); woke != nil {
		t.Errorf("opened %v of a suspended card", woke)
	}
	want := map[string]gpu.Absence{"limits": gpu.AbsentAsleep, "firmware_version": gpu.AbsentAsleep, "serial_number": gpu.AbsentAsleep}
	if diff := cmp.Diff(want, inv.Devices[0].Absent); diff != "" {
		t.Errorf("absent (-want +got):\n%s", diff)
	}
	m.file(dir+"/power/runtime_status", "active\n")
	inv = inventory(t, r)
	if d := inv.Devices[0]; d.Absent != nil || d.Limits == nil || *d.Limits.CoreClockMHz != 991 {
		t.Errorf("awake: got %v, %+v", d.Absent, d.Limits)
	}
	m.file(dir+"/power/runtime_status", "suspended\n")
	if diff := cmp.Diff(inv, inventory(t, r)); diff != "" {
		t.Errorf("asleep again (-awake +asleep):\n%s", diff)
	}
}

func TestWhyDetailsFail(t *testing.T) { // traps 31, 38
	t.Parallel()
	for errno, want := range map[syscall.Errno]error{
		syscall.EPERM: telemetry.ErrSuspended, syscall.EACCES: telemetry.ErrNoPermission, syscall.ENODEV: telemetry.ErrLost,
	} {
		m := newMachine(t)
		m.file(m.plain(mi25, "0")+"/pcie_replay_count", "1\n")
		r := New(m.root)
		failing := false
		watch(r, func(path string) error {
			if failing && !strings.Contains(path, "runtime_status") {
				return &os.PathError{Op: "read", Path: path, Err: errno}
			}
			return nil
		})
		inventory(t, r)
		failing = true
		if _, err := r.Details(context.Background(), mi25ID); !errors.Is(err, want) {
			t.Errorf("%v: got %v, want %v", errno, err, want)
		}
	}
	m, dir := detailed(t)
	r := newReader(t, m)
	m.remove(dir)
	if _, err := r.Details(context.Background(), mi25ID); !errors.Is(err, telemetry.ErrLost) {
		t.Errorf("taken out: got %v", err)
	}
	if _, err := r.Details(context.Background(), "GPU-none"); !errors.Is(err, telemetry.ErrLost) {
		t.Errorf("unknown: got %v", err)
	}
	m, _ = detailed(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := newReader(t, m).Details(ctx, mi25ID); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// KFD goes on to list a card that was taken out while a process has it open: it is lost, and keeps its name.
func TestTakenOutWhileInUse(t *testing.T) { // trap 38
	t.Parallel()
	m, dir := detailed(t)
	m.file("sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 17163091968\n")
	m.file("sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/used_memory", "5\n")
	m.remove(dir + "/mem_info_vram_used")
	r := newReader(t, m)
	m.remove(dir)
	m.remove("sys/bus/pci/devices/" + mi25)
	readError(t, r, mi25ID, telemetry.ErrLost)
	for range 2 {
		if found := inventory(t, r); len(found.Devices) != 0 {
			t.Errorf("got %+v, want it missing, which is what makes it lost", found.Devices)
		}
		readError(t, r, mi25ID, telemetry.ErrLost)
	}
	m.remove("sys/class/drm/card0")
	m.plain(mi25, "0")
	if found := inventory(t, r); len(found.Devices) != 1 || found.Devices[0].ID != mi25ID {
		t.Errorf("back again: got %+v", found.Devices)
	}
}

// A card whose firmware does not answer keeps no other from being listed and examined; nobody asks it twice at once.
func TestSilentCard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testSilentCard)
}

func testSilentCard(t *testing.T) {
	m := newMachine(t)
	dir := m.plain(mi25, "0")
	m.file(dir+"/gpu_metrics", string(blob(1, 3, 120, nil)))
	m.plain("0000:1b:00.0", "1")
	r := New(m.root)
	var surveyed, examined atomic.Int32
	released := make(chan struct{})
	watch(r, func(path string) error {
		if !strings.Contains(path, mi25) {
			return nil
		}
		switch filepath.Base(path) {
		case "pp_dpm_sclk":
			surveyed.Add(1)
			<-released
		case "gpu_metrics":
			examined.Add(1)
			<-released
		}
		return nil
	})
	for range 3 {
		found := inventory(t, r)
		if len(found.Devices) != 2 || found.Devices[0].Absent["limits"] != gpu.AbsentTimedOut || found.Devices[1].Limits == nil {
			t.Fatalf("got %+v", found.Devices)
		}
	}
	read(t, r, "pci-0000:1b:00.0")
	r.known()[mi25ID].sensors.Store(&sensors{metrics: m.path(dir + "/gpu_metrics")}) // as if it had fallen silent after a survey
	for range 2 {
		if got := findingsWith(r.Examine(context.Background()), "does not answer"); len(got) != 1 || !strings.Contains(got[0], mi25) {
			t.Errorf("got %v", got)
		}
	}
	if s, e := surveyed.Load(), examined.Load(); s != 1 || e != 1 {
		t.Errorf("asked %d and %d times, want once each", s, e)
	}
	close(released)
	synctest.Wait()
	if d := inventory(t, r).Devices[0]; d.Limits == nil || d.Absent != nil {
		t.Errorf("answers again: got %+v", d)
	}
	if got := findingsWith(r.Examine(context.Background()), "does not answer"); got != nil {
		t.Errorf("answers again: got %v", got)
	}
}

func TestDisagreements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                   string
		watts, celsius, memory string
		want                   []string
	}{
		{"none", "30000000", "50000", "1000000000", nil},
		{"power", "50000000", "50000", "1000000000", []string{"power_watts 50 30"}},
		{"temperature", "30000000", "80000", "1000000000", []string{"temperatures 80 50"}},
		{"memory", "30000000", "50000", "2000000000", []string{"memory_used_bytes 2e+09 1e+09"}},
		{"all", "10000000", "20000", "500000000", []string{"power_watts 10 30", "temperatures 20 50", "memory_used_bytes 5e+08 1e+09"}},
		{"within a fifth", "36000000", "41000", "1100000000", nil},
	} {
		m, dir := detailed(t)
		m.file(dir+"/gpu_metrics", string(blob(1, 3, 120, map[int]uint16{4: 50, 22: 30})))
		m.file("sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 17163091968\n")
		m.file("sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/used_memory", "1000000000\n")
		m.file(dir+"/hwmon/hwmon4/power1_average", c.watts+"\n")
		m.file(dir+"/hwmon/hwmon4/temp1_input", c.celsius+"\n")
		m.file(dir+"/mem_info_vram_used", c.memory+"\n")
		r := newReader(t, m)
		var got []string
		for _, d := range details(t, r, mi25ID).Disagreements {
			got = append(got, fmt.Sprint(d.Field, " ", d.Values[0].Value, " ", d.Values[1].Value))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if said := findingsWith(r.Examine(context.Background()), " says "); len(said) != len(c.want) {
			t.Errorf("%s: doctor says %v", c.name, said)
		}
	}
}

// Why a value of the last Read is absent is told with the details.
func TestWhyReadingsAreAbsent(t *testing.T) { // trap 30
	t.Parallel()
	m := newMachine(t)
	dir := m.plain(mi25, "0")
	m.file(dir+"/hwmon/hwmon4/fan1_input", "900\n")
	m.file(dir+"/vcn_busy_percent", "900\n")
	m.file(dir+"/hwmon/hwmon4/freq2_input", "nonsense\n") // but the table has it
	r := New(m.root)
	watch(r, func(path string) error {
		errno := map[string]syscall.Errno{"gpu_busy_percent": syscall.EBUSY, "mem_info_vram_used": syscall.EACCES, "fan1_input": syscall.EINVAL,
			"temp2_input": syscall.EIO, "freq1_input": syscall.ETIME, "pp_dpm_sclk": syscall.ETIME}[filepath.Base(path)]
		if errno != 0 {
			return &os.PathError{Op: "read", Path: path, Err: errno}
		}
		return nil
	})
	inventory(t, r)
	read(t, r, mi25ID)
	want := map[string]gpu.Absence{"utilization_percent": gpu.AbsentFailed, "memory_used_bytes": gpu.AbsentNoPermission, "fan_rpm": gpu.AbsentFailed,
		"media_percent": gpu.AbsentFailed, "core_clock_mhz": gpu.AbsentTimedOut}
	if diff := cmp.Diff(want, details(t, r, mi25ID).Absent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThrottleByCounters(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.plain(mi25, "0")
	r := New(m.root)
	table := func(cycles, power, socket uint32) {
		m.file(dir+"/gpu_metrics", string(put(blob(1, 6, 1664, nil), map[int]uint32{32: cycles, 36: 0, 40: power, 44: socket, 48: 0, 52: 0}, nil)))
	}
	table(1, 5, 5)
	inventory(t, r)
	for i, step := range []struct {
		cycles, power, socket uint32
		want                  *gpu.Throttle
	}{
		{1, 5, 5, nil}, {2, 5, 5, ptr(none)}, {3, 6, 5, ptr(gpu.ThrottlePower)}, {3, 6, 5, ptr(gpu.ThrottlePower)}, {4, 6, 9, ptr(gpu.ThrottleThermal)}, {5, 6, 9, ptr(none)},
	} {
		table(step.cycles, step.power, step.socket)
		if i == 3 {
			inventory(t, r) // what was counted is remembered
		}
		if got := read(t, r, mi25ID).Throttle; !cmp.Equal(got, step.want) {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
	m.remove(dir + "/gpu_metrics")
	if got := read(t, r, mi25ID).Throttle; got != nil {
		t.Errorf("without gpu_metrics: got %v", got)
	}
}

// The names and formats that rocm-smi prints of real cards, read from files as the kernel writes them.
func TestAsROCmSMI(t *testing.T) { // trap 22
	t.Parallel()
	for name, want := range map[string]struct{ id, sclk, pcie, address string }{
		"vega-10-XT.json":    {"GPU-02150e7d042a1124", "1269Mhz", "8.0GT/s, x16", "0000:04:00.0"},
		"mi100_rocm602.json": {"GPU-79ccd55167a2124a", "300Mhz", "16.0GT/s, x16", "0000:83:00.0"},
	} {
		text, err := os.ReadFile(fixture.Path(t, "amd-smi-json", name))
		if err != nil {
			t.Fatal(err)
		}
		unique := field1(string(text), "Unique ID")
		m := newMachine(t)
		dir := m.plain(field1(string(text), "PCI Bus"), "0")
		m.file(dir+"/unique_id", strings.TrimPrefix(unique, "0x")+"\n")
		m.file(dir+"/pp_dpm_sclk", "0: 1Mhz \n3: "+strings.Trim(field1(string(text), "sclk clock speed:"), "()")+" *\n")
		m.file(dir+"/pp_dpm_pcie", "0: 2.5GT/s, x1 \n1: "+want.pcie+" *\n")
		m.remove(dir + "/hwmon/hwmon4/freq1_input")
		device, reading := m.only()
		if device.ID != want.id || device.PCIAddress != want.address || fmt.Sprint(*reading.CoreClockMHz, "Mhz") != want.sclk || *reading.PCIeWidth != 16 {
			t.Errorf("%s: got %s %s %v x%d", name, device.ID, device.PCIAddress, *reading.CoreClockMHz, *reading.PCIeWidth)
		}
	}
}

// field1 gives the first string of that key in a JSON text.
func field1(text, key string) string {
	_, rest, _ := strings.Cut(text, `"`+key+`": "`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
