// Package gpu holds the nouns of telemetry: what a device is, what it reported at one instant, and what follows from the two
// by pure functions (order by load, health, totals).
//
// It is a leaf: it imports only the standard library and compiles for js/wasm, so that the agent and the app share it.
package gpu

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Vendor names the maker of a device, in lower case.
type Vendor string

// The vendors that muster has readers for.
const (
	NVIDIA Vendor = "nvidia"
	AMD    Vendor = "amd"
	Intel  Vendor = "intel"
)

// Ref is the device_id of the API: the rank of a physical device by PCI address over all vendors, or CPU.
// In JSON it is an integer, or the string "cpu".
type Ref int

// CPU is the device_id of work that the processor did.
const CPU Ref = -1

// String gives "cpu" or the decimal rank.
func (r Ref) String() string {
	if r == CPU {
		return "cpu"
	}
	return strconv.Itoa(int(r))
}

// MarshalJSON writes an integer, or "cpu".
func (r Ref) MarshalJSON() ([]byte, error) {
	if r == CPU {
		return []byte(`"cpu"`), nil
	}
	return strconv.AppendInt(nil, int64(r), 10), nil
}

// UnmarshalJSON takes an integer of at least 0, or "cpu"; null changes nothing, as usual.
func (r *Ref) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if string(b) == `"cpu"` {
		*r = CPU
		return nil
	}
	var n int
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf(`device_id %s: want an integer of 0 or more, or "cpu"`, b)
	}
	if n < 0 {
		return fmt.Errorf(`device_id %d: want an integer of 0 or more, or "cpu"`, n)
	}
	*r = Ref(n)
	return nil
}

// Label is how people read the device: "Device 0", or "CPU".
func (r Ref) Label() string {
	if r == CPU {
		return "CPU"
	}
	return "Device " + r.String()
}

// Device is what does not change while a device is there. Values are never changed after publishing.
type Device struct {
	// ID is stable over reboots: the NVML UUID, "GPU-" and the 16 hex digits of AMD's unique id, else "pci-" and the address.
	ID string `json:"id"`
	// Index is the rank by PCI address over all vendors: the device_id of the API.
	Index Ref `json:"device_id"`
	// VendorIndex is the vendor's own number (NVML index, HIP rank by KFD node id); nil where there is none.
	VendorIndex *int   `json:"vendor_index,omitempty"`
	Vendor      Vendor `json:"vendor"`
	Name        string `json:"name"`
	// PCIAddress is domain:bus:device.function in lower-case hex, "0000:1a:00.0".
	PCIAddress string `json:"pci_address,omitempty"`
	// Arch is the compiler's target: "sm_90", "gfx900"; "" when not reported.
	Arch string `json:"arch,omitempty"`
	// ComputeCapability is major.minor as PyTorch shows it ("9.0" for gfx900 and sm_90); "" when not reported.
	ComputeCapability string `json:"compute_capability,omitempty"`
	// MultiprocessorCount is as PyTorch shows it: SMs; compute units on GCN and CDNA; half of them on RDNA. nil when not reported.
	MultiprocessorCount *int `json:"multi_processor_count,omitempty"`
	// MemoryBytes is the device's own memory; nil when not reported.
	MemoryBytes *uint64 `json:"memory_bytes,omitempty"`
	// Unified says that the device computes in the machine's main memory (APUs, Jetson, GB10).
	Unified bool `json:"unified,omitempty"`
	// DriverVersion is the kernel driver's; "" when not reported.
	DriverVersion string `json:"driver_version,omitempty"`
	// FirmwareVersion is that of the video BIOS; SerialNumber the board's or the chip's. "" when not reported.
	FirmwareVersion string `json:"firmware_version,omitempty"`
	SerialNumber    string `json:"serial_number,omitempty"`
	// PartitionMode is how the device is divided ("MIG", "CPX/NPS4"); "" when it can't be or is not.
	PartitionMode string `json:"partition_mode,omitempty"`
	// Limits are the ends of the device's scales; nil when none is reported.
	Limits *Limits `json:"limits,omitempty"`
	// Simulated says that no such device exists in this machine. Every view of it must say so.
	Simulated bool `json:"simulated,omitempty"`
	// Sources says by field name (as in JSON, of Device and Reading) which driver or file a value came from. It stands here and
	// not in the Reading because it changes as rarely as the inventory does.
	Sources map[string]string `json:"sources,omitempty"`
	// Absent says by field name, as Sources does, why a value is not there, as far as that does not change from tick to tick.
	Absent map[string]Absence `json:"absent,omitempty"`
	// Partitions are the MIG instances or AMD partitions of a physical device, placed by ID.
	Partitions []Device `json:"partitions,omitempty"`
	// Error says why the device could not be described; "" when it could. Such a device stays in every list.
	Error string `json:"error,omitempty"`
}

