package comfyui

import (
	"context"
	"errors"
	"fmt"
	"time"

	"muster/agent/backend/exchange"
)

// errLost says that a prompt is nowhere on the server any more.
var errLost = errors.New("the prompt is gone: it was restarted, or somebody cleared its queue")

// follow waits until history has the prompt.
func (s *server) follow(ctx context.Context, w *watch, id string, tell *teller) (*record, error) {
	l := &look{server: s, watch: w, id: id}
	timer := time.NewTimer(s.limits.poll)
	defer timer.Stop()
	var hurry time.Duration // between looks once the socket has told of the end
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-s.gone:
			return nil, errGone
		case <-w.wake:
		case <-timer.C:
			record, err := l.once(ctx)
			switch {
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case record != nil || err != nil:
				return record, err
			}
			hurry = min(max(2*hurry, time.Millisecond), lastPoll)
			timer.Reset(s.limits.poll)
			if l.failing.IsZero() { // it has just answered
				tell.again(s.limits.repeat)
			}
		}
		at := w.look()
		tell.tell(at)
		if at.ended { // history follows in a moment
			timer.Reset(hurry)
		}
		if err := s.stalled(at); err != nil {
			return nil, err
		}
	}
}

// lastPoll is the longest pause between looks at a prompt whose end the socket has told of.
const lastPoll = 50 * time.Millisecond

// look asks a server how a prompt is.
type look struct {
	server  *server
	watch   *watch
	id      string
	failing time.Time // when exchanges began to fail; zero while they do not
	next    time.Time // when a silent socket is replaced again
	patient time.Duration
}

// once asks history, and the queue when nothing was heard. Both nil: it goes on.
func (l *look) once(ctx context.Context) (*record, error) {
	at := l.watch.look()
	record, err := l.server.api.history(ctx, l.id)
	if err != nil || record != nil {
		return record, l.pass(err)
	}
	l.failing = time.Time{}
	if at.linked && !at.ended && time.Since(at.active) < l.server.limits.quiet {
		return nil, nil
	}
	where, _, err := l.server.api.queue(ctx, l.id)
	if err != nil {
		return nil, l.pass(err)
	}
	switch where {
	case waiting:
		l.watch.alive(false)
	case running:
		l.watch.alive(true)
		l.revive(at)
	case absent:
		// Between the two questions it may have ended: what leaves the queue is in history at once.
		record, err := l.server.api.history(ctx, l.id)
		if err == nil && record == nil {
			err = errLost
		}
		return record, l.pass(err)
	}
	return nil, nil
}

// revive has the socket opened anew when it was opened again, and says nothing of a prompt that runs: a server that notices the end
// of the first one late forgets the second with it.
func (l *look) revive(at seen) {
	quiet := l.server.limits.quiet
	if at.links < 2 || time.Since(at.active) < quiet || time.Now().Before(l.next) {
		return
	}
	l.patient = min(max(2*l.patient, quiet), 12*quiet)
	l.next = time.Now().Add(l.patient)
	l.watch.reconnect()
}

// pass lets an exchange fail for a while: a server that loads a model answers late. nil goes on.
func (l *look) pass(err error) error {
	var answered *exchange.StatusError
	if err == nil || errors.Is(err, errLost) || errors.Is(err, exchange.ErrBroken) || errors.As(err, &answered) {
		return err
	}
	if l.failing.IsZero() {
		l.failing = time.Now()
	}
	limit := l.server.limits.gone
	if errors.Is(err, exchange.ErrSlow) {
		limit = l.server.limits.stall
	}
	if time.Since(l.failing) > limit {
		return err
	}
	return nil
}

// errStalled says that a prompt makes no progress.
var errStalled = errors.New("made no progress")

// blind is how many times longer a prompt may run whose progress can't be seen.
const blind = 6

// stalled says whether a prompt that runs has shown no sign of life for too long. One that waits behind others has all the time.
func (s *server) stalled(at seen) error {
	if !at.running || at.ended {
		return nil
	}
	limit := max(s.limits.stall, time.Duration(20*at.slowest*float64(time.Second)))
	switch {
	case at.links == 0: // nothing is ever told of its progress
		limit = max(limit, blind*s.limits.firstStep)
	case at.share == 0 || !at.linked:
		limit = max(limit, s.limits.firstStep)
	}
	if idle := time.Since(at.active); idle > limit {
		return fmt.Errorf("%w for %s at %d %%: it hangs", errStalled, idle.Round(time.Second), int(100*at.share))
	}
	return nil
}
