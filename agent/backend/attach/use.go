package attach

import (
	"errors"
	"fmt"

	"muster/agent/backend"
	"muster/shared/gpu"
)

// Usable says why it can't be used for a device now; nil when it can. Its error wraps backend.ErrUnavailable.
func (s *Server) Usable(dev gpu.Device) error {
	if err := s.Problem(); err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
	if own, ok := s.Device(); !ok || own.ID != dev.ID {
		return fmt.Errorf("%s does not work on %s: %w", s.Name(), dev.Index.Label(), backend.ErrUnavailable)
	}
	return nil
}

// Model finds one of its models by the name that a job asks for.
func (s *Server) Model(name string) (backend.Model, error) {
	for _, m := range s.Models() {
		if m.Name == name {
			return m, nil
		}
	}
	return backend.Model{}, fmt.Errorf("%s has no model %q", s.Name(), name)
}

// errGivenUp ends a call in the books, where its end counts neither as success nor as failure: it panicked, or it was given up and what
// was left of it is done.
var errGivenUp = errors.New("the call was given up")

// Use does a call's work on the server. The caller has taken the turn: it is given back, also when work panics, or passes to rest, what
// is left to do for a call that was given up, nil for nothing. rest is run by a goroutine; Use does not wait for it. From the begin of
// work to the end of rest the server is not probed.
func (s *Server) Use(work func() (rest func(), err error)) (err error) {
	s.begin()
	kept := true
	err = errGivenUp
	defer func() {
		if kept {
			s.Turn.Release()
		}
		s.end(err)
	}()
	rest, err := work()
	if rest != nil {
		kept = false
		s.handOn(rest)
	}
	return err
}

func (s *Server) handOn(rest func()) {
	s.begin()
	s.Life.Go(func() {
		defer s.Turn.Release()
		rest()
		s.end(errGivenUp)
	})
}
