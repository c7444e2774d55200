package view

import (
	"strconv"

	"muster/shared/gpu"
)

func (w *whence) memory() []*row {
	r, d := w.reading, w.device
	total := d.MemoryBytes
	if r.MemoryTotalBytes != nil {
		total = r.MemoryTotalBytes
	}
	own := w.row(memoryName(d, r.SharedMemoryUsedBytes != nil), "memory_used_bytes", ofGiB(r.MemoryUsedBytes, total))
	shared := w.row("Main memory (GTT)", "shared_memory_used_bytes", ofGiB(r.SharedMemoryUsedBytes, r.SharedMemoryTotalBytes))
	switch {
	case d.Unified && r.SharedMemoryUsedBytes != nil:
		own = own.noted("a part of main memory that is set aside for it")
		shared = shared.noted("this device computes in the machine's memory")
	case d.Unified:
		own = own.noted("this device computes in the machine's memory")
	default:
		shared = shared.noted("the machine's, never counted as the card's own")
	}
	rows := []*row{own}
	if free := r.MemoryFreeBytes(); free != nil {
		rows = append(rows, &row{name: "Free", value: w.value("memory_used_bytes", gib(*free)+" GiB"), from: "total less used and reserved"})
	}
	reserved := optionalGiB(r.MemoryReservedBytes)
	return append(rows, w.row("Kept by the driver", "memory_reserved_bytes", reserved+unitBehind(reserved, " GiB")), shared)
}

// unitBehind gives the unit of a value that is there.
func unitBehind(text, unit string) string {
	if text == "" {
		return ""
	}
	return unit
}

func (w *whence) errors() []*row {
	ecc := w.details.ECC
	if ecc == nil {
		ecc = &gpu.ECC{}
	}
	return []*row{
		w.row("Error correction", "ecc", onOff(ecc.Enabled)),
		w.row("Corrected", "ecc", counts(ecc.CorrectedVolatile, ecc.CorrectedAggregate)),
		w.row("Not correctable", "ecc", counts(ecc.UncorrectedVolatile, ecc.UncorrectedAggregate)),
		w.remapped(),
	}
}

func onOff(v *bool) string {
	switch {
	case v == nil:
		return ""
	case *v:
		return "on"
	default:
		return "off"
	}
}

// counts tells of errors since the driver was loaded, and in the device's life.
func counts(volatile, aggregate *uint64) string {
	words := ""
	if volatile != nil {
		words = grouped(float64(*volatile)) + " since start"
	}
	if aggregate != nil {
		words += separated(words, ", ") + grouped(float64(*aggregate)) + " in all"
	}
	return words
}

func (w *whence) remapped() *row {
	rows := w.details.RemappedRows
	if rows == nil {
		return w.row("Replaced rows", "remapped_rows", "")
	}
	row := w.row("Replaced rows", "remapped_rows", strconv.Itoa(rows.Correctable+rows.Uncorrectable))
	switch {
	case rows.Failed:
		row.other = "no spare row is left: replace the card"
	case rows.Pending:
		row.other = "one more at the next reset of the card"
	case rows.Uncorrectable > 0:
		row = row.noted(strconv.Itoa(rows.Uncorrectable) + " after errors that could not be corrected")
	}
	return row
}

func (w *whence) connections() []*row {
	r, limits := w.reading, w.limits()
	now, most := pcie(r.PCIeGeneration, r.PCIeWidth), pcie(limits.PCIeGeneration, limits.PCIeWidth)
	replays := ""
	if w.details.PCIeReplays != nil {
		replays = grouped(float64(*w.details.PCIeReplays))
	}
	bus := w.row("PCIe", "pcie_generation", now)
	if most != "" {
		bus = bus.noted("at most " + most)
	}
	rows := []*row{bus, w.row("PCIe packets resent", "pcie_replays", replays)}
	kinds := linkKinds(w.details.Links)
	for _, kind := range kinds {
		rows = append(rows, w.links(kind))
	}
	if len(kinds) == 0 {
		rows = append(rows, w.row("Links to other devices", "links", ""))
	}
	return rows
}

// pcie writes a link: "Gen 4 ×16"; "" when neither was reported.
func pcie(generation, width *int) string {
	words := ""
	if generation != nil {
		words = "Gen " + strconv.Itoa(*generation)
	}
	if width != nil {
		words += separated(words, " ") + "×" + strconv.Itoa(*width)
	}
	return words
}

func linkKinds(links []gpu.Link) []string {
	var kinds []string
	seen := map[string]bool{}
	for _, l := range links {
		if !seen[l.Kind] {
			seen[l.Kind] = true
			kinds = append(kinds, l.Kind)
		}
	}
	return kinds
}

// links sums up the links of one kind: how many are up, which are not, how much they carry, and to whom.
func (w *whence) links(kind string) *row {
	up, all, carried := 0, 0, 0.0
	down, peers := "", ""
	seen := map[string]bool{"": true}
	for _, l := range w.details.Links {
		if l.Kind != kind {
			continue
		}
		all++
		if !l.Active {
			down += separated(down, ", ") + strconv.Itoa(l.Index)
			continue
		}
		up++
		if l.GigabytesPerSecond != nil {
			carried += *l.GigabytesPerSecond
		}
		if !seen[l.PeerAddress] {
			seen[l.PeerAddress] = true
			peers += separated(peers, ", ") + l.PeerAddress
		}
	}
	out := w.row(kind, "links", strconv.Itoa(up)+" of "+strconv.Itoa(all)+" up")
	if carried > 0 {
		out.note = grouped(carried) + " GB/s each way"
	}
	if peers != "" {
		out.note += separated(out.note, ", ") + "to " + peers
	}
	if down != "" {
		out.other = "down: " + down
	}
	return out
}

func (w *whence) about() []*row {
	d := w.device
	return []*row{
		w.row("Driver", "driver_version", d.DriverVersion),
		w.row("Firmware", "firmware_version", d.FirmwareVersion),
		w.row("Serial number", "serial_number", d.SerialNumber),
		w.row("PCI address", "pci_address", d.PCIAddress),
		w.row("ID", "id", d.ID),
		w.row("Architecture", "arch", d.Arch),
		w.row("Compute capability", "compute_capability", d.ComputeCapability),
		w.row("Multiprocessors", "multi_processor_count", optionalCount(d.MultiprocessorCount)),
		w.row("Divided", "partition_mode", d.PartitionMode),
	}
}
