package attach

import (
	"errors"
	"fmt"
	"time"

	"muster/shared/wire"
)

// Problem is why it takes no work now and what would help; nil when it does.
func (s *Server) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renew()
	return s.problem(time.Now())
}

// problem needs mu.
func (s *Server) problem(now time.Time) error {
	rest := s.breaker.Open(now)
	switch {
	case s.fault != nil && errors.Is(s.fault, ErrUnusable):
		return fmt.Errorf("%s: %w", s.name(), s.fault)
	case !s.asked:
		return fmt.Errorf("%s: %w", s.name(), s.fault)
	case s.fault != nil && !s.reached:
		return fmt.Errorf("%s is not there: %w; start it, or leave it out of muster's settings", s.name(), s.fault)
	case s.fault != nil:
		return fmt.Errorf("%s does not answer any more: %w; it is used again as soon as it does", s.name(), s.fault)
	case s.unsure != nil:
		return fmt.Errorf("%s: %w", s.name(), s.unsure)
	case rest > 0: // by the clock: a text that counts seconds would be news every second
		return fmt.Errorf("%s is given a rest after failures, the next try is at %s: %s", s.name(), now.Add(rest).Local().Format("15:04:05"), s.failed)
	case len(s.facts.Models) == 0:
		return fmt.Errorf("%s has no model that can be used", s.name())
	}
	return nil
}

func (s *Server) name() string {
	if s.facts.Title != "" {
		return s.facts.Title + " at " + s.config.Address()
	}
	return s.config.Kind + " at " + s.config.Address()
}

// Name is what people call it: "ComfyUI 0.3.62 at 127.0.0.1:8188".
func (s *Server) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name()
}

// Status is the server as people see it.
func (s *Server) Status() wire.Generator {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renew()
	now := time.Now()
	g := wire.Generator{
		ID: s.config.ID(), Kind: s.config.Kind, Title: s.facts.Title, Address: s.config.Address(), Attached: true, State: s.state(now),
		Models: len(s.facts.Models), Loaded: s.facts.Loaded, Failures: s.rising, Problem: words(s.problem(now)),
	}
	if s.fault != nil && !s.seen.IsZero() {
		g.Seen = new(s.seen.UTC().Truncate(time.Second))
	}
	if g.Title == "" {
		g.Title = s.config.Kind
	}
	if s.placed {
		g.Device = new(s.device.Index)
	}
	if rest := s.breaker.Open(now); rest > 0 {
		g.RetryAt = new(now.Add(rest).UTC().Truncate(time.Second))
	}
	return g
}

// state needs mu.
func (s *Server) state(now time.Time) wire.GeneratorState {
	switch {
	case s.fault != nil && errors.Is(s.fault, ErrUnusable):
		return wire.GeneratorUnusable
	case !s.asked, s.fault == nil && errors.Is(s.unsure, errDevicesUnknown):
		return wire.GeneratorStarting
	case s.fault != nil:
		return wire.GeneratorUnreachable
	case s.unsure != nil:
		return wire.GeneratorUnplaced
	case s.breaker.Open(now) > 0:
		return wire.GeneratorResting
	case len(s.facts.Models) == 0:
		return wire.GeneratorUnusable
	}
	return wire.GeneratorReady
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
