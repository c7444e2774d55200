package view

import (
	"strconv"
	"strings"
	"time"

	"muster/shared/gpu"
)

// value is one measured thing as it stands on the page: its text, and why it is absent.
type value struct {
	text string
	why  string // "" when it was reported
}

func reported(text string) value { return value{text: text} }

// readout is what a card shows of one device at one instant: pure, so that it can be rendered, painted and tested alike.
type readout struct {
	badge, hint string // state in a word; in a sentence, "" when there is nothing to explain
	age         string // "" when the values are of this tick

	utilization value  // percent, without the sign
	doubt       string // "?" when the utilisation is suspect
	used, total value  // memory in GiB
	share       string
	shared      value // main memory that it uses beside its own
	temperature value
	health      gpu.Health
	power       value
}

// read puts a device's reading into words; ok says that there is one.
func (p *Page) read(d *gpu.Device) readout {
	reading, ok := p.state.Reading(d.Index)
	if !ok {
		return unread(d)
	}
	details := p.state.Details(d.Index)
	return read(&whence{d, &reading, &details})
}

// unread is a device of which nothing has arrived.
func unread(d *gpu.Device) readout {
	none := value{absent, "no reading has arrived yet"}
	out := readout{badge: "no reading", hint: explained(d), health: gpu.HealthUnknown, share: "0", utilization: none, used: none, total: none, shared: none, temperature: none, power: none}
	if d.MemoryBytes != nil {
		out.total = reported(gib(*d.MemoryBytes))
	}
	return out
}

func read(w *whence) readout {
	r := w.reading
	out := readout{}
	out.badge, out.hint = stateWords(r.State)
	if w.device.Error != "" {
		out.hint = explained(w.device) + " " + out.hint
	}
	if outlives(r) {
		out.hint += " The values are the last ones."
	}
	if age := time.Duration(r.AgeMilliseconds) * time.Millisecond; age >= 2*time.Second {
		out.age = "last reading " + span(age) + " ago"
	}
	out.utilization = w.value("utilization_percent", optional(r.UtilizationPercent, ""))
	if r.UtilizationPercent != nil && r.IsSuspect("utilization_percent") {
		out.utilization.text, out.doubt = whole(*r.UtilizationPercent), " ?"
	}
	out.readMemory(w)
	celsius := r.TemperatureCelsius()
	out.health = gpu.HealthOf(celsius)
	degrees := optional(celsius, " °C")
	if out.health == gpu.HealthHot || out.health == gpu.HealthCritical {
		degrees += ", " + string(out.health)
	}
	out.temperature = w.value("temperatures", degrees)
	out.power = w.value("power_watts", power(r))
	return out
}

func (out *readout) readMemory(w *whence) {
	r, total := w.reading, w.device.MemoryBytes
	if r.MemoryTotalBytes != nil {
		total = r.MemoryTotalBytes
	}
	out.share = "0"
	out.total = w.value("memory_total_bytes", optionalGiB(total))
	out.used = w.value("memory_used_bytes", optionalGiB(r.MemoryUsedBytes))
	out.shared = w.value("shared_memory_used_bytes", ofGiB(r.SharedMemoryUsedBytes, r.SharedMemoryTotalBytes))
	if r.MemoryUsedBytes != nil && r.MemoryTotalBytes != nil && *r.MemoryTotalBytes > 0 {
		share := min(1, float64(*r.MemoryUsedBytes)/float64(*r.MemoryTotalBytes))
		out.share = strconv.FormatFloat(share, 'f', 4, 64)
	}
}

// optional writes a number with its unit; "" for one that was not reported.
func optional(v *float64, unit string) string {
	if v == nil {
		return ""
	}
	return grouped(*v) + unit
}

// optionalGiB writes bytes without their unit; "" when they were not reported.
func optionalGiB(bytes *uint64) string {
	if bytes == nil {
		return ""
	}
	return gib(*bytes)
}

// ofGiB writes how much is used of how much there is; "" when the use was not reported.
func ofGiB(used, total *uint64) string {
	switch {
	case used == nil:
		return ""
	case total == nil:
		return gib(*used) + " GiB"
	default:
		return gib(*used) + " of " + gib(*total) + " GiB"
	}
}

func number(v *float64, why string) value { return orAbsent(reported(optional(v, "")), why) }

func power(r *gpu.Reading) string {
	if r.PowerWatts == nil || r.PowerLimitWatts == nil {
		return optional(r.PowerWatts, " W")
	}
	return whole(*r.PowerWatts) + " of " + whole(*r.PowerLimitWatts) + " W"
}

func orAbsent(v value, why string) value {
	if v.text == "" {
		return value{absent, why}
	}
	return v
}

// explained is the sentence with which a device's reader says what is wrong with it; "" when nothing is.
func explained(d *gpu.Device) string {
	if d.Error == "" {
		return ""
	}
	return capital(strings.TrimSuffix(d.Error, ".")) + "."
}

// outlives says whether values are shown that are from before the device's state.
func outlives(r *gpu.Reading) bool {
	return (r.State == gpu.StateStuck || r.State == gpu.StateLost) &&
		(r.UtilizationPercent != nil || r.MemoryUsedBytes != nil || r.PowerWatts != nil || len(r.Temperatures) > 0)
}

// stateWords gives the badge and the sentence of a device's state.
func stateWords(s gpu.State) (badge, hint string) {
	switch s {
	case gpu.StateOK:
		return "online", ""
	case gpu.StateSuspended:
		return "asleep", "Asleep to save power. It is left asleep; work wakes it."
	case gpu.StateStuck:
		return "stuck", "Its driver does not answer, or crashed. The other devices go on."
	case gpu.StateLost:
		return "lost", "It fell off the bus, was removed, or its driver was unloaded. If it does not come back, a reboot may help."
	case gpu.StateDriverMismatch:
		return "driver mismatch", "Kernel module and driver library differ. Reboot, or reload the kernel module."
	case gpu.StateNoDriver:
		return "no driver", "No driver serves this device. Install or load its driver."
	case gpu.StateNoPermission:
		return "no permission", "This user may not read it. Add the user to the groups video and render."
	case gpu.StateUnsupported:
		return "unsupported", "The driver reports nothing that muster can read."
	default:
		return string(s), ""
	}
}
