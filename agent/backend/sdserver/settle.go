package sdserver

import (
	"context"
	"errors"
	"time"

	"muster/agent/backend"
)

// settle deals with a job whose call was given up: a queued one is cancelled; one that is being made is left to finish when that
// is sooner than loading the model again, else its child is ended. When the device or the generator itself was given up, the child
// is ended at once, so that nothing holds the device; so it is when ctx ends.
func (s *slot) settle(ctx context.Context, cause error, server *server, sent *submission, req backend.Request) {
	if errors.Is(cause, backend.ErrUnavailable) {
		_ = s.Drop(cause.Error())
		return
	}
	select {
	case <-sent.done:
	case <-ctx.Done():
		_ = s.Drop(context.Cause(ctx).Error())
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
		_ = s.Drop("the job was cancelled")
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
		case <-server.Process.Done():
			return false
		case <-late.C:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
}
