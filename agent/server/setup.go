package server

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// gigabytes is a size in GiB as the earlier system wrote it: a float, so a whole number keeps its ".0".
type gigabytes float64

// MarshalJSON writes 16.0, 15.98 and 0.
func (g gigabytes) MarshalJSON() ([]byte, error) {
	text := strconv.AppendFloat(nil, float64(g), 'f', -1, 64)
	if g != 0 && float64(g) == math.Trunc(float64(g)) {
		text = append(text, ".0"...)
	}
	return text, nil
}

func gib(bytes uint64) gigabytes { return gigabytes(gpu.RoundGiB(bytes)) }

// gibOf is gib of what may not be reported.
func gibOf(bytes *uint64) *gigabytes {
	if bytes == nil {
		return nil
	}
	g := gib(*bytes)
	return &g
}

// orNil gives nil, null in JSON, for what was not found.
func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// setupStatus is the answer of GET /api/v1/setup/ai-models/status. Names, units and order are those of the earlier system; what
// it did not have is left out where there is nothing to say.
type setupStatus struct {
	System          setupSystem  `json:"system"`
	ModelsDirectory string       `json:"models_directory"`
	InstalledModels []setupModel `json:"installed_models"` // those with a file
	LoadedModels    int          `json:"loaded_models_count"`
	TotalModels     int          `json:"total_models_count"`
	AvailableModels []setupModel `json:"available_models"` // those that a device can use now
	Simulated       bool         `json:"simulated,omitempty"`
	Problems        []string     `json:"problems,omitempty"`
}

type setupSystem struct {
	Platform         string         `json:"platform"`
	GPUAvailable     bool           `json:"gpu_available"`
	GPUType          string         `json:"gpu_type"` // "cuda", "rocm" or "cpu"
	GPUCount         int            `json:"gpu_count"`
	GPUName          *string        `json:"gpu_name"` // of the first device, for old clients
	GPUDevices       []listedDevice `json:"gpu_devices"`
	TotalGPUMemoryGB gigabytes      `json:"total_gpu_memory_gb"`
	MultiGPU         bool           `json:"multi_gpu"`
	ROCmVersion      *string        `json:"rocm_version"`
	IsROCmBuild      bool           `json:"is_rocm_build"`
	TorchInstalled   bool           `json:"torch_installed"`
	TorchVersion     *string        `json:"torch_version"`
	// OtherAdapters are displays without a GPU driver: never among the devices.
	OtherAdapters []gpu.Adapter `json:"other_adapters"`
}

// listedDevice is a setupDevice or an unreadableDevice.
type listedDevice any

type setupDevice struct {
	DeviceID            gpu.Ref    `json:"device_id"`
	Name                string     `json:"name"`
	TotalMemoryGB       *gigabytes `json:"total_memory_gb"`
	ComputeCapability   *string    `json:"compute_capability"`
	MultiprocessorCount *int       `json:"multi_processor_count"`
	Vendor              gpu.Vendor `json:"vendor"`
	Simulated           bool       `json:"simulated,omitempty"`
}

// unreadableDevice stays in the list in place of a device that can't be described.
type unreadableDevice struct {
	DeviceID      gpu.Ref    `json:"device_id"`
	Name          string     `json:"name"`
	TotalMemoryGB gigabytes  `json:"total_memory_gb"`
	Error         string     `json:"error"`
	Vendor        gpu.Vendor `json:"vendor,omitempty"`
}

type setupModel struct {
	Name   string    `json:"name"`
	Title  string    `json:"title"`
	SizeGB gigabytes `json:"size_gb"`
	// Of files of the library only.
	Family  model.Family `json:"family,omitempty"`
	Enabled *bool        `json:"enabled,omitempty"`
	Problem string       `json:"problem,omitempty"` // why it can't be used; "" when it can
}

// setupStatus answers GET /api/v1/setup/ai-models/status and its alias.
func (s *Server) setupStatus(w http.ResponseWriter, r *http.Request) error {
	inventory := s.awaitInventory(r.Context())
	if inventory == nil {
		return errNotMeasured
	}
	library := model.Library{Dir: s.config.ModelsDir}
	if s.config.Library != nil {
		library = s.config.Library.Library()
	}
	writeJSON(w, http.StatusOK, statusOf(*inventory, s.config.Capacity(), library))
	return nil
}

