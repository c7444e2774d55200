package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"muster/shared/gpu"
)

// row is one line of the long form of a device: a value, and where it came from or why it is not there.
type row struct {
	label, value string
	field        string // JSON name, for source and absence; "" for values that have neither
}

// printDetails writes the long form of every device: every value, its source, and the reason of each that is absent.
func printDetails(text *strings.Builder, l look) {
	for i, device := range l.inventory.Devices {
		r, d := reading(l.snapshot, l.inventory, i), l.details(i)
		fmt.Fprintf(text, "\n%s  %s  %s\n", device.Index.Label(), device.Name, device.ID)
		var rows strings.Builder
		table := tabwriter.NewWriter(&rows, 2, 0, 2, ' ', 0)
		for _, row := range deviceRows(device, r, d) {
			value, from := row.value, device.Sources[row.field]
			switch {
			case value == "" && row.field == "":
				continue
			case value == "":
				value, from = absent, absenceWords[gpu.WhyAbsent(device, d, r.State, row.field)]
			case r.IsSuspect(row.field):
				value += " (suspect: other values contradict it)"
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", row.label, value, from)
		}
		table.Flush()
		for line := range strings.Lines(rows.String()) {
			text.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		writeParts(text, device, d)
	}
}

var absenceWords = map[gpu.Absence]string{
	gpu.AbsentUnsupported: "not supported", gpu.AbsentNoPermission: "no permission", gpu.AbsentAsleep: "asleep",
	gpu.AbsentTimedOut: "no answer", gpu.AbsentFailed: "the driver failed",
}

// deviceRows lists every value of a device in the order in which people look for them.
func deviceRows(device gpu.Device, r gpu.Reading, d gpu.Details) []row {
	limits := gpu.Limits{}
	if device.Limits != nil {
		limits = *device.Limits
	}
	return []row{
		{"state", state(device, r), ""},
		{"PCI address", device.PCIAddress, ""},
		{"compute capability", joined(" ", device.ComputeCapability, device.Arch), "compute_capability"},
		{"multiprocessors", text(device.MultiprocessorCount, "%d"), "multi_processor_count"},
		{"driver", device.DriverVersion, "driver_version"},
		{"firmware", device.FirmwareVersion, "firmware_version"},
		{"serial number", device.SerialNumber, "serial_number"},
		{"divided", device.PartitionMode, optional("partition_mode", device.PartitionMode != "")},
		{"memory", memoryWords(device, r), "memory_used_bytes"},
		{"shared memory", amount(r.SharedMemoryUsedBytes, r.SharedMemoryTotalBytes), sharedField(r)},
		{"load", text(r.UtilizationPercent, "%.0f %%"), "utilization_percent"},
		{"memory load", text(r.MemoryUtilizationPercent, "%.0f %%"), "memory_utilization_percent"},
		{"encoder", text(r.EncoderPercent, "%.0f %%"), optional("encoder_percent", r.MediaPercent == nil)},
		{"decoder", text(r.DecoderPercent, "%.0f %%"), optional("decoder_percent", r.MediaPercent == nil)},
		{"video engines", text(r.MediaPercent, "%.0f %%"), optional("media_percent", r.MediaPercent != nil)},
		{"temperature", temperatureWords(r, limits), "temperatures"},
		{"thermal margin", text(d.ThermalMarginCelsius, "%.0f °C until it slows down"), optional("thermal_margin_celsius", d.ThermalMarginCelsius != nil)},
		{"power", powerWords(r, limits), "power_watts"},
		{"core clock", measured("MHz", r.CoreClockMHz, limits.CoreClockMHz), "core_clock_mhz"},
		{"memory clock", measured("MHz", r.MemoryClockMHz, limits.MemoryClockMHz), "memory_clock_mhz"},
		{"performance state", text(r.PerformanceState, "P%d"), optional("performance_state", device.Vendor == gpu.NVIDIA)},
		{"slowed down by", throttleWords(r.Throttle), "throttle_reasons"},
		{"fan", joined(", ", text(r.FanPercent, "%.0f %%"), text(r.FanRPM, "%.0f rpm")), "fan_percent"},
		{"PCIe", linkWords(r, limits), "pcie_generation"},
		{"PCIe replays", text(d.PCIeReplays, "%d"), "pcie_replays"},
		{"energy", energyWords(d.EnergyJoules), "energy_joules"},
		{"ECC", eccWords(d.ECC), "ecc"},
		{"remapped rows", remappedWords(d.RemappedRows), optional("remapped_rows", device.Vendor == gpu.NVIDIA)},
		{"links", linksWords(d.Links), "links"},
		{"processes", processWords(d.Processes), "processes"},
	}
}

// writeParts writes what comes in lists: partitions, faults, disagreements, processes.
func writeParts(text *strings.Builder, device gpu.Device, d gpu.Details) {
	for i, p := range device.Partitions {
		used := absent
		if i < len(d.Partitions) {
			used = orAbsent(gib(d.Partitions[i].MemoryUsedBytes))
		}
		fmt.Fprintf(text, "  partition %s  %s  %s / %s GiB  %s multiprocessors\n", p.ID, p.Name, used, orAbsent(gib(p.MemoryBytes)), number(p.MultiprocessorCount, "%d"))
	}
	for _, f := range d.Faults {
		fmt.Fprintf(text, "  fault %s  %s %d  %s\n", f.Time.Local().Format("2006-01-02 15:04:05"), f.Kind, f.Code, f.Text)
	}
	for _, x := range d.Disagreements {
		fmt.Fprintf(text, "  sources disagree: %s\n", disagreementWords(x))
	}
	if len(d.Processes) > 0 {
		table := tabwriter.NewWriter(text, 2, 0, 2, ' ', 0)
		fmt.Fprintln(table, "  PID\tUSER\tTYPE\tMEMORY GiB\tPROGRAM")
		for _, p := range d.Processes {
			fmt.Fprintf(table, "  %d\t%s\t%s\t%s\t%s\n", p.PID, word(p.User), word(string(p.Type)), orAbsent(gib(p.MemoryBytes)), word(joined("  ", p.Name, p.Command)))
		}
		table.Flush()
	}
	if d.ProcessesHidden != "" {
		fmt.Fprintf(text, "  %s\n", d.ProcessesHidden)
	}
}

func disagreementWords(x gpu.Disagreement) string {
	var values []string
	for _, v := range x.Values {
		values = append(values, v.Source+" says "+inUnit(x.Field, v.Value))
	}
	return x.Field + ": " + strings.Join(values, ", ")
}

// inUnit writes a value of the field of that JSON name as people read it.
func inUnit(field string, value float64) string {
	switch {
	case strings.HasSuffix(field, "_bytes"):
		return fmt.Sprintf("%.2f GiB", value/(1<<30))
	case strings.HasSuffix(field, "_watts"):
		return fmt.Sprintf("%.0f W", value)
	case strings.HasSuffix(field, "_mhz"):
		return fmt.Sprintf("%.0f MHz", value)
	case strings.HasSuffix(field, "_percent"):
		return fmt.Sprintf("%.0f %%", value)
	case field == "temperatures":
		return fmt.Sprintf("%.0f °C", value)
	default:
		return fmt.Sprintf("%.4g", value)
	}
}
