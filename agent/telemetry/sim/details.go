package sim

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// limits are what the makers' drivers give for such a card.
func (m *model) limits() *gpu.Limits {
	slowdown, shutdown, memory, least := 87.0, 92.0, 95.0, 0.4*m.limitWatts
	if m.vendor == gpu.AMD {
		slowdown, shutdown, memory, least = 100, 105, 105, 0 // temp*_crit and _emergency; power1_cap_min
	}
	most, normal, core, memoryClock, generation, width := m.limitWatts, m.limitWatts, m.coreMHz, m.memoryMHz, m.pcie, 16
	return &gpu.Limits{
		SlowdownCelsius: &slowdown, ShutdownCelsius: &shutdown, MemoryCelsius: &memory,
		PowerMinWatts: &least, PowerMaxWatts: &most, PowerDefaultWatts: &normal, CoreClockMHz: &core, MemoryClockMHz: &memoryClock,
		PCIeGeneration: &generation, PCIeWidth: &width,
	}
}

// links is how many NVLinks the card has, of which generation, and what each carries in one direction.
func (m *model) links() (count, version int, gigabytes float64) {
	switch m.short {
	case "V100":
		return 6, 2, 25
	case "A100":
		return 12, 3, 25
	case "H100", "H200":
		return 18, 4, 26.5625
	}
	return 0, 0, 0
}

// isServerCard says that the card counts errors of its memory, and corrects them.
func (m *model) isServerCard() bool {
	if m.vendor == gpu.AMD {
		return strings.Contains(m.name, "Instinct") && m.short != "MI25"
	}
	return !strings.Contains(m.name, "GeForce")
}

// remapsRows says whether spare rows of memory stand in for broken ones: since Ampere.
func (m *model) remapsRows() bool {
	return m.vendor == gpu.NVIDIA && m.isServerCard() && m.generation() >= 80
}

// countsEnergy says whether the card has a counter of energy: NVIDIA's since Volta, AMD's for servers.
func (m *model) countsEnergy() bool {
	if m.vendor == gpu.AMD {
		return m.isServerCard()
	}
	return m.generation() >= 70
}

// generation is NVIDIA's compute capability times ten.
func (m *model) generation() int {
	n, _ := strconv.Atoi(strings.TrimPrefix(m.arch, "sm_"))
	return n
}

// sleepsDeep says whether an idle card of NVIDIA leaves its fastest performance state: those with HBM do not.
func (m *model) sleepsDeep() bool { return m.memoryMHz > 4000 }

// detailFields are the names of what Details gives for the card.
func (m *model) detailFields() []string {
	fields := []string{"pcie_replays", "processes"}
	if m.countsEnergy() {
		fields = append(fields, "energy_joules")
	}
	if m.isServerCard() {
		fields = append(fields, "ecc")
	}
	if m.remapsRows() {
		fields = append(fields, "remapped_rows")
	}
	if count, _, _ := m.links(); count > 0 {
		fields = append(fields, "links")
	}
	return fields
}

// Details gives what the card would tell beside its reading; telemetry.ErrLost for an ID that the machine does not have.
func (m *Machine) Details(_ context.Context, id string) (gpu.Details, error) {
	d := m.byID[id]
	if d == nil {
		return gpu.Details{}, fmt.Errorf("simulated device %s: %w", id, telemetry.ErrLost)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.advance(now)
	details := gpu.Details{Time: now.UTC(), PCIeReplays: new(uint64), Links: d.linkList(), Processes: d.processes()}
	if d.countsEnergy() {
		joules := round(d.state.joules, 1000)
		details.EnergyJoules = &joules
	}
	if d.isServerCard() {
		enabled, none := true, uint64(0)
		details.ECC = &gpu.ECC{Enabled: &enabled, CorrectedVolatile: &none, UncorrectedVolatile: &none, CorrectedAggregate: &none, UncorrectedAggregate: &none}
	}
	if d.remapsRows() {
		details.RemappedRows = &gpu.RemappedRows{}
	}
	return details, nil
}

// linkList has every link up when the machine has another card of the kind.
func (d *device) linkList() []gpu.Link {
	count, version, gigabytes := d.links()
	var list []gpu.Link
	for i := range count {
		list = append(list, gpu.Link{Index: i, Kind: "NVLink", Active: d.linked, Version: version, GigabytesPerSecond: &gigabytes})
	}
	return list
}

// PCIeThroughput follows the load, on cards whose driver measures it.
func (m *Machine) PCIeThroughput(_ context.Context, id string) (gpu.PCIeThroughput, error) {
	d := m.byID[id]
	switch {
	case d == nil:
		return gpu.PCIeThroughput{}, fmt.Errorf("simulated device %s: %w", id, telemetry.ErrLost)
	case d.vendor != gpu.NVIDIA:
		return gpu.PCIeThroughput{}, fmt.Errorf("simulated device %s: %w", id, telemetry.ErrUnsupported)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance(time.Now())
	received := round(1e6*(1+d.state.utilization*(3+d.vary(8))), 1)
	sent := round(1e6*(1+d.state.utilization*(1+0.5*d.vary(9))), 1)
	return gpu.PCIeThroughput{ReceiveBytesPerSecond: &received, TransmitBytesPerSecond: &sent}, nil
}
