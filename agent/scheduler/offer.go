package scheduler

import (
	"cmp"
	"slices"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/sampler"
)

// Offer is what images of a model can be asked to be like.
type Offer struct {
	// Family is the model's, as far as a generator knows it.
	Family model.Family
	// Grid is what both sides of an image are whole multiples of on every generator of the model, so that a set has one size wherever
	// its images are made; 1 is any size.
	Grid int
	// Samplers are those of its generators, each list once.
	Samplers sampler.Lists
}

// Offer says what can be asked of a model now. device is the only one that is meant; nil means all. Any goroutine may call it.
func (s *Scheduler) Offer(name string, device *gpu.Ref) Offer {
	s.mu.Lock()
	slots, awaited := s.slots, s.awaited
	s.mu.Unlock()
	offer := Offer{Grid: 1}
	have := func(models []backend.Model) {
		at := slices.IndexFunc(models, func(m backend.Model) bool { return m.Name == name })
		if at < 0 {
			return
		}
		m := models[at]
		offer.Family = cmp.Or(offer.Family, m.Family)
		offer.Grid = common(offer.Grid, max(1, m.Grid))
		if !slices.Contains(offer.Samplers, m.Samplers) {
			offer.Samplers = append(offer.Samplers, m.Samplers)
		}
	}
	for _, slot := range slots {
		if !slot.Fallback && (device == nil || slot.Device.Index == *device) {
			have(slot.Models)
		}
	}
	if device == nil { // where they will be is not known
		for _, a := range awaited {
			have(a.Models)
		}
	}
	return offer
}

// common is the least common multiple.
func common(a, b int) int {
	divisor, rest := a, b
	for rest != 0 {
		divisor, rest = rest, divisor%rest
	}
	return a / divisor * b
}
