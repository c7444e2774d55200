package view

import (
	"strconv"
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

	utilization value // percent, without the sign
	used, total value // VRAM in GiB
	share       string
	temperature value
	health      gpu.Health
	power       value
}

// read puts a reading into words. ok says that there is one; live, that it is of now.
func read(d *gpu.Device, r gpu.Reading, ok bool) readout {
	out := readout{health: gpu.HealthUnknown, share: "0"}
	if d.MemoryBytes != nil {
		out.total = reported(gib(*d.MemoryBytes))
	}
	if !ok {
		out.badge = "no reading"
		none := value{absent, "no reading has arrived yet"}
		out.utilization, out.used, out.temperature, out.power = none, none, none, none
		out.total = orAbsent(out.total, none.why)
		return out
	}
	out.badge, out.hint = stateWords(r.State)
	if age := time.Duration(r.AgeMilliseconds) * time.Millisecond; age >= 2*time.Second {
		out.age = "last reading " + span(age) + " ago"
	}
	why := whyAbsent(r.State)
	out.utilization = number(r.UtilizationPercent, why)
	out.readMemory(r, why)
	celsius := r.TemperatureCelsius()
	out.health = gpu.HealthOf(celsius)
	if out.temperature = number(celsius, why); out.temperature.why == "" {
		out.temperature.text += " °C"
		if out.health == gpu.HealthHot || out.health == gpu.HealthCritical {
			out.temperature.text += ", " + string(out.health)
		}
	}
	out.power = power(r, why)
	return out
}

func (out *readout) readMemory(r gpu.Reading, why string) {
	if r.MemoryTotalBytes != nil {
		out.total = reported(gib(*r.MemoryTotalBytes))
	}
	out.total = orAbsent(out.total, why)
	if r.MemoryUsedBytes == nil {
		out.used = value{absent, why}
		return
	}
	out.used = reported(gib(*r.MemoryUsedBytes))
	if r.MemoryTotalBytes != nil && *r.MemoryTotalBytes > 0 {
		share := min(1, float64(*r.MemoryUsedBytes)/float64(*r.MemoryTotalBytes))
		out.share = strconv.FormatFloat(share, 'f', 4, 64)
	}
}

func number(v *float64, why string) value {
	if v == nil {
		return value{absent, why}
	}
	return reported(whole(*v))
}

func power(r gpu.Reading, why string) value {
	switch {
	case r.PowerWatts == nil:
		return value{absent, why}
	case r.PowerLimitWatts == nil:
		return reported(whole(*r.PowerWatts) + " W")
	default:
		return reported(whole(*r.PowerWatts) + " of " + whole(*r.PowerLimitWatts) + " W")
	}
}

func orAbsent(v value, why string) value {
	if v.text == "" {
		return value{absent, why}
	}
	return v
}

// stateWords gives the badge and the sentence of a device's state.
func stateWords(s gpu.State) (badge, hint string) {
	switch s {
	case gpu.StateOK:
		return "online", ""
	case gpu.StateSuspended:
		return "asleep", "Asleep to save power. It is left asleep; work wakes it."
	case gpu.StateStuck:
		return "stuck", "Its driver does not answer. The values are the last ones; the other devices go on."
	case gpu.StateLost:
		return "lost", "It fell off the bus or was removed. The values are the last ones. A reboot may bring it back."
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

// whyAbsent says why a device in this state does not report a value.
func whyAbsent(s gpu.State) string {
	switch s {
	case gpu.StateOK:
		return unreported
	case gpu.StateSuspended:
		return "not read: the device is asleep and reading would wake it"
	case gpu.StateNoPermission:
		return "not readable by this user"
	default:
		return "not readable: " + string(s)
	}
}
