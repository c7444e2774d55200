package server

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// exampleStatus is the example of facts/api.md.
const exampleStatus = `{
  "system": {
    "platform": "linux",
    "gpu_available": true,
    "gpu_type": "rocm",
    "gpu_count": 2,
    "gpu_name": "Radeon Instinct MI25",
    "gpu_devices": [
      {"device_id": 0, "name": "Radeon Instinct MI25", "total_memory_gb": 16.0,
       "compute_capability": "9.0", "multi_processor_count": 64},
      {"device_id": 1, "name": "Radeon Instinct MI25", "total_memory_gb": 16.0,
       "compute_capability": "9.0", "multi_processor_count": 64}
    ],
    "total_gpu_memory_gb": 32.0,
    "multi_gpu": true,
    "rocm_version": "5.7.31921-d1770ee1b",
    "is_rocm_build": true,
    "torch_installed": true,
    "torch_version": "2.3.1+rocm5.7"
  },
  "models_directory": "…", "installed_models": [], "loaded_models_count": 0, "total_models_count": 0, "available_models": []
}`

// The same bytes, but for the fields that were added and are allowed to be: vendor, other_adapters.
func TestSetupStatusGolden(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.ModelsDir = "…"; c.Capacity = func() wire.Capacity { return wire.Capacity{} } })
	var want bytes.Buffer
	if err := json.Compact(&want, []byte(exampleStatus)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/setup/ai-models/status", "/api/v1/setup/models/status"} {
		r := a.ask("GET", path, "")
		got := strings.NewReplacer(`,"vendor":"amd"`, "", `,"other_adapters":[]`, "", "\n", "").Replace(string(r.body))
		if diff := cmp.Diff(want.String(), got); r.status != 200 || diff != "" {
			t.Errorf("%s: %d (-want +got)\n%s", path, r.status, diff)
		}
	}
}

