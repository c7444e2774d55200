// Package sim simulates devices for --simulate. Every one of them is marked as simulated; nothing is invented about the machine
// around them: no driver, no ROCm, no PyTorch.
//
// The devices idle until Busy says that one works, or until a neighbour, another simulated program, uses one; then utilisation,
// memory, power, clocks and temperature follow, each with its own inertia. All of it follows time.Now, so synctest can drive it, and the same calls at the same times give the same values.
package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// Machine is a telemetry.Reader of simulated devices, with details. Safe for several goroutines.
type Machine struct {
	devices []*device // in the order of their PCI addresses
	byID    map[string]*device
}

// device is one simulated card.
type device struct {
	*model
	facts  gpu.Device
	seed   uint64
	linked bool // the machine has another card that it can be linked to
	other  neighbour

	mu    sync.Mutex
	jobs  int
	held  uint64 // bytes that the jobs hold
	state dynamics
}

// source is where every value comes from.
const source = "simulation"

func newMachine(cards []card) *Machine {
	m := &Machine{byID: map[string]*device{}}
	begun := time.Now()
	ofModel, ofVendor := map[*model]int{}, map[gpu.Vendor]int{}
	for i, card := range cards {
		model := card.model
		d := &device{model: model, seed: uint64(i) + 1, other: card.other}
		d.other.begun = begun
		d.facts = model.facts(fmt.Sprintf("sim-%s-%d", model.slug(), ofModel[model]), i, ofVendor[model.vendor])
		ofModel[model]++
		ofVendor[model.vendor]++
		m.devices = append(m.devices, d)
		m.byID[d.facts.ID] = d
	}
	for _, d := range m.devices {
		d.linked = ofModel[d.model] > 1
	}
	return m
}

// facts describes the card at that position of the machine: each on a bus of its own, from 0000:03:00.0 in steps of two.
func (m *model) facts(id string, position, vendorIndex int) gpu.Device {
	multiprocessors, memory := m.multiprocessors, m.memoryBytes()
	fields := []string{
		"vendor_index", "name", "arch", "compute_capability", "multi_processor_count", "memory_bytes", "limits",
		"utilization_percent", "memory_utilization_percent", "memory_total_bytes", "memory_used_bytes", "memory_reserved_bytes", "temperatures",
		"power_watts", "power_limit_watts", "core_clock_mhz", "memory_clock_mhz", "pcie_generation", "pcie_width", "throttle_reasons",
	}
	if m.vendor == gpu.NVIDIA {
		fields = append(fields, "encoder_percent", "decoder_percent", "performance_state")
	}
	fields = append(fields, m.detailFields()...)
	if m.fanRPM > 0 {
		fields = append(fields, "fan_percent", "fan_rpm")
	}
	sources := make(map[string]string, len(fields))
	for _, field := range fields {
		sources[field] = source
	}
	return gpu.Device{
		ID: id, VendorIndex: &vendorIndex, Vendor: m.vendor, Name: m.name, PCIAddress: fmt.Sprintf("0000:%02x:00.0", 3+2*position),
		Arch: m.arch, ComputeCapability: m.capability, MultiprocessorCount: &multiprocessors, MemoryBytes: &memory, Limits: m.limits(),
		Simulated: true, Sources: sources,
	}
}

// Name is "sim".
func (m *Machine) Name() string { return "sim" }

// Inventory lists the devices in the order of the specification.
func (m *Machine) Inventory(context.Context) (telemetry.Found, error) {
	found := telemetry.Found{Devices: make([]gpu.Device, len(m.devices))}
	for i, d := range m.devices {
		found.Devices[i] = d.facts
	}
	return found, nil
}

// Read gives the state of the device at this moment; telemetry.ErrLost for an ID that the machine does not have.
func (m *Machine) Read(_ context.Context, id string) (gpu.Reading, error) {
	d := m.byID[id]
	if d == nil {
		return gpu.Reading{}, fmt.Errorf("simulated device %s: %w", id, telemetry.ErrLost)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance(time.Now())
	return d.reading(), nil
}

// Busy makes the device work and hold so many bytes of its memory until done is called. Several callers add up in memory, up
// to what the device has. An unknown ID changes nothing; done may be called again, without effect.
func (m *Machine) Busy(deviceID string, vramBytes uint64) (done func()) {
	d := m.byID[deviceID]
	if d == nil {
		return func() {}
	}
	d.work(1, vramBytes)
	return sync.OnceFunc(func() { d.work(-1, -vramBytes) })
}

// work adds to what the device does; negative bytes wrap around, as unsigned numbers do.
func (d *device) work(jobs int, bytes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance(time.Now())
	d.jobs += jobs
	d.held += bytes
}

// StepsPerSecond is how fast the device samples an image of 512x512 when nobody else uses it; 0 for devices that are not of this machine.
func (m *Machine) StepsPerSecond(dev gpu.Device) float64 {
	d := m.byID[dev.ID]
	if d == nil {
		return 0
	}
	return d.stepsPerSecond
}
