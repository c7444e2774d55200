package comfyui

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	child     *child // nil when there is none
	backoff   process.Backoff
	notBefore time.Time      // of the next start
	stuck     *process.Child // one that was killed in vain; nil when there is none

	mu       sync.Mutex
	breaker  process.Breaker
	fault    string // why it failed last, for people
	failures int    // in a row
	status   childStatus
	leave    context.CancelCauseFunc // ends what is left to do for a call that was given up; nil when there is nothing
}

func newSlot(f *Fleet, dev gpu.Device) *slot {
	return &slot{fleet: f, dev: dev, turn: make(chan struct{}, 1), backoff: f.limits.backoff, breaker: f.limits.breaker}
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

// ensure gives a child that answers, starting or replacing it as needed. Its error is what Generate returns.
func (s *slot) ensure(ctx context.Context, masks []string) (*child, error) {
	if err := s.retire(); err != nil {
		return nil, err
	}
	for range portTries {
		if s.child == nil {
			if err := s.launch(ctx, masks); err != nil {
				return nil, err
			}
		}
		before := s.child.ready
		err := s.child.await(ctx, s.dev.Index == gpu.CPU)
		switch {
		case err == nil:
			if before && time.Since(s.child.asked) > askEvery {
				s.child.refresh(ctx)
			}
			s.tell(childStatus{wire.GeneratorReady, s.child.loaded, s.child.port})
			return s.child, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, errSlow):
			return nil, s.failed(s.stop(errSlow.Error() + ": its disk or driver may hang"))
		case errors.Is(err, errWrong):
			return nil, s.broken(s.stop(fmt.Sprintf("%s: %v", s.dev.Index.Label(), err)))
		case errors.Is(err, errPort), s.child.out.portTaken():
			if err := s.stop("the port was taken"); errors.Is(err, process.ErrStuck) {
				return nil, s.failed(err)
			}
		default:
			return nil, s.startFault(masks)
		}
	}
	return nil, s.failed(fmt.Errorf("ComfyUI found its port taken %d times: %w", portTries, backend.ErrUnavailable))
}

// retire ends a child that can't be used: dead, or no longer alone on its port.
func (s *slot) retire() error {
	if s.child == nil {
		return nil
	}
	var err error
	switch alive := s.child.alive(); {
	case errors.Is(alive, errGone) && s.child.ready:
		s.fleet.cfg.Log.Warn("ComfyUI ended", "device", s.dev.Index.Label(), "error", s.died())
		return nil
	case s.child.ready && alive != nil:
		err = s.stop(alive.Error())
	}
	if errors.Is(err, process.ErrStuck) {
		return s.failed(err)
	}
	return nil
}

// launch starts a child as soon as failures before allow it.
func (s *slot) launch(ctx context.Context, masks []string) error {
	if err := s.problem(time.Now()); err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(s.notBefore)):
	}
	child, err := s.fleet.launch(s.dev, masks)
	if errors.Is(err, errStopping) {
		return err
	}
	if err != nil {
		return s.failed(fmt.Errorf("%w: %w", err, backend.ErrUnavailable))
	}
	s.child = child
	s.tell(childStatus{wire.GeneratorStarting, "", child.port})
	return nil
}

// stop ends the child and forgets it. The error says why, and wraps ErrUnavailable; process.ErrStuck too when it does not go.
func (s *slot) stop(why string) error {
	child := s.child
	s.child = nil
	s.tell(childStatus{})
	child.api.Close()
	if err := child.process.Stop(); err != nil {
		s.stuck = child.process
		return fmt.Errorf("%s; ComfyUI %w: %w", why, err, backend.ErrUnavailable)
	}
	s.fleet.forget(child.process)
	return fmt.Errorf("%s: %w", why, backend.ErrUnavailable)
}

// startFault explains a child that ended before it answered.
func (s *slot) startFault(masks []string) error {
	exit, said := s.child.process.Exit(), s.child.out.complaint()
	if exit.Signal != 0 || exit.Asked || s.child.out.outOfMemory() != "" {
		return s.died()
	}
	_ = s.stop("ended")
	label := s.dev.Index.Label()
	switch {
	case strings.Contains(said, "ModuleNotFoundError"), strings.Contains(said, "ImportError"):
		return s.broken(fmt.Errorf("ComfyUI can't be run with %s: %s: name the interpreter of ComfyUI's own environment, or install its requirements there: %w",
			s.fleet.cfg.Python, said, backend.ErrUnavailable))
	case strings.Contains(said, "unrecognized arguments"), strings.Contains(said, ": error: argument"):
		return s.broken(fmt.Errorf("this ComfyUI does not know what muster asks of it (%s): update it: %w", said, backend.ErrUnavailable))
	case tells(said, []string{"no cuda gpus", "no hip gpus", "not compiled with cuda", "found no nvidia driver", "torch not compiled"}):
		return s.broken(fmt.Errorf("ComfyUI does not see %s behind %s: %s: check the driver, and that its PyTorch is the one for this device: %w",
			label, strings.Join(masks, " "), said, backend.ErrUnavailable))
	}
	return s.failed(fmt.Errorf("ComfyUI on %s ended before it answered: %s (%s): %w", label, orNothing(said), exit, backend.ErrUnavailable))
}

// died explains a child that ended by itself, counts it and forgets it.
func (s *slot) died() error {
	child := s.child
	exit, memory, said := child.process.Exit(), child.out.outOfMemory(), child.out.complaint()
	err := s.stop("ended")
	label := s.dev.Index.Label()
	switch {
	case exit.Asked:
		return err
	case memory != "":
		return s.failed(fmt.Errorf("ComfyUI on %s: %s (%s): %w", label, memory, exit, backend.ErrOutOfMemory))
	}
	return s.failed(fmt.Errorf("ComfyUI on %s ended: %s (%s): %w", label, orNothing(said), exit, backend.ErrUnavailable))
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
func (s *slot) succeeded(model string) {
	s.backoff.Reset()
	s.child.loaded = model
	s.tell(childStatus{wire.GeneratorReady, model, s.child.port})
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
	return fmt.Errorf("ComfyUI on %s is given a rest after failures, the next try is at %s: %s", s.dev.Index.Label(), now.Add(wait).Local().Format("15:04:05"), s.fault)
}