// statusOf is pure: the answer follows from what is there.
func statusOf(inventory gpu.Inventory, capacity wire.Capacity, library model.Library) setupStatus {
	status := setupStatus{
		System: systemOf(inventory), ModelsDirectory: library.Dir, InstalledModels: []setupModel{}, AvailableModels: []setupModel{},
		LoadedModels: loadedModels(capacity), Simulated: inventory.Simulated(), Problems: inventory.Problems,
	}
	files := map[string]bool{}
	for _, m := range library.Models {
		files[m.Name] = true
		status.InstalledModels = append(status.InstalledModels, setupModel{
			Name: m.Name, Title: m.Title, SizeGB: gib(uint64(max(0, m.Bytes))), Family: m.Family, Enabled: new(!m.Disabled), Problem: m.Problem,
		})
	}
	for _, m := range capacity.Models {
		shown := setupModel{Name: m.Name, Title: m.Title, SizeGB: gib(uint64(max(0, m.Bytes)))}
		status.AvailableModels = append(status.AvailableModels, shown)
		if m.Bytes > 0 && !files[m.Name] {
			status.InstalledModels = append(status.InstalledModels, shown)
		}
		if !files[m.Name] {
			status.TotalModels++
		}
	}
	status.TotalModels += len(library.Models)
	return status
}

// loadedModels counts the models that are resident on any device.
func loadedModels(capacity wire.Capacity) int {
	loaded := map[string]bool{}
	for _, slot := range capacity.Slots {
		if slot.Loaded != "" {
			loaded[slot.Loaded] = true
		}
	}
	return len(loaded)
}

func systemOf(inventory gpu.Inventory) setupSystem {
	host, devices := inventory.Host, inventory.Devices
	system := setupSystem{
		Platform: host.Platform, GPUAvailable: len(devices) > 0, GPUType: gpuType(devices), GPUCount: len(devices), GPUDevices: []listedDevice{},
		TotalGPUMemoryGB: gib(inventory.TotalMemoryBytes()), MultiGPU: len(devices) > 1,
		OtherAdapters: append([]gpu.Adapter{}, inventory.OtherAdapters...),
	}
	if host.Torch != nil {
		system.TorchInstalled = true
		system.TorchVersion = orNil(host.Torch.Version)
		system.IsROCmBuild = host.Torch.HIP != "" || strings.Contains(host.Torch.Version, "+rocm")
	}
	for _, d := range devices {
		system.GPUDevices = append(system.GPUDevices, deviceEntry(d))
	}
	if len(devices) > 0 {
		name := deviceName(devices[0])
		system.GPUName = &name
		system.ROCmVersion = orNil(rocmVersion(host))
	}
	return system
}

const unknownName = "Unknown GPU"

func deviceName(d gpu.Device) string {
	if d.Error != "" || d.Name == "" {
		return unknownName
	}
	return d.Name
}

func deviceEntry(d gpu.Device) any {
	if d.Error != "" {
		return unreadableDevice{DeviceID: d.Index, Name: deviceName(d), Error: d.Error, Vendor: d.Vendor}
	}
	return setupDevice{
		DeviceID: d.Index, Name: deviceName(d), TotalMemoryGB: gibOf(d.MemoryBytes), ComputeCapability: orNil(d.ComputeCapability),
		MultiprocessorCount: d.MultiprocessorCount, Vendor: d.Vendor, Simulated: d.Simulated,
	}
}

// gpuType is the type of most devices; ties go to cuda.
func gpuType(devices []gpu.Device) string {
	count := map[gpu.Vendor]int{}
	for _, d := range devices {
		count[d.Vendor]++
	}
	switch cuda, rocm := count[gpu.NVIDIA], count[gpu.AMD]; {
	case cuda == 0 && rocm == 0:
		return "cpu"
	case cuda >= rocm:
		return "cuda"
	default:
		return "rocm"
	}
}

// rocmVersion is the HIP version of the PyTorch found, else the system's, else the system's ROCm; "" when there is none.
func rocmVersion(host gpu.Host) string {
	switch {
	case host.Torch != nil && host.Torch.HIP != "":
		return host.Torch.HIP
	case host.HIPVersion != "":
		return host.HIPVersion
	default:
		return host.ROCmVersion
	}
}
