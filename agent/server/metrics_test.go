package server

import (
	"errors"
	"flag"
	"log/slog"
	"math"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// later is a time that no scrape of a test reaches, so that ages are 0.
func later() time.Time { return time.Now().Add(time.Hour) }

// everything is a machine on which every metric has a value.
func everything() (*gpu.Inventory, *gpu.Snapshot, *gpu.Report) {
	inventory, snapshot := twoMI25(), twoReadings()
	d := &inventory.Devices[0]
	d.Vendor, d.Name, d.PCIAddress, d.Arch, d.DriverVersion = gpu.NVIDIA, `NVIDIA "H100"`, "0000:1a:00.0", "sm_90", "550.54"
	d.Limits = &gpu.Limits{SlowdownCelsius: p(87.0), ShutdownCelsius: p(92.0), MemoryCelsius: p(95.0)}
	d.Partitions = []gpu.Device{{ID: "MIG-1"}}
	snapshot.Time = later()
	snapshot.Host = gpu.HostReading{CPUPercent: p(12.5), MemoryUsedBytes: p(uint64(3e9)), MemoryTotalBytes: p(uint64(8e9))}
	reasons := gpu.ThrottlePower | gpu.ThrottleIdle
	snapshot.GPUs[0] = gpu.Reading{
		State: gpu.StateOK, UtilizationPercent: p(50.0), MemoryUtilizationPercent: p(25.0), EncoderPercent: p(1.0), DecoderPercent: p(2.0), MediaPercent: p(3.0),
		MemoryTotalBytes: p(uint64(85520809984)), MemoryUsedBytes: p(uint64(1 << 30)), MemoryReservedBytes: p(uint64(643825664)), SharedMemoryTotalBytes: p(uint64(5)), SharedMemoryUsedBytes: p(uint64(4)),
		Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 61}, {Sensor: gpu.SensorMemory, Celsius: 70.5}},
		PowerWatts:   p(345.6), PowerLimitWatts: p(700.0), CoreClockMHz: p(1980.0), MemoryClockMHz: p(2619.0), FanPercent: p(30.0), FanRPM: p(1200.0),
		PCIeGeneration: p(5), PCIeWidth: p(16), PerformanceState: p(0), Throttle: &reasons, Suspect: []string{"utilization_percent"},
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 500e6, time.UTC)
	report := &gpu.Report{Revision: 1, Devices: []gpu.Details{{
		Time: later(), EnergyJoules: p(123456.789), PCIeReplays: p(uint64(7)),
		ECC:          &gpu.ECC{Enabled: p(true), CorrectedVolatile: p(uint64(1)), UncorrectedVolatile: p(uint64(2)), CorrectedAggregate: p(uint64(3)), UncorrectedAggregate: p(uint64(4))},
		RemappedRows: &gpu.RemappedRows{Correctable: 5, Uncorrectable: 6, Pending: true},
		Links:        []gpu.Link{{Index: 0, Kind: "NVLink", Active: true, GigabytesPerSecond: p(26.5)}, {Index: 1, Kind: "NVLink"}},
		Faults:       []gpu.Fault{{Time: at.Add(-time.Hour), Kind: "XID", Code: 79}, {Time: at, Kind: "XID", Code: 79}, {Time: at, Kind: "XID", Code: 31}},
		Processes:    []gpu.Process{{PID: 1, MemoryBytes: p(uint64(1000))}, {PID: 2, MemoryBytes: p(uint64(500))}, {PID: 3}},
		Partitions:   []gpu.PartitionReading{{ID: "MIG-1", MemoryTotalBytes: p(uint64(10e9)), MemoryUsedBytes: p(uint64(1e9)), UtilizationPercent: p(40.0)}},
	}, {}}}
	return inventory, snapshot, report
}