// Limits are what a device is built or set for. nil means not reported.
type Limits struct {
	// SlowdownCelsius is where the device begins to slow down, ShutdownCelsius where it switches itself off, both at the sensor
	// that stands for it; MemoryCelsius is where the memory gets too hot.
	SlowdownCelsius *float64 `json:"slowdown_celsius,omitempty"`
	ShutdownCelsius *float64 `json:"shutdown_celsius,omitempty"`
	MemoryCelsius   *float64 `json:"memory_celsius,omitempty"`
	// The power limit may be set between PowerMinWatts and PowerMaxWatts; PowerDefaultWatts is what the maker set.
	PowerMinWatts     *float64 `json:"power_min_watts,omitempty"`
	PowerMaxWatts     *float64 `json:"power_max_watts,omitempty"`
	PowerDefaultWatts *float64 `json:"power_default_watts,omitempty"`
	// The highest clocks.
	CoreClockMHz   *float64 `json:"core_clock_mhz,omitempty"`
	MemoryClockMHz *float64 `json:"memory_clock_mhz,omitempty"`
	// The fastest link that device and slot can agree on.
	PCIeGeneration *int `json:"pcie_generation,omitempty"`
	PCIeWidth      *int `json:"pcie_width,omitempty"` // lanes
}

// Adapter is a display adapter that no GPU driver serves (a BMC, an unsupported card). It is never numbered and takes no work.
type Adapter struct {
	PCIAddress string `json:"pci_address"`
	Name       string `json:"name"`
	Driver     string `json:"driver,omitempty"`
}

// Host is what does not change of the machine while the agent runs, versions included. "" means not found.
type Host struct {
	Name        string `json:"name"`
	Platform    string `json:"platform"` // GOOS: "linux"
	CPUModel    string `json:"cpu_model,omitempty"`
	CPUCount    int    `json:"cpu_count"`
	MemoryBytes uint64 `json:"memory_bytes"`
	// ROCmVersion is the system's ("5.7.0-63"); HIPVersion the system's HIP ("5.7.31921-d1770ee1b").
	ROCmVersion string `json:"rocm_version,omitempty"`
	HIPVersion  string `json:"hip_version,omitempty"`
	// CUDAVersion is the newest that the NVIDIA driver supports ("12.4").
	CUDAVersion   string `json:"cuda_version,omitempty"`
	NVMLVersion   string `json:"nvml_version,omitempty"`
	NVIDIADriver  string `json:"nvidia_driver,omitempty"`
	AMDGPUDriver  string `json:"amdgpu_driver,omitempty"`
	KernelVersion string `json:"kernel_version,omitempty"`
	// Torch is the PyTorch found without running Python; nil when there is none.
	Torch *Torch `json:"torch,omitempty"`
}

// Torch is what torch/version.py says.
type Torch struct {
	Version string `json:"version"`        // "2.3.1+rocm5.7"
	HIP     string `json:"hip,omitempty"`  // "5.7.31921-d1770ee1b"; "" unless it is a ROCm build
	CUDA    string `json:"cuda,omitempty"` // "12.1"; "" unless it is a CUDA build
	Path    string `json:"path,omitempty"`
}

// Inventory is everything static. Revision rises whenever any of it changes.
type Inventory struct {
	Revision uint64   `json:"revision"`
	Host     Host     `json:"host"`
	Devices  []Device `json:"devices"` // Devices[i].Index == i
	// OtherAdapters are never counted as devices.
	OtherAdapters []Adapter `json:"other_adapters,omitempty"`
	// Problems are sentences for people about readers that could not work at all ("NVIDIA driver and library differ: reboot").
	Problems []string `json:"problems,omitempty"`
}

// Simulated says whether any device of the inventory is simulated.
func (inv Inventory) Simulated() bool {
	for _, d := range inv.Devices {
		if d.Simulated {
			return true
		}
	}
	return false
}

// Device gives the device of that rank; false for CPU and for ranks that do not exist.
func (inv Inventory) Device(ref Ref) (Device, bool) {
	if ref < 0 || int(ref) >= len(inv.Devices) {
		return Device{}, false
	}
	return inv.Devices[ref], true
}

// TotalMemoryBytes sums the devices' own memory; devices that did not report it count as nothing.
func (inv Inventory) TotalMemoryBytes() uint64 {
	var sum uint64
	for _, d := range inv.Devices {
		if d.MemoryBytes != nil {
			sum += *d.MemoryBytes
		}
	}
	return sum
}
