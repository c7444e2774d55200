package comfyui

import (
	"fmt"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// childStatus is what people are told of a slot's child. The zero value is none.
type childStatus struct {
	state wire.GeneratorState
	model string // that it made an image with last; "" for none
	port  int    // 0 when none runs
}

// tell notes what the child does now.
func (s *slot) tell(now childStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = now
}

// Generators tells of every device in words for people: its child, or why there can be none. It does not block.
func (f *Fleet) Generators(devices []gpu.Device) []wire.Generator {
	now := time.Now()
	models := len(f.stock.Load().models)
	list := make([]wire.Generator, len(devices))
	for i, dev := range devices {
		g := wire.Generator{
			ID: "comfyui " + dev.Index.String(), Kind: f.gen.Name(), Title: f.install.Load().title(), Device: new(dev.Index), State: wire.GeneratorIdle, Models: models,
		}
		f.mu.Lock()
		s := f.slots[dev.ID]
		f.mu.Unlock()
		if s != nil {
			s.describe(&g, now)
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

func (s *slot) describe(g *wire.Generator, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.state != "" {
		g.State, g.Loaded = s.status.state, s.status.model
	}
	if s.status.port != 0 {
		g.Address = fmt.Sprintf("127.0.0.1:%d", s.status.port)
	}
	g.Failures = s.failures
	if rest := s.breaker.Open(now); rest > 0 {
		g.State, g.RetryAt = wire.GeneratorResting, new(now.Add(rest).UTC().Truncate(time.Second))
	}
}
