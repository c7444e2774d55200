package comfyui

import (
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// Generators tells of every device in words for people: its child, or why there can be none. It does not block.
func (f *Fleet) Generators(devices []gpu.Device) []wire.Generator {
	now := time.Now()
	models := len(f.stock.Load().models)
	list := make([]wire.Generator, len(devices))
	for i, dev := range devices {
		g := wire.Generator{
			ID: "comfyui " + dev.Index.String(), Kind: f.gen.Name(), Title: f.install.Load().title(), Device: new(dev.Index), State: wire.GeneratorIdle, Models: models,
		}
		if s, ok := f.slots.Known(dev); ok {
			s.Describe(&g, now)
		}
		if err := f.Serves(dev); err != nil {
			g.Problem = err.Error()
			if g.RetryAt == nil {
				g.State = wire.GeneratorUnusable
			}
		} else if problem := f.stock.Load().problem; problem != nil { // it works on with what is known
			g.Problem = problem.Error()
		}
		list[i] = g
	}
	return list
}
