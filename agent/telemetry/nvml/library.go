//go:build cgo

package nvml

import (
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// This is the only file that may call NVML. go-nvml binds lazily: calling a function that the installed library lacks ends the
// process ("symbol lookup error", no panic). So every method that calls one begins with
//
//	if !l.has("nvmlDeviceGetName") { return …, functionNotFound }
//
// naming every C symbol that go-nvml may choose for it. A test parses this file and go-nvml and compares.
// Results are our own status, because formatting go-nvml's calls into the library too.

// library is one loaded libnvidia-ml. Methods are safe for several goroutines, and hold no lock while NVML works.
type library struct {
	api nvml.Interface
	own *dl.DynamicLibrary // keeps the library mapped whatever go-nvml closes: calls that hang may still be inside

	mu      sync.Mutex
	symbols map[string]bool // present; replaced by each init
	calls   int             // entered and not left
	closed  bool            // init is working
	epoch   int             // counts inits: handles of an older one are void
}

// handle names a device to NVML, until the next init.
type handle struct{ device nvml.Device }

// libraryPaths are tried in this order: the dynamic linker's, WSL's, containers', NixOS's.
var libraryPaths = []string{"libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
	"/run/opengl-driver/lib/libnvidia-ml.so.1"}

// load opens the library, without initialising it; nil when there is none. path "" tries libraryPaths.
func load(path string) *library {
	paths := libraryPaths
	if path != "" {
		paths = []string{path}
	}
	for _, path := range paths {
		own := dl.New(path, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		if own.Open() == nil {
			return &library{api: nvml.New(nvml.WithLibraryPath(path)), own: own}
		}
	}
	return nil
}

// has says whether the library exports one of the symbols.
func (l *library) has(names ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		present, known := l.symbols[name]
		if !known {
			present = l.own.Lookup(name) == nil
			if l.symbols == nil {
				l.symbols = map[string]bool{}
			}
			l.symbols[name] = present
		}
		if present {
			return true
		}
	}
	return false
}

// enter begins a series of calls; false while init works. leave ends it.
func (l *library) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.calls++
	return true
}

// current gives the epoch; it doesn't change between enter and leave.
func (l *library) current() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

func (l *library) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls--
}

// init connects to the driver, anew when again is true. It gives inUse, and does nothing, while calls are inside the library:
// closing it under a call that hangs could hang the GPU too.
func (l *library) init(again bool) status {
	l.mu.Lock()
	if l.calls > 0 || l.closed {
		l.mu.Unlock()
		return inUse
	}
	l.closed, l.symbols = true, nil
	l.epoch++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = false
	}()
	if again {
		l.shutdown()
	}
	return l.initialise()
}

func (l *library) initialise() status {
	if !l.has("nvmlInit", "nvmlInit_v2") {
		return functionNotFound
	}
	return status(l.api.Init())
}

func (l *library) shutdown() status {
	if !l.has("nvmlShutdown") {
		return functionNotFound
	}
	return status(l.api.Shutdown())
}

func (l *library) driverVersion() (string, status) {
	if !l.has("nvmlSystemGetDriverVersion") {
		return "", functionNotFound
	}
	v, ret := l.api.SystemGetDriverVersion()
	return v, status(ret)
}

func (l *library) nvmlVersion() (string, status) {
	if !l.has("nvmlSystemGetNVMLVersion") {
		return "", functionNotFound
	}
	v, ret := l.api.SystemGetNVMLVersion()
	return v, status(ret)
}

// cudaVersion uses the getter without suffix: _v2 asks libcuda, which containers with utilities only don't have.
func (l *library) cudaVersion() (int, status) {
	if !l.has("nvmlSystemGetCudaDriverVersion") {
		return 0, functionNotFound
	}
	v, ret := l.api.SystemGetCudaDriverVersion()
	return v, status(ret)
}

func (l *library) count() (int, status) {
	if !l.has("nvmlDeviceGetCount", "nvmlDeviceGetCount_v2") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetCount()
	return n, status(ret)
}

func (l *library) byIndex(i int) (handle, status) {
	if !l.has("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByIndex_v2") {
		return handle{}, functionNotFound
	}
	d, ret := l.api.DeviceGetHandleByIndex(i)
	return handle{d}, status(ret)
}

func (l *library) uuid(h handle) (string, status) {
	if !l.has("nvmlDeviceGetUUID") {
		return "", functionNotFound
	}
	v, ret := l.api.DeviceGetUUID(h.device)
	return v, status(ret)
}

func (l *library) name(h handle) (string, status) {
	if !l.has("nvmlDeviceGetName") {
		return "", functionNotFound
	}
	v, ret := l.api.DeviceGetName(h.device)
	return v, status(ret)
}

// busID gives the address as NVML writes it: "00000000:1A:00.0".
func (l *library) busID(h handle) (string, status) {
	if !l.has("nvmlDeviceGetPciInfo", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo_v3") {
		return "", functionNotFound
	}
	info, ret := l.api.DeviceGetPciInfo(h.device)
	if text := cString(info.BusId[:]); text != "" {
		return text, status(ret)
	}
	return cString(info.BusIdLegacy[:]), status(ret)
}

