package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"muster/agent"
	"muster/agent/backend/attach"
	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// asking says whether a generator has not answered yet.
func asking(hardware agent.Hardware) bool {
	return hardware.Generators != nil && slices.ContainsFunc(hardware.Generators(), func(g wire.Generator) bool {
		return g.State == wire.GeneratorStarting
	})
}

// namesGenerators says whether a configuration says what there is to generate with.
func namesGenerators(c *agent.Config) bool {
	return c.Simulate != "" || c.SDServer != "" || c.ComfyUIDir != "" || len(c.ComfyUI)+len(c.SDAPI)+len(c.OpenAI) > 0
}

// examineSettings says which settings of generators come to nothing on a machine with so many devices.
func examineSettings(c *agent.Config, devices int, report *report) {
	if c.Models != "" {
		if _, err := models.List(c.ModelsDir()); err != nil {
			report.fault("--models: %v", err)
		}
	}
	switch started := c.SDServer != "" || c.ComfyUIDir != ""; {
	case c.Simulate != "" && (started || len(c.ComfyUI)+len(c.SDAPI)+len(c.OpenAI) > 0):
		report.fault("--simulate: the generators that were given are not used, for simulated devices have the sketch renderer alone")
	case started && devices == 0:
		report.fault("no GPU is detected, so nothing is started for one: --sd-server and --comfyui-dir are not used")
	}
}

// examineGenerators says of every generator whether it can be used, those of which the same is to be said together, and which devices have
// none.
func examineGenerators(list []wire.Generator, devices []gpu.Device, report *report) {
	type same struct{ kind, title, problem string }
	var order []same
	found := map[same][]wire.Generator{}
	for _, g := range list {
		key := same{g.Kind, titleOf(g), g.Problem}
		if g.Problem == "" {
			key.problem = fmt.Sprintf("%d model(s)", g.Models) // none, but what is said of it
		}
		if found[key] == nil {
			order = append(order, key)
		}
		found[key] = append(found[key], g)
	}
	for _, key := range order {
		where := places(found[key])
		switch {
		case found[key][0].Problem != "":
			report.fault("%s%s%s%s", key.title, where, trouble(found[key][0]), seenWords(found[key][0]))
		case key.kind == sketchName:
			report.note("%s draws%s", key.title, cmp.Or(where, " on every device"))
		default:
			report.good("%s generates%s, %s", key.title, cmp.Or(where, " on every device"), key.problem)
		}
	}
	if !slices.ContainsFunc(list, func(g wire.Generator) bool { return g.Kind != sketchName }) {
		report.note("no generator is set up: give muster serve --sd-server, --comfyui-dir or the address of a running one (--comfyui, --sdapi, --openai); see the README")
		return
	}
	var idle []gpu.Ref
	for _, d := range devices {
		if !slices.ContainsFunc(list, func(g wire.Generator) bool { return g.Device != nil && *g.Device == d.Index }) {
			idle = append(idle, d.Index)
		}
	}
	switch len(idle) {
	case 0:
	case 1:
		report.note("%s has no generator: it stays idle", gpu.Named(idle))
	default:
		report.note("%s have no generator: they stay idle", gpu.Named(idle))
	}
}

// seenWords say since when an attached generator is away, and what it had; "" for all others.
func seenWords(g wire.Generator) string {
	if g.Seen == nil {
		return ""
	}
	return fmt.Sprintf(" (it answered last at %s, with %d model(s))", g.Seen.Local().Format("2006-01-02 15:04"), g.Models)
}

// trouble is a generator's problem, as its name would continue: what the agent says of an attached one begins with that.
func trouble(g wire.Generator) string {
	if rest, ok := strings.CutPrefix(g.Problem, g.Title+" at "+g.Address); ok {
		return rest
	}
	return ": " + g.Problem
}

// places says on which devices generators work; "" when that is not told.
func places(list []wire.Generator) string {
	var refs []gpu.Ref
	for _, g := range list {
		if g.Device != nil {
			refs = append(refs, *g.Device)
		}
	}
	if len(refs) == 0 {
		return ""
	}
	return " on " + gpu.Named(refs)
}

// examineWishes finds devices behind the addresses of generators that are not in this machine, where nothing else says so: a generator that
// does not answer can't be told from its device.
func examineWishes(config *agent.Config, list []wire.Generator, devices []gpu.Device, report *report) {
	known := []choice{}
	for _, d := range devices {
		known = append(known, choice{d.Index, d.Name})
	}
	for _, kind := range []struct {
		name      string
		addresses []string
	}{{"comfyui", config.ComfyUI}, {"sdapi", config.SDAPI}, {"openai", config.OpenAI}} {
		for _, address := range kind.addresses {
			c, err := attach.Parse(kind.name, address)
			if err != nil || c.Device == "" || c.Device == gpu.CPU.String() || slices.ContainsFunc(devices, func(d gpu.Device) bool { return d.ID == c.Device || d.Index.String() == c.Device }) {
				continue
			}
			if slices.ContainsFunc(list, func(g wire.Generator) bool { return g.ID == c.ID() && g.State == wire.GeneratorUnplaced }) {
				continue
			}
			report.fault("--%s %s#%s: there is no such device; there are %s", kind.name, c.Base, c.Device, choices(append(known, choice{ref: gpu.CPU})))
		}
	}
}

// sketchName is the kind of the built-in renderer.
const sketchName = "builtin"
