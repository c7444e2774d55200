package server

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"muster/shared/gpu"
	"muster/shared/job"
)

// What is older says nothing of now and is left out, so that nobody takes it for fresh. Details are asked every 30 s when nobody
// watches.
const (
	staleAfter        = 10 * time.Second
	staleDetailsAfter = 2 * time.Minute
)

// collector makes the metrics of a scrape from what is newest. It has no state.
type collector struct{ server *Server }

// Describe names every metric.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range exported {
		to <- f.desc
	}
}

// Collect takes inventory, snapshot and report once, so that a scrape never shows two of them.
func (c collector) Collect(to chan<- prometheus.Metric) {
	out := sink{to: to, now: time.Now(), sent: map[sampleKey]bool{}}
	inventory, snapshot, report := c.latest()
	out.put(metricBuildInfo, 1, c.server.config.Build)
	c.work(out)
	if inventory == nil {
		return
	}
	out.put(metricGPUCount, float64(len(inventory.Devices)))
	if snapshot != nil {
		out.host(snapshot)
	}
	for i, d := range inventory.Devices {
		device := out.of(d)
		device.inventory(d)
		if snapshot != nil && i < len(snapshot.GPUs) {
			device.reading(&snapshot.GPUs[i])
		}
		if report != nil && i < len(report.Devices) {
			device.details(d, &report.Devices[i])
		}
	}
}

// latest gives what belongs together. Where the devices have just changed, what is still of the others is nil.
func (c collector) latest() (*gpu.Inventory, *gpu.Snapshot, *gpu.Report) {
	inventory, snapshot, report := c.server.config.Inventory(), c.server.config.Snapshot(), c.server.report()
	if inventory == nil {
		return nil, nil, nil
	}
	if snapshot != nil && snapshot.Revision != inventory.Revision {
		snapshot = nil
	}
	if report != nil && report.Revision != inventory.Revision {
		report = nil
	}
	return inventory, snapshot, report
}

// work tells of jobs and generators.
func (c collector) work(out sink) {
	counts := map[job.State]int{job.Queued: 0, job.Running: 0}
	active := c.server.config.Queue.Active()
	for i := range active {
		counts[active[i].State]++
	}
	for state, n := range counts {
		out.put(metricJobCount, float64(n), string(state))
	}
	if expected := job.SetExpected(active); expected != nil {
		out.put(metricExpected, max(expected.At.Sub(out.now).Seconds(), 0))
	} else if len(active) == 0 {
		out.put(metricExpected, 0)
	}
	capacity := c.server.config.Capacity()
	for _, slot := range capacity.Slots {
		out.put(metricSlotReady, oneIf(slot.Problem == "" && !slot.Paused), slot.Device.String(), slot.Backend)
		for _, phase := range phases {
			out.put(metricPhase, oneIf(phase == phaseOf(capacity, slot.Device)), slot.Device.String(), string(phase))
		}
	}
}

// sink sends samples. A driver that names a thing twice, or a number that is none, costs its sample and not the scrape.
type sink struct {
	to     chan<- prometheus.Metric
	now    time.Time
	labels []string // before those of each sample
	sent   map[sampleKey]bool
}

// sampleKey is what may be there once in a scrape.
type sampleKey struct {
	of     *family
	labels string
}

func (s sink) put(f *family, value float64, labels ...string) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	labels = append(s.labels[:len(s.labels):len(s.labels)], labels...)
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\ufffd")
	}
	key := sampleKey{f, strings.Join(labels, "\xff")} // no label holds this byte
	if s.sent[key] {
		return
	}
	s.sent[key] = true
	s.to <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

// maybe is put of what may not be reported.
func (s sink) maybe(f *family, value *float64, factor float64, labels ...string) {
	if value != nil {
		s.put(f, *value*factor, labels...)
	}
}

