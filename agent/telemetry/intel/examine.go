package intel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// Examine says for each device what keeps a value from being read. Of a sleeping device it says only that. It opens no device node.
func (r *Reader) Examine(ctx context.Context) []telemetry.Finding {
	var findings []telemetry.Finding
	for _, c := range r.known() {
		if ctx.Err() != nil {
			return findings
		}
		findings = append(findings, c.examine()...)
	}
	return findings
}

func (c *card) examine() []telemetry.Finding {
	subject := fmt.Sprintf("%s at %s", c.device.Name, c.device.PCIAddress)
	p := newProbe(c.tree)
	defer p.release()
	if c.asleep(p) {
		return []telemetry.Finding{{Level: telemetry.LevelOK, Subject: subject, Text: "asleep to save power; muster does not wake it"}}
	}
	findings := []telemetry.Finding{{Level: telemetry.LevelOK, Subject: subject, Text: "read through the driver " + c.driver + " (" + c.device.DriverVersion + ")"}}
	findings = append(findings, c.examineMemory(subject)...)
	if s := c.sensors.Load(); s != nil && !c.device.Unified {
		findings = append(findings, c.examineSensors(subject, s)...)
	}
	return append(findings, c.examineEngines(subject)...)
}

// examineMemory speaks of the render node, which generators need too.
func (c *card) examineMemory(subject string) []telemetry.Finding {
	costs := "the size of its memory, so that models can't be fitted to it; generators can't use it as this user either"
	if c.device.Unified {
		costs = "how much of the main memory it can use; generators can't use it as this user either"
	}
	node := "/dev/dri/renderD*"
	for _, name := range c.nodes {
		if strings.HasPrefix(name, "renderD") {
			node = "/dev/dri/" + name
		}
	}
	switch {
	case errors.Is(c.memory.err, fs.ErrPermission):
		return []telemetry.Finding{{Level: telemetry.LevelFault, Subject: subject, Text: "this user may not open " + node, Costs: costs,
			Mend: "sudo usermod -aG render,video $USER, then log in again (in a container: --group-add with the number of the host's group render)"}}
	case errors.Is(c.memory.err, fs.ErrNotExist):
		return []telemetry.Finding{{Level: telemetry.LevelFault, Subject: subject, Text: node + " is not there, as in a container that wasn't given it", Costs: costs,
			Mend: "start the container with --device /dev/dri"}}
	case c.memory.err == nil && c.memory.total != nil && !c.memory.counted:
		return []telemetry.Finding{{Level: telemetry.LevelNote, Subject: subject, Text: "the driver tells how much memory is in use only to processes with CAP_PERFMON",
			Costs: "memory in use", Mend: `sudo setcap cap_perfmon,cap_sys_ptrace+ep "$(command -v muster)", or AmbientCapabilities=CAP_PERFMON CAP_SYS_PTRACE in its systemd unit`}}
	default:
		return nil
	}
}

// examineSensors speaks of what newer kernels show of a card.
func (c *card) examineSensors(subject string, s *sensors) []telemetry.Finding {
	since := map[string]struct{ hwmon, temperature string }{"i915": {"6.2", "6.12"}, "xe": {"6.8", "6.15"}}[c.driver]
	update := func(text, costs, version string) telemetry.Finding {
		return telemetry.Finding{Level: telemetry.LevelNote, Subject: subject, Text: text, Costs: costs,
			Mend: "Linux " + version + " or newer, where the card has such a sensor (this is " + c.device.DriverVersion + ")"}
	}
	switch {
	case !s.hwmon:
		return []telemetry.Finding{update("the driver shows no sensors (hwmon)", "power, its limits, temperature and fan", since.hwmon)}
	case len(s.temperatures) == 0:
		return []telemetry.Finding{update("the driver shows no temperature", "temperature; the scheduler can't spare a hot card", since.temperature)}
	default:
		return nil
	}
}

// examineEngines speaks of the utilisation, as the last Read found it.
func (c *card) examineEngines(subject string) []telemetry.Finding {
	unknown := c.meter.unknown.Load()
	if unknown == nil {
		return nil
	}
	switch *unknown {
	case gpu.AbsentNoPermission:
		return []telemetry.Finding{{Level: telemetry.LevelNote, Subject: subject, Text: "what engines do for processes of other users can't be seen, and they are more awake than for those that can",
			Costs: "utilisation, while other users' programs work", Mend: `sudo setcap cap_perfmon,cap_sys_ptrace+ep "$(command -v muster)"; in a container --pid=host --cap-add SYS_PTRACE`}}
	case gpu.AbsentUnsupported:
		version := map[string]string{"i915": "5.19", "xe": "6.11"}[c.driver]
		return []telemetry.Finding{{Level: telemetry.LevelNote, Subject: subject, Text: "the driver doesn't tell what engines do for processes",
			Costs: "utilisation", Mend: "Linux " + version + " or newer (this is " + c.device.DriverVersion + "); a virtual function never tells"}}
	default:
		return nil
	}
}