func newAgentOf(t testing.TB, inventory *gpu.Inventory, snapshot *gpu.Snapshot, report *gpu.Report) *testAgent {
	a := newAgent(t, func(c *Config) { c.Report = func() *gpu.Report { return report } })
	a.set(func() {
		a.inventory, a.snapshot = inventory, snapshot
		a.capacity.Devices = []wire.Steered{{Device: 1, Key: "GPU-1", Control: pool.Control{Mode: pool.Reserved}, Phase: wire.PhaseReserved}}
	})
	return a
}

func TestMetricsGolden(t *testing.T) {
	t.Parallel()
	inventory, snapshot, report := everything()
	r := newAgentOf(t, inventory, snapshot, report).ask("GET", "/metrics", "")
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain; version=0.0.4") || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", r.status, r.header)
	}
	golden := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(golden, r.body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(r.body)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, f := range exported {
		if name := nameOfMetric(f.desc); !strings.Contains(string(want), "\n"+name+"{") && !strings.Contains(string(want), "\n"+name+" ") {
			t.Errorf("%s has no value on a machine that has everything", name)
		}
	}
}

func nameOfMetric(d *prometheus.Desc) string {
	return regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]
}

// Names, units and help texts are those that Prometheus wants.
func TestMetricsLint(t *testing.T) {
	t.Parallel()
	inventory, snapshot, report := everything()
	a := newAgentOf(t, inventory, snapshot, report)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{a.server})
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// samples gives the values of a scrape by name with labels.
func samples(t *testing.T, a *testAgent) map[string]string {
	t.Helper()
	r := a.ask("GET", "/metrics", "")
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(r.body)) {
		if at := strings.LastIndex(line, " "); !strings.HasPrefix(line, "#") && at > 0 {
			found[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return found
}

// What is absent has no sample, and what is too old to say something of now neither.
func TestMetricsOfWhatIsNotMeasured(t *testing.T) {
	t.Parallel()
	const on = `{device_id="0",id="GPU-0"}`
	state := func(s gpu.State) string {
		return `muster_gpu_state{device_id="0",id="GPU-0",state="` + string(s) + `"}`
	}
	for _, tt := range []struct {
		name   string
		change func(*gpu.Inventory, *gpu.Snapshot, *gpu.Report)
		has    map[string]string
		lacks  []string
	}{
		{"stuck for a moment", func(_ *gpu.Inventory, s *gpu.Snapshot, _ *gpu.Report) {
			s.GPUs[0].State, s.GPUs[0].AgeMilliseconds = gpu.StateStuck, 9000
		}, map[string]string{state(gpu.StateStuck): "1", state(gpu.StateOK): "0", "muster_gpu_reading_age_seconds" + on: "9", "muster_gpu_power_watts" + on: "345.6"}, nil},
		{"stuck", func(_ *gpu.Inventory, s *gpu.Snapshot, _ *gpu.Report) {
			s.GPUs[0].State, s.GPUs[0].AgeMilliseconds = gpu.StateStuck, 10001
		}, map[string]string{state(gpu.StateStuck): "1", "muster_gpu_reading_age_seconds" + on: "10.001"},
			[]string{"muster_gpu_power_watts" + on, "muster_gpu_utilization_ratio" + on, `muster_gpu_throttled{device_id="0",id="GPU-0",reason="power"}`, `muster_gpu_temperature_celsius{device_id="0",id="GPU-0",sensor="edge"}`}},
		{"asleep", func(_ *gpu.Inventory, s *gpu.Snapshot, _ *gpu.Report) {
			s.GPUs[0] = gpu.Reading{State: gpu.StateSuspended, MemoryTotalBytes: p(uint64(5))}
		}, map[string]string{state(gpu.StateSuspended): "1", "muster_gpu_memory_size_bytes" + on: "5"}, []string{"muster_gpu_power_watts" + on, "muster_gpu_memory_used_bytes" + on}},
		{"details are old", func(_ *gpu.Inventory, _ *gpu.Snapshot, r *gpu.Report) {
			r.Devices[0].Time = time.Now().Add(-staleDetailsAfter - time.Second)
		}, map[string]string{`muster_gpu_recent_faults{code="79",device_id="0",id="GPU-0",kind="XID"}`: "2"}, []string{"muster_gpu_energy_joules_total" + on, "muster_gpu_processes" + on}},
		{"details of a driver that never answered", func(_ *gpu.Inventory, _ *gpu.Snapshot, r *gpu.Report) {
			r.Devices[0] = gpu.Details{}
		}, nil, []string{"muster_gpu_details_age_seconds" + on, "muster_gpu_processes" + on}},
		{"processes that can't be told", func(_ *gpu.Inventory, _ *gpu.Snapshot, r *gpu.Report) {
			r.Devices[0].Processes = nil
		}, nil, []string{"muster_gpu_processes" + on, "muster_gpu_processes_memory_bytes" + on}},
		{"no processes", func(_ *gpu.Inventory, _ *gpu.Snapshot, r *gpu.Report) {
			r.Devices[0].Processes = []gpu.Process{}
		}, map[string]string{"muster_gpu_processes" + on: "0", "muster_gpu_processes_memory_bytes" + on: "0"}, nil},
		{"the devices have just changed", func(i *gpu.Inventory, _ *gpu.Snapshot, _ *gpu.Report) { i.Revision++ },
			map[string]string{"muster_gpus": "2"}, []string{"muster_snapshots_total", state(gpu.StateOK), "muster_gpu_power_watts" + on, "muster_gpu_energy_joules_total" + on}},
		{"numbers that are none", func(_ *gpu.Inventory, s *gpu.Snapshot, _ *gpu.Report) {
			s.GPUs[0].PowerWatts, s.GPUs[0].CoreClockMHz = p(math.NaN()), p(math.Inf(1))
		}, map[string]string{"muster_gpu_fan_speed_rpm" + on: "1200"}, []string{"muster_gpu_power_watts" + on, "muster_gpu_core_clock_hertz" + on}},
		{"a driver that names things twice, in no language", func(i *gpu.Inventory, s *gpu.Snapshot, r *gpu.Report) {
			s.GPUs[0].Temperatures = append(s.GPUs[0].Temperatures, gpu.Temperature{Sensor: gpu.SensorEdge, Celsius: 1})
			r.Devices[0].Links = append(r.Devices[0].Links, gpu.Link{Index: 0, Kind: "NVLink"}, gpu.Link{Index: 9, Kind: "\xff\n"})
			i.Devices[0].Name = "\xff\xfe"
		}, map[string]string{`muster_gpu_temperature_celsius{device_id="0",id="GPU-0",sensor="edge"}`: "61", `muster_gpu_link_up{device_id="0",id="GPU-0",kind="NVLink",link="0"}`: "1", "muster_gpu_fan_speed_rpm" + on: "1200"}, nil},
		{"no GPU", func(i *gpu.Inventory, s *gpu.Snapshot, r *gpu.Report) {
			i.Devices, s.GPUs, r.Devices = nil, nil, nil
		}, map[string]string{"muster_gpus": "0", `muster_jobs{state="queued"}`: "0", `muster_build_info{version="test"}`: "1"}, []string{"muster_gpu_power_watts" + on}},
	} {
		inventory, snapshot, report := everything()
		tt.change(inventory, snapshot, report)
		got := samples(t, newAgentOf(t, inventory, snapshot, report))
		for name, want := range tt.has {
			if got[name] != want {
				t.Errorf("%s: %s is %q, want %q", tt.name, name, got[name], want)
			}
		}
		for _, name := range tt.lacks {
			if value, ok := got[name]; ok {
				t.Errorf("%s: %s is %s, want no sample", tt.name, name, value)
			}
		}
	}
}

func TestMetricsBeforeTheFirstLook(t *testing.T) {
	t.Parallel()
	got := samples(t, newAgentOf(t, nil, nil, nil))
	if len(got) == 0 || got["muster_gpus"] != "" || got[`muster_jobs{state="running"}`] != "0" {
		t.Errorf("%v", got)
	}
}

func TestMetricsNeedTheToken(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if r := a.send("GET", "/metrics", ""); r.status != 401 {
		t.Errorf("without: %d", r.status)
	}
	if r := a.ask("GET", "/metrics", ""); r.status != 200 {
		t.Errorf("with: %d", r.status)
	}
	if r := a.ask("POST", "/metrics", ""); r.status != 405 {
		t.Errorf("POST: %d", r.status)
	}
}

// A scrape never shows two snapshots, however fast they come.
func TestScrapeWhileSnapshotsCome(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	take := func(n float64) {
		s := twoReadings()
		s.Seq, s.GPUs[0].PowerWatts, s.GPUs[1].PowerWatts = uint64(n), &n, &n
		a.set(func() { a.snapshot = s })
	}
	take(1)
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		for n := 2.0; ; n++ {
			select {
			case <-stop:
				return
			default:
				take(n)
			}
		}
	})
	for range 50 {
		got := samples(t, a)
		seq, first, second := got["muster_snapshots_total"], got[`muster_gpu_power_watts{device_id="0",id="GPU-0"}`], got[`muster_gpu_power_watts{device_id="1",id="GPU-1"}`]
		if seq == "" || first != seq || second != seq {
			t.Fatalf("snapshot %s shows %s and %s", seq, first, second)
		}
	}
	close(stop)
	changing.Wait()
}