func TestSetupStatus(t *testing.T) {
	t.Parallel()
	nvidia := gpu.Device{Index: 0, Vendor: gpu.NVIDIA, Name: "RTX 4090", MemoryBytes: p(uint64(25757220864)), ComputeCapability: "8.9", MultiprocessorCount: p(128)}
	amd := gpu.Device{Index: 1, Vendor: gpu.AMD, Name: "MI25", MemoryBytes: p(uint64(17163091968)), ComputeCapability: "9.0", MultiprocessorCount: p(64)}
	broken := gpu.Device{Index: 1, Vendor: gpu.AMD, Error: "read mem_info_vram_total: permission denied"}
	host := gpu.Host{Platform: "linux"}
	rocmHost := gpu.Host{Platform: "linux", ROCmVersion: "5.7.0-63", HIPVersion: "5.7.31921-d1770ee1b"}
	for _, test := range []struct {
		name      string
		inventory gpu.Inventory
		want      string // compact JSON of system
	}{
		{"no GPU, although ROCm is there", gpu.Inventory{Host: rocmHost, OtherAdapters: []gpu.Adapter{{PCIAddress: "0000:03:00.0", Name: "BMC"}}},
			`{"platform":"linux","gpu_available":false,"gpu_type":"cpu","gpu_count":0,"gpu_name":null,"gpu_devices":[],"total_gpu_memory_gb":0,"multi_gpu":false,"rocm_version":null,"is_rocm_build":false,"torch_installed":false,"torch_version":null,"other_adapters":[{"pci_address":"0000:03:00.0","name":"BMC"}]}`},
		{"one CUDA device", gpu.Inventory{Host: host, Devices: []gpu.Device{nvidia}},
			`{"platform":"linux","gpu_available":true,"gpu_type":"cuda","gpu_count":1,"gpu_name":"RTX 4090","gpu_devices":[{"device_id":0,"name":"RTX 4090","total_memory_gb":23.99,"compute_capability":"8.9","multi_processor_count":128,"vendor":"nvidia"}],"total_gpu_memory_gb":23.99,"multi_gpu":false,"rocm_version":null,"is_rocm_build":false,"torch_installed":false,"torch_version":null,"other_adapters":[]}`},
		{"tie, totals of bytes", gpu.Inventory{Host: rocmHost, Devices: []gpu.Device{nvidia, amd}},
			`{"platform":"linux","gpu_available":true,"gpu_type":"cuda","gpu_count":2,"gpu_name":"RTX 4090","gpu_devices":[{"device_id":0,"name":"RTX 4090","total_memory_gb":23.99,"compute_capability":"8.9","multi_processor_count":128,"vendor":"nvidia"},{"device_id":1,"name":"MI25","total_memory_gb":15.98,"compute_capability":"9.0","multi_processor_count":64,"vendor":"amd"}],"total_gpu_memory_gb":39.97,"multi_gpu":true,"rocm_version":"5.7.31921-d1770ee1b","is_rocm_build":false,"torch_installed":false,"torch_version":null,"other_adapters":[]}`},
		{"majority, one unreadable", gpu.Inventory{Host: gpu.Host{Platform: "linux", ROCmVersion: "6.0", Torch: &gpu.Torch{Version: "2.4.0+cpu"}}, Devices: []gpu.Device{{Index: 0, Vendor: gpu.AMD, Name: "A", Simulated: true}, broken}},
			`{"platform":"linux","gpu_available":true,"gpu_type":"rocm","gpu_count":2,"gpu_name":"A","gpu_devices":[{"device_id":0,"name":"A","total_memory_gb":null,"compute_capability":null,"multi_processor_count":null,"vendor":"amd","simulated":true},{"device_id":1,"name":"Unknown GPU","total_memory_gb":0,"error":"read mem_info_vram_total: permission denied","vendor":"amd"}],"total_gpu_memory_gb":0,"multi_gpu":true,"rocm_version":"6.0","is_rocm_build":false,"torch_installed":true,"torch_version":"2.4.0+cpu","other_adapters":[]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(statusOf(test.inventory, wire.Capacity{}, model.Library{}).System)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestModelsInStatus(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var got struct {
		Dir       string                         `json:"models_directory"`
		Installed []struct{ Name, Title string } `json:"installed_models"`
		Loaded    int                            `json:"loaded_models_count"`
		Total     int                            `json:"total_models_count"`
		Available []struct{ Name string }        `json:"available_models"`
	}
	a.ask("GET", "/api/v1/setup/models/status", "").into(t, &got)
	if got.Dir != "/models" || len(got.Installed) != 1 || got.Installed[0].Name != "sd15" || got.Loaded != 1 || got.Total != 2 || len(got.Available) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestBeforeTheFirstLook(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	inventory := a.inventory
	a.set(func() { a.inventory, a.snapshot = nil, nil })
	for _, path := range []string{"/api/v1/setup/ai-models/status", "/api/v1/system/gpu/status", "/api/v1/snapshot", "/api/v1/inventory", "/api/v1/devices/least-loaded", "/api/v1/devices/by-load"} {
		if r := a.ask("GET", path, ""); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	// In its first seconds a server waits for the look instead.
	a.server.began = time.Now()
	go a.set(func() { a.inventory, a.snapshot = inventory, twoReadings() })
	if r := a.ask("GET", "/api/v1/setup/ai-models/status", ""); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestGPURoutesGolden(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct{ path, want string }{
		{"temperature", `{"available":true,"gpu_count":2,"timestamp":"2026-01-02T03:04:05Z","gpus":[{"device_id":0,"name":"Radeon Instinct MI25","temperature_c":61,"memory_total_gb":16.0,"memory_used_gb":8.0,"memory_reserved_gb":1.0,"state":"ok"},{"device_id":1,"name":"Radeon Instinct MI25","temperature_c":null,"memory_total_gb":16.0,"memory_used_gb":1.0,"memory_reserved_gb":null,"state":"ok"}]}`},
		{"status", `{"available":true,"gpu_count":2,"timestamp":"2026-01-02T03:04:05Z","gpus":[{"device_id":0,"name":"Radeon Instinct MI25","temperature_c":61,"health_status":"warm","memory":{"total_gb":16.0,"used_gb":8.0,"free_gb":7.0,"reserved_gb":1.0,"utilization_percent":50},"compute_capability":"9.0","multi_processor_count":64,"state":"ok"},{"device_id":1,"name":"Radeon Instinct MI25","temperature_c":null,"health_status":"unknown","memory":{"total_gb":16.0,"used_gb":1.0,"free_gb":15.0,"reserved_gb":null,"utilization_percent":6.25},"compute_capability":"9.0","multi_processor_count":64,"state":"ok"}]}`},
		{"temperature/history", `{"available":true,"device_id":null,"history":{"0":[{"timestamp":"1970-01-01T00:00:10Z","temperature":41},{"timestamp":"1970-01-01T00:00:11Z","temperature":44},{"timestamp":"1970-01-01T00:00:12Z","temperature":42}],"1":[]}}`},
		{"temperature/history?device_id=0", `{"available":true,"device_id":0,"history":[{"timestamp":"1970-01-01T00:00:10Z","temperature":41},{"timestamp":"1970-01-01T00:00:11Z","temperature":44},{"timestamp":"1970-01-01T00:00:12Z","temperature":42}]}`},
		{"temperature/history?device_id=9", `{"available":false,"error":"Invalid device_id: 9"}`},
		{"temperature/history?device_id=-1", `{"available":false,"error":"Invalid device_id: -1"}`},
		{"temperature/history?device_id=99999999999999999999", `{"available":false,"error":"Invalid device_id: 99999999999999999999"}`},
		{"temperature/max", `{"available":true,"max_temperatures":{"0":{"max_temperature_c":44,"avg_temperature_c":42.33,"readings_count":3},"1":{"max_temperature_c":null,"avg_temperature_c":null,"readings_count":0}}}`},
	} {
		r := a.ask("GET", "/api/v1/system/gpu/"+test.path, "")
		if diff := cmp.Diff(test.want, strings.TrimSpace(string(r.body))); r.status != 200 || diff != "" {
			t.Errorf("%s: %d (-want +got)\n%s", test.path, r.status, diff)
		}
	}
	for _, bad := range []string{"abc", "1.0", "-", "%zz"} {
		if r := a.ask("GET", "/api/v1/system/gpu/temperature/history?device_id="+bad, ""); r.status != 400 || !strings.HasPrefix(r.message(), "detail: device_id") {
			t.Errorf("%s: %d %s", bad, r.status, r.body)
		}
	}
	a.set(func() { a.inventory, a.snapshot = &gpu.Inventory{Problems: []string{"no driver"}}, &gpu.Snapshot{} })
	for _, path := range []string{"temperature", "status", "temperature/history", "temperature/history?device_id=0", "temperature/max"} {
		if r := a.ask("GET", "/api/v1/system/gpu/"+path, ""); r.status != 200 || strings.TrimSpace(string(r.body)) != `{"available":false,"error":"No GPU detected: no driver"}` {
			t.Errorf("%s without a GPU: %d %s", path, r.status, r.body)
		}
	}
}

// Between a change of the devices and the next snapshot, positions in the snapshot mean other devices.
func TestReadingsOfOtherDevicesAreNotShown(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.set(func() {
		changed := *a.inventory
		changed.Revision++
		a.inventory = &changed
	})
	want := `"gpus":[{"device_id":0,"name":"Radeon Instinct MI25","temperature_c":null,"memory_total_gb":16.0,"memory_used_gb":null,"memory_reserved_gb":null,"state":"lost"},`
	if r := a.ask("GET", "/api/v1/system/gpu/temperature", ""); r.status != 200 || !strings.Contains(string(r.body), want) {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestHealthOfWhatIsNotMeasured(t *testing.T) {
	t.Parallel()
	m := measured{reading: gpu.Reading{State: gpu.StateStuck, AgeMilliseconds: 60000, Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 40}}}}
	if m.temperature() != nil {
		t.Error("a stuck device's old temperature counts as healthy")
	}
	m.reading.State = gpu.StateOK
	if m.temperature() == nil || *m.temperature() != 40 {
		t.Error("a measured one does not count")
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	shot := func(percents ...float64) *gpu.Snapshot {
		s := &gpu.Snapshot{}
		for _, percent := range percents {
			r := gpu.Reading{State: gpu.StateLost}
			if percent >= 0 {
				r = gpu.Reading{State: gpu.StateOK, MemoryTotalBytes: p(uint64(1000)), MemoryUsedBytes: p(uint64(percent * 10))}
			}
			s.GPUs = append(s.GPUs, r)
		}
		return s
	}
	for _, test := range []struct {
		shot         *gpu.Snapshot
		least, order string
	}{
		{shot(50, 10, 80, 30), "1", "[1,3,0,2]"}, {shot(-1, 12.5), "1", "[1,0]"}, {shot(20, 20, 20), "0", "[0,1,2]"}, {shot(), "null", "[]"},
	} {
		a.set(func() { a.snapshot = test.shot })
		if got := strings.TrimSpace(string(a.ask("GET", "/api/v1/devices/least-loaded", "").body)); got != `{"device_id":`+test.least+`}` {
			t.Errorf("least loaded: %s, want %s", got, test.least)
		}
		if got := strings.TrimSpace(string(a.ask("GET", "/api/v1/devices/by-load", "").body)); got != `{"device_ids":`+test.order+`}` {
			t.Errorf("by load: %s, want %s", got, test.order)
		}
	}
}

func TestReadyz(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if r := a.send("GET", "/readyz", ""); r.status != 200 {
		t.Errorf("%d", r.status)
	}
	a.set(func() { a.ready = errNotMeasured })
	if r := a.send("GET", "/readyz", ""); r.status != 503 || !strings.Contains(r.message(), "not_ready") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := a.send("GET", "/healthz", ""); r.status != 200 {
		t.Errorf("alive all the same: %d", r.status)
	}
}
