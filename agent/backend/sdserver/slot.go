package sdserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"muster/agent/backend"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// slot is one device and its child, if there is one.
type slot struct {
	fleet *Fleet
	dev   gpu.Device
	turn  chan struct{} // holds a token while somebody has the turn

	// Whoever has the turn.
	server    *server // nil when there is none
	backoff   process.Backoff
	notBefore time.Time       // of the next start
	stuck     *process.Child  // one that was killed in vain; nil when there is none
	lean      map[string]bool // models, by name, whose text encoders found no room on the device
	// Measured on this device.
	stepSeconds   float64 // of the newest step; 0 before the first
	decodeSeconds float64 // between the last step and the finished image, per pixel; 0 before the first

	mu       sync.Mutex
	breaker  process.Breaker
	fault    string // why it failed last, for people
	failures int    // in a row
	status   childStatus
	leave    context.CancelCauseFunc // ends what is left to do for a call that was given up; nil when there is nothing
}

func newSlot(f *Fleet, dev gpu.Device) *slot {
	return &slot{fleet: f, dev: dev, turn: make(chan struct{}, 1), backoff: f.limits.backoff, breaker: f.limits.breaker, lean: map[string]bool{}}
}

func (s *slot) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *slot) release() { <-s.turn }

// portTries is how many ports a start may find taken.
const portTries = 5

// ensure gives a ready child with the model, starting or replacing it as needed. Its error is what Generate returns.
func (s *slot) ensure(ctx context.Context, p pin, model backend.Model) (*server, error) {
	if err := s.fleet.refuses(model); err != nil {
		return nil, err
	}
	if err := s.retire(model); err != nil {
		return nil, err
	}
	for range portTries {
		if s.server == nil {
			if err := s.launch(ctx, p, model); err != nil {
				return nil, err
			}
		}
		err := s.server.await(ctx, s.fleet.limits)
		switch {
		case err == nil:
			s.tell(childStatus{wire.GeneratorReady, model.Name, s.server.port})
			return s.server, s.warmUp(ctx)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, errSlow):
			return nil, s.failed(s.stop(errSlow.Error() + ": its disk or driver may hang"))
		case errors.Is(err, errPort), s.bindFailed():
			if err := s.stop("the port was taken"); errors.Is(err, process.ErrStuck) {
				return nil, s.failed(err)
			}
		default:
			return nil, s.startFault(p, model)
		}
	}
	return nil, s.failed(fmt.Errorf("sd-server found its port taken %d times: %w", portTries, backend.ErrUnavailable))
}

// retire ends a child that can't be used for the model: dead, no longer alone on its port, or with another model.
func (s *slot) retire(model backend.Model) error {
	if s.server == nil {
		return nil
	}
	var err error
	switch alive := s.server.alive(); {
	case errors.Is(alive, errDied):
		err = s.died()
		s.fleet.cfg.Log.Warn("sd-server ended", "device", s.dev.Index.Label(), "error", err)
		return nil
	case !sameFiles(s.server.model, model) || s.server.lean != s.lean[model.Name]:
		err = s.stop("another model is wanted")
	case s.server.ready && alive != nil:
		err = s.stop(alive.Error())
	}
	if errors.Is(err, process.ErrStuck) {
		return s.failed(err)
	}
	return nil
}

// launch starts a child as soon as failures before allow it.
func (s *slot) launch(ctx context.Context, p pin, model backend.Model) error {
	if err := s.problem(time.Now()); err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(s.notBefore)):
	}
	server, err := s.fleet.launch(s.dev, p, model, s.lean[model.Name])
	if errors.Is(err, errStopping) {
		return err
	}
	if err != nil {
		return s.failed(fmt.Errorf("%w: %w", err, backend.ErrUnavailable))
	}
	s.server = server
	s.tell(childStatus{wire.GeneratorStarting, model.Name, server.port})
	return nil
}

// warmUp makes builds that load with their first job load now, with the smallest job there is.
func (s *slot) warmUp(ctx context.Context) error {
	if !s.server.lazy || s.server.stepped {
		return nil
	}
	req := backend.Request{Prompt: "warm-up", Width: 64, Height: 64, Steps: 1, Guidance: 1}
	s.server.out.begin()
	sent, err := s.send(s.server, newOrder(s.server.model, req, "", ""))
	if err == nil {
		_, err = s.follow(ctx, s.server, sent, req, nil)
	}
	if ctx.Err() != nil && s.server != nil {
		_ = s.stop("loading was given up")
	}
	return err
}

// stop ends the child and forgets it. The error says why, and wraps ErrUnavailable; process.ErrStuck too when it does not go.
func (s *slot) stop(why string) error {
	server := s.server
	s.server = nil
	s.tell(childStatus{})
	server.api.close()
	if err := server.child.Stop(); err != nil {
		s.stuck = server.child
		return fmt.Errorf("%s; sd-server %w: %w", why, err, backend.ErrUnavailable)
	}
	s.fleet.forget(server.child)
	return fmt.Errorf("%s: %w", why, backend.ErrUnavailable)
}

// failed counts a failure of the device's child and gives it back.
func (s *slot) failed(err error) error {
	s.notBefore = time.Now().Add(s.backoff.Next())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err.Error()
	s.failures++
	if errors.Is(err, process.ErrStuck) {
		s.breaker.Trip(time.Now())
	} else {
		s.breaker.Fail(time.Now())
	}
	return err
}

// broken counts a failure that trying again can't mend: it opens the breaker at once.
func (s *slot) broken(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err.Error()
	s.failures++
	s.breaker.Trip(time.Now())
	return err
}

// succeeded forgets the failures before.
func (s *slot) succeeded() {
	s.backoff.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.failures = "", 0
	s.breaker.Succeed()
}

// problem says why nothing may be started now; nil when something may.
func (s *slot) problem(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.breaker.Open(now)
	if wait == 0 {
		return nil
	}
	// By the clock: a text that counts seconds would be news every second.
	return fmt.Errorf("sd-server on %s is given a rest after failures, the next try is at %s: %s", s.dev.Index.Label(), now.Add(wait).Local().Format("15:04:05"), s.fault)
}
