package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/calls"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// holder is what a program's package knows of its child: a pointer to a struct that has a *Child embedded.
type holder interface {
	comparable
	base() *Child
}

// Slot is one device and its child, if there is one. Make it with NewSlot.
type Slot[C holder] struct {
	Device gpu.Device
	Turn   calls.Turn
	fleet  *Fleet

	// Whoever has the turn.
	Child     C // nil when there is none
	backoff   process.Backoff
	notBefore time.Time      // of the next start
	stuck     *process.Child // one that was killed in vain; nil when there is none

	mu       sync.Mutex
	breaker  process.Breaker
	fault    string // why it failed last, for people
	failures int    // in a row
	status   status
	leave    context.CancelCauseFunc // ends what is left to do for a call that was given up; nil when there is nothing
}

// NewSlot makes one without a child.
func NewSlot[C holder](f *Fleet, dev gpu.Device) *Slot[C] {
	return &Slot[C]{fleet: f, Device: dev, Turn: calls.NewTurn(), backoff: f.cfg.Backoff, breaker: f.cfg.Breaker}
}

// empty says that there is no child.
func (s *Slot[C]) empty() bool {
	var none C
	return s.Child == none
}

// Launch has start start a child, as soon as failures before allow it, and does not wait until it is ready. model is what people are
// told that it loads; "" for none.
func (s *Slot[C]) Launch(ctx context.Context, model string, start func() (C, error)) error {
	if err := s.Problem(time.Now()); err != nil {
		return fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(s.notBefore)):
	}
	child, err := start()
	if errors.Is(err, calls.ErrStopping) {
		return err
	}
	if err != nil {
		return s.Failed(fmt.Errorf("%w: %w", err, backend.ErrUnavailable))
	}
	s.Child = child
	s.Tell(wire.GeneratorStarting, model)
	return nil
}

// Stop ends the child and forgets it. The error says why, and wraps ErrUnavailable; process.ErrStuck too when it does not go.
func (s *Slot[C]) Stop(why string) error {
	child := s.Child.base()
	var none C
	s.Child = none
	s.tell(status{})
	child.Close()
	if err := child.Process.Stop(); err != nil {
		s.stuck = child.Process
		return fmt.Errorf("%s; %s %w: %w", why, s.fleet.cfg.Name, err, backend.ErrUnavailable)
	}
	s.fleet.forget(child.Process)
	return fmt.Errorf("%s: %w", why, backend.ErrUnavailable)
}

// Drop ends the child, if there is one, for a reason that is no fault of the device's. Its error is that of a child that does not end,
// which counts against the device.
func (s *Slot[C]) Drop(why string) error {
	if s.empty() {
		return nil
	}
	if err := s.Stop(why); errors.Is(err, process.ErrStuck) {
		return s.Failed(err)
	}
	return nil
}

// Failed counts a failure of the device's child and gives it back.
func (s *Slot[C]) Failed(err error) error {
	s.notBefore = time.Now().Add(s.backoff.Next())
	s.count(err, errors.Is(err, process.ErrStuck))
	return err
}

// Broken counts a failure that trying again can't mend: it opens the breaker at once.
func (s *Slot[C]) Broken(err error) error {
	s.count(err, true)
	return err
}

func (s *Slot[C]) count(err error, trip bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err.Error()
	s.failures++
	if trip {
		s.breaker.Trip(time.Now())
	} else {
		s.breaker.Fail(time.Now())
	}
}

// Succeeded forgets the failures before.
func (s *Slot[C]) Succeeded() {
	s.backoff.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.failures = "", 0
	s.breaker.Succeed()
}

// Problem says why nothing may be started now; nil when something may.
func (s *Slot[C]) Problem(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.breaker.Open(now)
	if wait == 0 {
		return nil
	}
	// By the clock: a text that counts seconds would be news every second.
	return fmt.Errorf("%s on %s is given a rest after failures, the next try is at %s: %s", s.fleet.cfg.Name, s.Device.Index.Label(), now.Add(wait).Local().Format("15:04:05"), s.fault)
}
