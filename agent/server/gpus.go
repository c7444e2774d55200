package server

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"muster/shared/gpu"
)

// unavailable is what the telemetry routes of the earlier system say with status 200.
type unavailable struct {
	Available bool   `json:"available"`
	Error     string `json:"error"`
}

type gpuList[T any] struct {
	Available bool      `json:"available"`
	Count     int       `json:"gpu_count"`
	Timestamp time.Time `json:"timestamp"`
	GPUs      []T       `json:"gpus"`
}

type temperatureOfGPU struct {
	DeviceID         gpu.Ref    `json:"device_id"`
	Name             string     `json:"name"`
	TemperatureC     *float64   `json:"temperature_c"`
	MemoryTotalGB    *gigabytes `json:"memory_total_gb"`
	MemoryUsedGB     *gigabytes `json:"memory_used_gb"`
	MemoryReservedGB *gigabytes `json:"memory_reserved_gb"`
	State            gpu.State  `json:"state"`
	Simulated        bool       `json:"simulated,omitempty"`
}

type statusOfGPU struct {
	DeviceID            gpu.Ref     `json:"device_id"`
	Name                string      `json:"name"`
	TemperatureC        *float64    `json:"temperature_c"`
	HealthStatus        gpu.Health  `json:"health_status"`
	Memory              memoryOfGPU `json:"memory"`
	ComputeCapability   *string     `json:"compute_capability"`
	MultiprocessorCount *int        `json:"multi_processor_count"`
	State               gpu.State   `json:"state"`
	Simulated           bool        `json:"simulated,omitempty"`
}

type memoryOfGPU struct {
	TotalGB            *gigabytes `json:"total_gb"`
	UsedGB             *gigabytes `json:"used_gb"`
	FreeGB             *gigabytes `json:"free_gb"`
	ReservedGB         *gigabytes `json:"reserved_gb"`
	UtilizationPercent *float64   `json:"utilization_percent"`
}

// measured is a device and what it reported, side by side.
type measured struct {
	device  gpu.Device
	reading gpu.Reading
}

// measured gives every device with its newest reading. errAnswered: a machine without GPUs was answered already.
func (s *Server) measured(w http.ResponseWriter, r *http.Request) ([]measured, time.Time, error) {
	inventory, snapshot := s.awaitInventory(r.Context()), s.config.Snapshot()
	if inventory == nil || snapshot == nil {
		return nil, time.Time{}, errNotMeasured
	}
	if len(inventory.Devices) == 0 {
		writeJSON(w, http.StatusOK, unavailable{Error: noGPU(*inventory)})
		return nil, time.Time{}, errAnswered
	}
	all := make([]measured, len(inventory.Devices))
	for i, d := range inventory.Devices {
		all[i] = measured{device: d, reading: gpu.Reading{Index: d.Index, State: gpu.StateLost}}
		if snapshot.Revision == inventory.Revision && i < len(snapshot.GPUs) { // else a device came or went: positions mean others
			all[i].reading = snapshot.GPUs[i]
		}
		if all[i].reading.MemoryTotalBytes == nil {
			all[i].reading.MemoryTotalBytes = d.MemoryBytes
		}
	}
	return all, snapshot.Time.UTC(), nil
}

func noGPU(inventory gpu.Inventory) string {
	return strings.Join(append([]string{"No GPU detected"}, inventory.Problems...), ": ")
}

// temperature is the device's, nil when it is not measured now: an old value says nothing about its health.
func (m measured) temperature() *float64 {
	if !m.reading.State.Usable() {
		return nil
	}
	return m.reading.TemperatureCelsius()
}

func (m measured) memory() memoryOfGPU {
	r := m.reading
	memory := memoryOfGPU{TotalGB: gibOf(r.MemoryTotalBytes), UsedGB: gibOf(r.MemoryUsedBytes), FreeGB: gibOf(r.MemoryFreeBytes()), ReservedGB: gibOf(r.MemoryReservedBytes)}
	if r.MemoryTotalBytes != nil && r.MemoryUsedBytes != nil && *r.MemoryTotalBytes > 0 {
		percent := round2(float64(*r.MemoryUsedBytes) / float64(*r.MemoryTotalBytes) * 100)
		memory.UtilizationPercent = &percent
	}
	return memory
}

func round2(v float64) float64 { return math.Round(v*100) / 100 }

