package fleet

import (
	"sync"

	"muster/shared/gpu"
)

// Slots are those of all devices, each as its program's package extends it: S is a pointer to that. Make it with NewSlots; its methods
// may be called from any goroutine.
type Slots[S any] struct {
	make func(gpu.Device) S

	mu  sync.Mutex
	all map[string]S // by the device's stable ID
}

// NewSlots has each slot made by a function when it is first asked for.
func NewSlots[S any](make func(gpu.Device) S) *Slots[S] {
	return &Slots[S]{make: make, all: map[string]S{}}
}

// Of gives the device's.
func (s *Slots[S]) Of(dev gpu.Device) S {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.all[dev.ID]
	if !ok {
		slot = s.make(dev)
		s.all[dev.ID] = slot
	}
	return slot
}

// Count is how many devices were asked for.
func (s *Slots[S]) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// Known gives the device's, if it was ever asked for.
func (s *Slots[S]) Known(dev gpu.Device) (slot S, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok = s.all[dev.ID]
	return slot, ok
}
