package telemetry

import (
	"cmp"
	"slices"

	"muster/shared/gpu"
)

// combineDetails adds what another reader told of the same device: values fill holes, faults and processes are joined. Absent is
// what either lacks, for the caller to go through.
func combineDetails(a, b gpu.Details) gpu.Details {
	d := a
	if d.Time.IsZero() {
		d.Time = b.Time
	}
	fill(&d.EnergyJoules, b.EnergyJoules)
	fill(&d.PCIeReplays, b.PCIeReplays)
	fill(&d.ThermalMarginCelsius, b.ThermalMarginCelsius)
	fillPointed(&d.ECC, b.ECC)
	fill(&d.RemappedRows, b.RemappedRows)
	if len(d.Links) == 0 {
		d.Links = b.Links
	}
	d.Faults = mergeFaults(a.Faults, b.Faults)
	d.Processes = mergeProcesses(a.Processes, b.Processes)
	d.ProcessesHidden = mergeHidden(a, b)
	d.Partitions = mergePartitions(a.Partitions, b.Partitions)
	d.Disagreements = append(slices.Clone(a.Disagreements), b.Disagreements...)
	d.Absent = mergeAbsent(a.Absent, b.Absent)
	return d
}

// mergeProcesses lists each process once, most memory first: by its number, and by its partition where both readers name one.
func mergeProcesses(a, b []gpu.Process) []gpu.Process {
	if a == nil && b == nil {
		return nil
	}
	merged := append(make([]gpu.Process, 0, len(a)+len(b)), a...)
	for _, p := range b {
		at := slices.IndexFunc(merged[:len(a)], func(q gpu.Process) bool {
			return p.PID == q.PID && (p.Partition == q.Partition || p.Partition == "" || q.Partition == "")
		})
		if at < 0 {
			merged = append(merged, p)
			continue
		}
		fillHoles(&merged[at], p)
	}
	slices.SortStableFunc(merged, func(p, q gpu.Process) int {
		return cmp.Or(cmp.Compare(memoryOf(q), memoryOf(p)), cmp.Compare(p.PID, q.PID), cmp.Compare(p.Partition, q.Partition))
	})
	return merged
}

// memoryOf orders: what is not reported comes after nothing.
func memoryOf(p gpu.Process) float64 {
	if p.MemoryBytes == nil {
		return -1
	}
	return float64(*p.MemoryBytes)
}

// mergeHidden says what hides processes from both: one who can't tell anything does not count beside one who can.
func mergeHidden(a, b gpu.Details) string {
	if (a.Processes == nil) != (b.Processes == nil) {
		if a.Processes == nil {
			return b.ProcessesHidden
		}
		return a.ProcessesHidden
	}
	return cmp.Or(a.ProcessesHidden, b.ProcessesHidden)
}

// mergePartitions joins by ID, in the order of a.
func mergePartitions(a, b []gpu.PartitionReading) []gpu.PartitionReading {
	if len(a) == 0 {
		return b
	}
	merged := slices.Clone(a)
	for _, p := range b {
		at := slices.IndexFunc(merged[:len(a)], func(q gpu.PartitionReading) bool { return q.ID == p.ID })
		if at < 0 {
			merged = append(merged, p)
			continue
		}
		fillHoles(&merged[at], p)
	}
	return merged
}