func cString(b []int8) string {
	text := make([]byte, 0, len(b))
	for _, c := range b {
		if c == 0 {
			break
		}
		text = append(text, byte(c))
	}
	return string(text)
}

// computeCapability gives major, minor.
func (l *library) computeCapability(h handle) (capability, status) {
	if !l.has("nvmlDeviceGetCudaComputeCapability") {
		return capability{}, functionNotFound
	}
	major, minor, ret := l.api.DeviceGetCudaComputeCapability(h.device)
	return capability{major, minor}, status(ret)
}

func (l *library) cores(h handle) (int, status) {
	if !l.has("nvmlDeviceGetNumGpuCores") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetNumGpuCores(h.device)
	return n, status(ret)
}

func (l *library) memory(h handle) (memory, status) {
	if !l.has("nvmlDeviceGetMemoryInfo") {
		return memory{}, functionNotFound
	}
	m, ret := l.api.DeviceGetMemoryInfo(h.device)
	return memory{total: m.Total, used: m.Used}, status(ret)
}

// memoryV2 counts what the driver reserves apart from what is used.
func (l *library) memoryV2(h handle) (memory, status) {
	if !l.has("nvmlDeviceGetMemoryInfo_v2") {
		return memory{}, functionNotFound
	}
	m, ret := l.api.DeviceGetMemoryInfo_v2(h.device)
	return memory{total: m.Total, used: m.Used, reserved: m.Reserved, hasReserved: true}, status(ret)
}

// utilization gives percent of time: of the device, of its memory.
func (l *library) utilization(h handle) (device, memory uint32, s status) {
	if !l.has("nvmlDeviceGetUtilizationRates") {
		return 0, 0, functionNotFound
	}
	u, ret := l.api.DeviceGetUtilizationRates(h.device)
	return u.Gpu, u.Memory, status(ret)
}

// celsius reads the sensor of the GPU itself.
func (l *library) celsius(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetTemperature") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetTemperature(h.device, nvml.TEMPERATURE_GPU)
	return v, status(ret)
}

func (l *library) milliwatts(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPowerUsage") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPowerUsage(h.device)
	return v, status(ret)
}

func (l *library) enforcedLimit(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetEnforcedPowerLimit") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetEnforcedPowerLimit(h.device)
	return v, status(ret)
}

func (l *library) managementLimit(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetPowerManagementLimit") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetPowerManagementLimit(h.device)
	return v, status(ret)
}

func (l *library) coreMHz(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetClockInfo") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetClockInfo(h.device, nvml.CLOCK_SM)
	return v, status(ret)
}

func (l *library) memoryMHz(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetClockInfo") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetClockInfo(h.device, nvml.CLOCK_MEM)
	return v, status(ret)
}

func (l *library) fanPercent(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetFanSpeed") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetFanSpeed(h.device)
	return v, status(ret)
}

func (l *library) linkGeneration(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetCurrPcieLinkGeneration") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrPcieLinkGeneration(h.device)
	return uint32(v), status(ret)
}

func (l *library) linkWidth(h handle) (uint32, status) {
	if !l.has("nvmlDeviceGetCurrPcieLinkWidth") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrPcieLinkWidth(h.device)
	return uint32(v), status(ret)
}

// eventReasons is what drivers since 535 call throttleReasons.
func (l *library) eventReasons(h handle) (uint64, status) {
	if !l.has("nvmlDeviceGetCurrentClocksEventReasons") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrentClocksEventReasons(h.device)
	return v, status(ret)
}

func (l *library) throttleReasons(h handle) (uint64, status) {
	if !l.has("nvmlDeviceGetCurrentClocksThrottleReasons") {
		return 0, functionNotFound
	}
	v, ret := l.api.DeviceGetCurrentClocksThrottleReasons(h.device)
	return v, status(ret)
}

// split says whether the device is divided into MIG instances now.
func (l *library) split(h handle) (bool, status) {
	if !l.has("nvmlDeviceGetMigMode") {
		return false, functionNotFound
	}
	current, _, ret := l.api.DeviceGetMigMode(h.device)
	return current == nvml.DEVICE_MIG_ENABLE, status(ret)
}

// maxInstances bounds the index of instance.
func (l *library) maxInstances(h handle) (int, status) {
	if !l.has("nvmlDeviceGetMaxMigDeviceCount") {
		return 0, functionNotFound
	}
	n, ret := l.api.DeviceGetMaxMigDeviceCount(h.device)
	return n, status(ret)
}

func (l *library) instance(h handle, i int) (handle, status) {
	if !l.has("nvmlDeviceGetMigDeviceHandleByIndex") {
		return handle{}, functionNotFound
	}
	d, ret := l.api.DeviceGetMigDeviceHandleByIndex(h.device, i)
	return handle{d}, status(ret)
}

// attributes gives an instance's multiprocessors and memory in bytes.
func (l *library) attributes(h handle) (multiprocessors int, bytes uint64, s status) {
	if !l.has("nvmlDeviceGetAttributes", "nvmlDeviceGetAttributes_v2") {
		return 0, 0, functionNotFound
	}
	a, ret := l.api.DeviceGetAttributes(h.device)
	return int(a.MultiprocessorCount), a.MemorySizeMB << 20, status(ret)
}
