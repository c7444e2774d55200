package scheduler

import (
	"slices"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/sampler"
)

// Offer says what images of a model can be asked to be like: the grid that both sides are whole multiples of on every generator that has
// the model, so that a set has one size wherever its images are made, and the samplers that at least one of them has, nil when that is
// not known. device is the only one that is meant; nil means all. Any goroutine may call it.
func (s *Scheduler) Offer(model string, device *gpu.Ref) (grid int, samplers *sampler.List) {
	s.mu.Lock()
	slots := s.slots
	s.mu.Unlock()
	grid = 1
	first := true
	for _, slot := range slots {
		at := slices.IndexFunc(slot.Models, func(m backend.Model) bool { return m.Name == model })
		if at < 0 || slot.Fallback || device != nil && slot.Device.Index != *device {
			continue
		}
		m := slot.Models[at]
		grid = common(grid, max(1, m.Grid))
		switch {
		case first:
			samplers, first = m.Samplers, false
		case samplers != m.Samplers:
			samplers = samplers.With(m.Samplers)
		}
	}
	return grid, samplers
}

// common is the least common multiple.
func common(a, b int) int {
	divisor, rest := a, b
	for rest != 0 {
		divisor, rest = rest, divisor%rest
	}
	return a / divisor * b
}
