package fleet

import (
	"fmt"
	"time"

	"muster/shared/wire"
)

// status is what people are told of a slot's child. The zero value is none.
type status struct {
	state wire.GeneratorState
	model string // that it has, or loads; "" for none
	port  int    // 0 when none runs
}

// Tell notes what the child, which there is, does now, and with which model; "" for none.
func (s *Slot[C]) Tell(state wire.GeneratorState, model string) {
	s.tell(status{state, model, s.Child.base().Port})
}

func (s *Slot[C]) tell(now status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = now
}

// Describe adds what is known of the slot to what people are told of the device.
func (s *Slot[C]) Describe(g *wire.Generator, now time.Time) {
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