// gpuTemperature answers GET /api/v1/system/gpu/temperature.
func (s *Server) gpuTemperature(w http.ResponseWriter, r *http.Request) error {
	all, at, err := s.measured(w, r)
	if err != nil {
		return err
	}
	list := gpuList[temperatureOfGPU]{Available: true, Count: len(all), Timestamp: at}
	for _, m := range all {
		list.GPUs = append(list.GPUs, temperatureOfGPU{
			DeviceID: m.device.Index, Name: deviceName(m.device), TemperatureC: m.temperature(), MemoryTotalGB: gibOf(m.reading.MemoryTotalBytes),
			MemoryUsedGB: gibOf(m.reading.MemoryUsedBytes), MemoryReservedGB: gibOf(m.reading.MemoryReservedBytes),
			State: m.reading.State, Simulated: m.device.Simulated,
		})
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

// gpuStatus answers GET /api/v1/system/gpu/status.
func (s *Server) gpuStatus(w http.ResponseWriter, r *http.Request) error {
	all, at, err := s.measured(w, r)
	if err != nil {
		return err
	}
	list := gpuList[statusOfGPU]{Available: true, Count: len(all), Timestamp: at}
	for _, m := range all {
		list.GPUs = append(list.GPUs, statusOfGPU{
			DeviceID: m.device.Index, Name: deviceName(m.device), TemperatureC: m.temperature(), HealthStatus: gpu.HealthOf(m.temperature()),
			Memory: m.memory(), ComputeCapability: orNil(m.device.ComputeCapability), MultiprocessorCount: m.device.MultiprocessorCount,
			State: m.reading.State, Simulated: m.device.Simulated,
		})
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

type historyPoint struct {
	Timestamp   time.Time `json:"timestamp"`
	Temperature float64   `json:"temperature"`
}

type historyAnswer struct {
	Available bool        `json:"available"`
	DeviceID  *gpu.Ref    `json:"device_id"` // null: all devices
	History   listOrLists `json:"history"`
}

// listOrLists is a []historyPoint, or a map of them by device id.
type listOrLists any

// gpuHistory answers GET /api/v1/system/gpu/temperature/history[?device_id=N].
func (s *Server) gpuHistory(w http.ResponseWriter, r *http.Request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("device_id", "the query is not well-formed")
	}
	all, _, err := s.measured(w, r)
	if err != nil {
		return err
	}
	if text := values.Get("device_id"); text != "" {
		return s.historyOfOne(w, all, text)
	}
	histories := map[string][]historyPoint{}
	for _, m := range all {
		histories[m.device.Index.String()] = s.historyOf(m.device.Index)
	}
	writeJSON(w, http.StatusOK, historyAnswer{Available: true, History: histories})
	return nil
}

// historyOfOne answers for one device. A number that names none is told with status 200, as the earlier system did.
func (s *Server) historyOfOne(w http.ResponseWriter, all []measured, text string) error {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return invalid("device_id", "is %q; allowed is a whole number", cut(text))
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= len(all) {
		writeJSON(w, http.StatusOK, unavailable{Error: fmt.Sprintf("Invalid device_id: %s", cut(text))})
		return nil
	}
	ref := gpu.Ref(n)
	writeJSON(w, http.StatusOK, historyAnswer{Available: true, DeviceID: &ref, History: s.historyOf(ref)})
	return nil
}

func (s *Server) historyOf(ref gpu.Ref) []historyPoint {
	points := []historyPoint{}
	for _, p := range s.config.Temperatures(ref) {
		points = append(points, historyPoint{p.Time.UTC(), p.Celsius})
	}
	return points
}

type maxOfGPU struct {
	Max   *float64 `json:"max_temperature_c"` // null without readings
	Avg   *float64 `json:"avg_temperature_c"`
	Count int      `json:"readings_count"`
}

// gpuMax answers GET /api/v1/system/gpu/temperature/max: of the same readings that the history shows.
func (s *Server) gpuMax(w http.ResponseWriter, r *http.Request) error {
	all, _, err := s.measured(w, r)
	if err != nil {
		return err
	}
	found := map[string]maxOfGPU{}
	for _, m := range all {
		found[m.device.Index.String()] = maxOf(s.config.Temperatures(m.device.Index))
	}
	writeJSON(w, http.StatusOK, maxAnswer{true, found})
	return nil
}

type maxAnswer struct {
	Available bool                `json:"available"`
	Max       map[string]maxOfGPU `json:"max_temperatures"` // by device id
}

func maxOf(points []TemperaturePoint) maxOfGPU {
	if len(points) == 0 {
		return maxOfGPU{}
	}
	most, sum := points[0].Celsius, 0.0
	for _, p := range points {
		most = max(most, p.Celsius)
		sum += p.Celsius
	}
	average := round2(sum / float64(len(points)))
	return maxOfGPU{Max: &most, Avg: &average, Count: len(points)}
}