// 64 GPUs with everything that a driver can say stay a scrape of bounded size.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	inventory, snapshot, report := everything()
	for i := 1; i < 64; i++ {
		d := inventory.Devices[0]
		d.Index, d.ID = gpu.Ref(i), "GPU-1b3f8c1e-0c1d-4c55-8a7e-0123456789ab"
		inventory.Devices = append(inventory.Devices[:i], d)
		snapshot.GPUs = append(snapshot.GPUs[:i], snapshot.GPUs[0])
		report.Devices = append(report.Devices[:i], report.Devices[0])
	}
	for i := range 1000 { // of which the collector takes what gpu.MaxFaults allows
		report.Devices[0].Faults = append(report.Devices[0].Faults, gpu.Fault{Kind: "XID", Code: uint64(i)})
	}
	a := newAgentOf(t, inventory, snapshot, report)
	r := a.ask("GET", "/metrics", "")
	if n := strings.Count(string(r.body), "muster_gpu_recent_faults{"); n > 63*2+gpu.MaxFaults {
		t.Errorf("%d faults", n)
	}
	if len(r.body) > 1<<20 {
		t.Errorf("%d bytes for 64 GPUs", len(r.body))
	}
	t.Logf("%d bytes, %d samples for 64 GPUs", len(r.body), len(samples(t, a)))
}

func BenchmarkMetrics64(b *testing.B) {
	inventory, snapshot, report := everything()
	for i := 1; i < 64; i++ {
		d := inventory.Devices[0]
		d.Index = gpu.Ref(i)
		inventory.Devices = append(inventory.Devices[:i], d)
		snapshot.GPUs = append(snapshot.GPUs[:i], snapshot.GPUs[0])
		report.Devices = append(report.Devices[:i], report.Devices[0])
	}
	a := newAgentOf(b, inventory, snapshot, report)
	r := httptest.NewRequest("GET", "/metrics", nil)
	for b.Loop() {
		a.server.scrape.ServeHTTP(httptest.NewRecorder(), r)
	}
}

func TestAScraperThatLeavesIsNoNews(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := scrapeLog{slog.New(slog.NewTextHandler(&out, nil))}
	log.Println("error encoding and sending metric family:", &net.OpError{Op: "write", Err: syscall.ECONNRESET})
	if out.Len() > 0 {
		t.Errorf("logged: %s", out.String())
	}
	if log.Println("error gathering metrics:", errors.New("two of one name")); !strings.Contains(out.String(), "two of one name") {
		t.Errorf("not logged: %q", out.String())
	}
}
