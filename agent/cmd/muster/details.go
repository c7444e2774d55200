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

// text formats a value; "" when it is absent.
func text[N any](value *N, format string) string {
	if value == nil {
		return ""
	}
	return fmt.Sprintf(format, *value)
}

func gib(bytes *uint64) string {
	if bytes == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", gpu.RoundGiB(*bytes))
}

func orAbsent(s string) string {
	if s == "" {
		return absent
	}
	return s
}

// join puts a separator between those that are not empty.
func joined(separator string, parts ...string) string {
	var there []string
	for _, part := range parts {
		if part != "" {
			there = append(there, part)
		}
	}
	return strings.Join(there, separator)
}

// measured is a value and the most that it can be; "" when there is no value.
func measured(unit string, value, most *float64) string {
	switch {
	case value == nil:
		return ""
	case most == nil:
		return fmt.Sprintf("%.0f %s", *value, unit)
	}
	return fmt.Sprintf("%.0f of %.0f %s", *value, *most, unit)
}

// amount is memory in use and in all; "" when neither is known.
func amount(used, total *uint64) string {
	if used == nil && total == nil {
		return ""
	}
	return orAbsent(gib(used)) + " of " + orAbsent(gib(total)) + " GiB"
}

func between(unit string, low, high *float64) string {
	if low == nil || high == nil {
		return ""
	}
	return fmt.Sprintf("(can be set to %.0f–%.0f %s)", *low, *high, unit)
}

// optional leaves a row without value out, unless the device could be expected to have it.
func optional(field string, expected bool) string {
	if expected {
		return field
	}
	return ""
}

func sharedField(r gpu.Reading) string {
	return optional("shared_memory_used_bytes", r.SharedMemoryTotalBytes != nil)
}

func memoryWords(device gpu.Device, r gpu.Reading) string {
	total := r.MemoryTotalBytes
	if total == nil {
		total = device.MemoryBytes
	}
	words := amount(r.MemoryUsedBytes, total)
	if words == "" {
		return ""
	}
	if r.MemoryReservedBytes != nil {
		words += ", " + gib(r.MemoryReservedBytes) + " reserved"
	}
	if device.Unified {
		words += ", unified with main memory"
	}
	return words
}

func powerWords(r gpu.Reading, limits gpu.Limits) string {
	watts := measured("W", r.PowerWatts, r.PowerLimitWatts)
	if watts == "" {
		return ""
	}
	return joined(" ", watts, between("W", limits.PowerMinWatts, limits.PowerMaxWatts))
}

// processWords counts them; "" when the driver can't tell, which is not the same as none.
func processWords(processes []gpu.Process) string {
	switch {
	case processes == nil:
		return ""
	case len(processes) == 0:
		return "none"
	}
	return fmt.Sprintf("%d, listed below", len(processes))
}

func temperatureWords(r gpu.Reading, limits gpu.Limits) string {
	var parts []string
	for _, t := range r.Temperatures {
		parts = append(parts, fmt.Sprintf("%s %.0f °C", t.Sensor, t.Celsius))
	}
	words := strings.Join(parts, ", ")
	if words == "" {
		return ""
	}
	ends := joined(", ", text(limits.SlowdownCelsius, "slows down at %.0f"), text(limits.ShutdownCelsius, "switches off at %.0f"), text(limits.MemoryCelsius, "memory up to %.0f"))
	if ends != "" {
		words += " (" + ends + ")"
	}
	return words
}

func throttleWords(t *gpu.Throttle) string {
	if t == nil {
		return ""
	}
	switch *t {
	case 0:
		return "nothing"
	case gpu.ThrottleIdle:
		return "nothing, it is idle"
	}
	return strings.Join(t.Reasons(), ", ")
}

func linkWords(r gpu.Reading, limits gpu.Limits) string {
	words := joined(" ", text(r.PCIeGeneration, "generation %d"), text(r.PCIeWidth, "x%d"))
	most := joined(" ", text(limits.PCIeGeneration, "generation %d"), text(limits.PCIeWidth, "x%d"))
	if words != "" && most != "" {
		words += " (at most " + most + ")"
	}
	return words
}

func energyWords(joules *float64) string {
	if joules == nil {
		return ""
	}
	return fmt.Sprintf("%.3f kWh since the driver was loaded", *joules/3.6e6)
}

func eccWords(e *gpu.ECC) string {
	if e == nil {
		return ""
	}
	var words []string
	if e.Enabled != nil {
		words = append(words, map[bool]string{true: "on", false: "off"}[*e.Enabled])
	}
	words = append(words, joined(", ", text(e.CorrectedVolatile, "%d corrected"), text(e.UncorrectedVolatile, "%d uncorrected"),
		text(e.CorrectedAggregate, "%d corrected ever"), text(e.UncorrectedAggregate, "%d uncorrected ever")))
	return joined(", ", words...)
}

func remappedWords(r *gpu.RemappedRows) string {
	if r == nil {
		return ""
	}
	words := fmt.Sprintf("%d after correctable errors, %d after others", r.Correctable, r.Uncorrectable)
	if r.Pending {
		words += "; more at the next reset"
	}
	if r.Failed {
		words += "; none left: replace the card"
	}
	return words
}

func linksWords(links []gpu.Link) string {
	if len(links) == 0 {
		return ""
	}
	up := 0
	for _, l := range links {
		if l.Active {
			up++
		}
	}
	return fmt.Sprintf("%d of %d %s up", up, len(links), links[0].Kind)
}
