package sdserver

import (
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// Generators tells of every device in words for people: its child, or why there can be none. It does not block.
func (f *Fleet) Generators(devices []gpu.Device) []wire.Generator {
	title := "sd-server"
	if program := f.program.Load(); program.build.version != "" {
		title += " " + program.build.version
	}
	now := time.Now()
	models := len(f.Models())
	list := make([]wire.Generator, len(devices))
	for i, dev := range devices {
		g := wire.Generator{
			ID: "sdserver " + dev.Index.String(), Kind: f.gen.Name(), Title: title, Device: new(dev.Index), State: wire.GeneratorIdle, Models: models,
		}
		if s, ok := f.slots.Known(dev); ok {
			s.Describe(&g, now)
		}
		if err := f.Serves(dev); err != nil {
			g.Problem = err.Error()
			if g.RetryAt == nil {
				g.State = wire.GeneratorUnusable
			}
		}
		list[i] = g
	}
	return list
}
