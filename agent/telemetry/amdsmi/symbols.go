package amdsmi

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ebitengine/purego"
)

// handle is a socket or processor of the library: an address that only it understands.
type handle uintptr

// symbols are the functions of the library, found one by one when it was opened. One that it lacks answers functionMissing, so
// that each may be called. Source: amdsmi.h; none of these signatures changed from ROCm 5.7 to 7.14.
type symbols struct {
	path    string
	missing []string

	init           func(flags uint64) status
	shutDown       func() status
	getVersion     func(version *byte) status
	getSockets     func(count *uint32, list *handle) status
	getProcessors  func(socket handle, count *uint32, list *handle) status
	getType        func(h handle, kind *uint32) status
	getAddress     func(h handle, bdf *uint64) status
	getAsic        func(h handle, info *byte) status
	getEnumeration func(h handle, info *byte) status
	getDriver      func(h handle, info *byte) status
	getMemory      func(h handle, info *byte) status
	getActivity    func(h handle, info *byte) status
	getTemperature func(h handle, sensor, metric uint32, celsius *int64) status
	getPower       func(h handle, info *byte) status
	getPowerCap    func(h handle, sensor uint32, info *byte) status
	getClock       func(h handle, clock uint32, info *byte) status
	getFanRPM      func(h handle, sensor uint32, rpm *int64) status
	getFanSpeed    func(h handle, sensor uint32, speed *int64) status
	getFanSpeedMax func(h handle, sensor uint32, speed *uint64) status
	getPCIe        func(h handle, info *byte) status
	getProcesses   func(h handle, count *uint32, list *byte) status
	getEnergy      func(h handle, counter *uint64, resolution *float32, nanoseconds *uint64) status
	getECCEnabled  func(h handle, blocks *uint64) status
	getECC         func(h handle, counts *byte) status
}

// Names of the functions that more than one place speaks of.
const (
	fnVersion     = "amdsmi_get_lib_version"
	fnAsic        = "amdsmi_get_gpu_asic_info"
	fnEnumeration = "amdsmi_get_gpu_enumeration_info"
	fnDriver      = "amdsmi_get_gpu_driver_info"
	fnMemory      = "amdsmi_get_gpu_vram_usage"
	fnActivity    = "amdsmi_get_gpu_activity"
	fnTemperature = "amdsmi_get_temp_metric"
	fnPower       = "amdsmi_get_power_info"
	fnPowerCap    = "amdsmi_get_power_cap_info"
	fnClock       = "amdsmi_get_clock_info"
	fnFanRPM      = "amdsmi_get_gpu_fan_rpms"
	fnFanSpeed    = "amdsmi_get_gpu_fan_speed"
	fnFanSpeedMax = "amdsmi_get_gpu_fan_speed_max"
	fnPCIe        = "amdsmi_get_pcie_info"
	fnProcesses   = "amdsmi_get_gpu_process_list"
	fnEnergy      = "amdsmi_get_energy_count"
	fnECCEnabled  = "amdsmi_get_gpu_ecc_enabled"
	fnECC         = "amdsmi_get_gpu_total_ecc_count"
)

// symbol is one function: its name in C, where it goes, and what its absence costs; "" when nothing works without it.
type symbol struct {
	name  string
	to    any
	costs string
}

func (s *symbols) table() []symbol {
	return []symbol{
		{"amdsmi_init", &s.init, ""},
		{"amdsmi_shut_down", &s.shutDown, "cards can't sleep again while muster runs"},
		{fnVersion, &s.getVersion, ""},
		{"amdsmi_get_socket_handles", &s.getSockets, ""},
		{"amdsmi_get_processor_handles", &s.getProcessors, ""},
		{"amdsmi_get_processor_type", &s.getType, "other processors can't be told from GPUs"},
		{"amdsmi_get_gpu_device_bdf", &s.getAddress, ""},
		{fnAsic, &s.getAsic, "names, serial numbers and compute units"},
		{fnEnumeration, &s.getEnumeration, "the index and UUID of HIP"},
		{fnDriver, &s.getDriver, "the driver's version"},
		{fnMemory, &s.getMemory, "memory"},
		{fnActivity, &s.getActivity, "utilisation"},
		{fnTemperature, &s.getTemperature, "temperatures"},
		{fnPower, &s.getPower, "power"},
		{fnPowerCap, &s.getPowerCap, "power limits"},
		{fnClock, &s.getClock, "clocks"},
		{fnFanRPM, &s.getFanRPM, "the fan's speed"},
		{fnFanSpeed, &s.getFanSpeed, "the fan's share of its speed"},
		{fnFanSpeedMax, &s.getFanSpeedMax, "the fan's share of its speed"},
		{fnPCIe, &s.getPCIe, "the PCIe link"},
		{fnProcesses, &s.getProcesses, "names of processes"},
		{fnEnergy, &s.getEnergy, "energy"},
		{fnECCEnabled, &s.getECCEnabled, "errors of memory"},
		{fnECC, &s.getECC, "errors of memory"},
	}
}

// open loads the library at a path and looks its functions up. RTLD_NOW, so that what the library itself lacks is an error here
// and not the end of the process later.
func open(path string) (*symbols, error) {
	library, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, trouble{fmt.Sprintf("%s can't be loaded: %v", path, err), "install what it lacks, or name another library with --amdsmi"}
	}
	s := &symbols{path: path}
	var lacking []string
	for _, symbol := range s.table() {
		address, err := purego.Dlsym(library, symbol.name)
		if err == nil && address != 0 {
			purego.RegisterFunc(symbol.to, address)
			continue
		}
		answerMissing(symbol.to)
		s.missing = append(s.missing, symbol.name)
		if symbol.costs == "" {
			lacking = append(lacking, symbol.name)
		}
	}
	if len(lacking) > 0 {
		return nil, trouble{fmt.Sprintf("%s is no AMD SMI that muster can use: it lacks %s", path, strings.Join(lacking, ", ")), "name the right libamd_smi.so with --amdsmi"}
	}
	return s, nil
}

// has says whether the library has the function of that name.
func (s *symbols) has(name string) bool { return !slices.Contains(s.missing, name) }

// answerMissing puts a function in place that only says that it isn't there.
func answerMissing(to any) {
	function := reflect.ValueOf(to).Elem()
	function.Set(reflect.MakeFunc(function.Type(), func([]reflect.Value) []reflect.Value {
		return []reflect.Value{reflect.ValueOf(functionMissing)}
	}))
}
