package main

import (
	"fmt"
	"strings"

	"muster/shared/gpu"
)

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