func oneIf(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

func (s sink) host(snapshot *gpu.Snapshot) {
	s.put(metricSnapshots, float64(snapshot.Seq))
	s.put(metricSnapshotAge, max(s.now.Sub(snapshot.Time).Seconds(), 0))
	s.maybe(metricHostCPU, snapshot.Host.CPUPercent, 0.01)
	s.maybe(metricHostMemory, float(snapshot.Host.MemoryTotalBytes), 1)
	s.maybe(metricHostMemoryUse, float(snapshot.Host.MemoryUsedBytes), 1)
}

// of is a sink for the samples of one device.
func (s sink) of(d gpu.Device) sink {
	s.labels = []string{d.Index.String(), d.ID}
	return s
}

func (s sink) inventory(d gpu.Device) {
	s.put(metricGPUInfo, 1, deviceName(d), string(d.Vendor), d.PCIAddress, d.Arch, d.ComputeCapability, d.DriverVersion, strconv.FormatBool(d.Simulated))
	if limits := d.Limits; limits != nil {
		s.maybe(metricHeatLimit, limits.SlowdownCelsius, 1, "slowdown")
		s.maybe(metricHeatLimit, limits.ShutdownCelsius, 1, "shutdown")
		s.maybe(metricHeatLimit, limits.MemoryCelsius, 1, "memory")
	}
}

func (s sink) reading(r *gpu.Reading) {
	for _, state := range gpu.States {
		s.put(metricGPUState, oneIf(r.State == state), string(state))
	}
	age := time.Duration(r.AgeMilliseconds) * time.Millisecond
	s.put(metricGPUAge, age.Seconds())
	if age > staleAfter {
		return
	}
	for _, v := range readingMetrics {
		s.maybe(v.family, v.value(r), v.factor)
	}
	for _, t := range r.Temperatures {
		s.put(metricHeat, t.Celsius, string(t.Sensor))
	}
	for _, field := range r.Suspect {
		s.put(metricSuspect, 1, field)
	}
	if r.Throttle != nil {
		active := map[string]bool{}
		for _, reason := range r.Throttle.Reasons() {
			active[reason] = true
		}
		for _, reason := range (^gpu.Throttle(0)).Reasons() {
			s.put(metricThrottle, oneIf(active[reason]), reason)
		}
	}
}

func (s sink) details(d gpu.Device, details *gpu.Details) {
	s.faults(details.Faults)
	if details.Time.IsZero() {
		return
	}
	age := max(s.now.Sub(details.Time), 0)
	s.put(metricDetailsAge, age.Seconds())
	if age > staleDetailsAfter {
		return
	}
	s.maybe(metricEnergy, details.EnergyJoules, 1)
	s.maybe(metricReplays, float(details.PCIeReplays), 1)
	s.memoryErrors(details)
	for _, link := range details.Links {
		index := strconv.Itoa(link.Index)
		s.put(metricLinkUp, oneIf(link.Active), link.Kind, index)
		s.maybe(metricLinkSpeed, link.GigabytesPerSecond, 1e9, link.Kind, index)
	}
	if details.Processes != nil {
		s.processes(details.Processes)
	}
	for i, p := range details.Partitions[:min(len(details.Partitions), len(d.Partitions))] {
		id := d.Partitions[i].ID
		s.maybe(metricPartitionSize, float(p.MemoryTotalBytes), 1, id)
		s.maybe(metricPartitionUsed, float(p.MemoryUsedBytes), 1, id)
		s.maybe(metricPartitionLoad, p.UtilizationPercent, 0.01, id)
	}
}

func (s sink) memoryErrors(details *gpu.Details) {
	if ecc := details.ECC; ecc != nil {
		if ecc.Enabled != nil {
			s.put(metricEccEnabled, oneIf(*ecc.Enabled))
		}
		s.maybe(metricEccErrors, float(ecc.CorrectedVolatile), 1, "corrected", "driver_load")
		s.maybe(metricEccErrors, float(ecc.UncorrectedVolatile), 1, "uncorrected", "driver_load")
		s.maybe(metricEccErrors, float(ecc.CorrectedAggregate), 1, "corrected", "manufacture")
		s.maybe(metricEccErrors, float(ecc.UncorrectedAggregate), 1, "uncorrected", "manufacture")
	}
	if rows := details.RemappedRows; rows != nil {
		s.put(metricRemapped, float64(rows.Correctable), "correctable")
		s.put(metricRemapped, float64(rows.Uncorrectable), "uncorrectable")
		s.put(metricRemapPends, oneIf(rows.Pending))
		s.put(metricRemapFailed, oneIf(rows.Failed))
	}
}

func (s sink) faults(list []gpu.Fault) {
	type cause struct{ kind, code string }
	counts, newest := map[cause]int{}, map[cause]time.Time{}
	for _, fault := range list[max(len(list)-gpu.MaxFaults, 0):] {
		c := cause{fault.Kind, strconv.FormatUint(fault.Code, 10)}
		counts[c]++
		if fault.Time.After(newest[c]) {
			newest[c] = fault.Time
		}
	}
	for c, n := range counts {
		s.put(metricFaults, float64(n), c.kind, c.code)
		if at := newest[c]; !at.IsZero() {
			s.put(metricFaultTime, float64(at.UnixMilli())/1000, c.kind, c.code)
		}
	}
}

func (s sink) processes(list []gpu.Process) {
	sum, told := 0.0, len(list) == 0
	for _, p := range list {
		if p.MemoryBytes != nil {
			sum, told = sum+float64(*p.MemoryBytes), true
		}
	}
	s.put(metricProcesses, float64(len(list)))
	if told {
		s.put(metricProcessMem, sum)
	}
}
