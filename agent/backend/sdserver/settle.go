package sdserver

import (
	"context"
	"errors"
	"time"

	"muster/agent/backend"
	"muster/agent/process"
)

// handOn has rest done by a goroutine, to which the slot's turn passes: what is left to do for a call that was given up. Its context
// ends with the fleet, or with hurry. false when the fleet is ending and nothing needs to be done.
func (s *slot) handOn(rest func(ctx context.Context)) bool {
	ctx, leave := context.WithCancelCause(context.Background())
	ctx, cancel := s.fleet.whileRunning(ctx)
	s.setLeave(leave)
	done := func() {
		s.setLeave(nil)
		cancel()
	}
	handed := s.fleet.settle(func() {
		defer s.release()
		defer done()
		rest(ctx)
	})
	if !handed {
		done()
	}
	return handed
}

func (s *slot) setLeave(leave context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = leave
}

// hurry cuts short what is left to do for a call that was given up, if there is one.
func (s *slot) hurry(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave != nil {
		s.leave(cause)
	}
}

// leaveLoading ends a child that was still loading when the device or the generator itself was given up; for any other cause the
// child is left loading for whoever comes next. It says whether the slot's turn was handed on.
func (s *slot) leaveLoading(cause error) bool {
	if s.server == nil || !errors.Is(cause, backend.ErrUnavailable) {
		return false
	}
	return s.handOn(func(context.Context) { s.abort(cause.Error()) })
}

// settle deals with a job whose call was given up: a queued one is cancelled; one that is being made is left to finish when that
// is sooner than loading the model again, else its child is ended. When the device or the generator itself was given up, the child
// is ended at once, so that nothing holds the device; so it is when ctx ends.
func (s *slot) settle(ctx context.Context, cause error, server *server, sent *submission, req backend.Request) {
	if errors.Is(cause, backend.ErrUnavailable) {
		s.abort(cause.Error())
		return
	}
	select {
	case <-sent.done:
	case <-ctx.Done():
		s.abort(context.Cause(ctx).Error())
		return
	}
	if sent.err != nil {
		_ = s.submitFault(server, sent.err)
		return
	}
	if _, err := server.api.cancel(ctx, sent.id); err == nil {
		return
	}
	left, known := s.remaining(server, req)
	if !known || left > server.loadTook || !s.outlast(ctx, server, sent.id, 2*left+time.Second) {
		s.abort("the job was cancelled")
	}
}

// abort ends the child, and counts one that does not end against the device.
func (s *slot) abort(why string) {
	if err := s.stop(why); errors.Is(err, process.ErrStuck) {
		_ = s.failed(err)
	}
}

// remaining estimates how long the child still works at its job; false when nothing is known.
func (s *slot) remaining(server *server, req backend.Request) (time.Duration, bool) {
	seen := server.out.look()
	seconds, steps := seen.seconds, seen.steps
	if seen.step == 0 {
		seconds, steps = s.stepSeconds, req.Steps
	}
	if seconds == 0 {
		return 0, false
	}
	left := seconds*float64(steps-seen.step) + s.decodeSeconds*float64(side(req.Width)*side(req.Height))
	return time.Duration(left * float64(time.Second)), true
}

// outlast waits until the job has ended; false when it has not in time.
func (s *slot) outlast(ctx context.Context, server *server, id string, limit time.Duration) bool {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		if answer, err := server.api.job(ctx, id); err == nil && answer.ended() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-server.child.Done():
			return false
		case <-late.C:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
}
