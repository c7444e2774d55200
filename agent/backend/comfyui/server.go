package comfyui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
	"muster/agent/process"
)

// limits are the deadlines towards a ComfyUI. Tests have others.
type limits struct {
	answer    time.Duration // for one exchange
	poll      time.Duration // between looks at a prompt while its socket is silent
	quiet     time.Duration // without a word from a socket that was opened again, until another one is tried
	stall     time.Duration // without a sign of life from a prompt that runs, or 20 steps if that is longer
	firstStep time.Duration // the same before its first step: a model may load
	gone      time.Duration // of exchanges that fail, until the server is given up
	view      time.Duration // for an image, from its first byte to its last
	settle    time.Duration // for a prompt that was given up to leave the server
	unload    time.Duration // for the memory of what was unloaded to be free

	probe   time.Duration // for --help
	start   time.Duration // until a child answers
	grace   time.Duration // between SIGTERM and SIGKILL
	backoff process.Backoff
	breaker process.Breaker
}

func defaultLimits() limits {
	return limits{
		answer: 30 * time.Second, poll: time.Second, quiet: 5 * time.Second, stall: 3 * time.Minute, firstStep: 10 * time.Minute,
		gone: 10 * time.Second, view: time.Minute, settle: 2 * time.Minute, unload: 10 * time.Second,
		probe: time.Minute, start: 5 * time.Minute, grace: 10 * time.Second,
		breaker: process.Breaker{Failures: 3, Window: 30 * time.Minute, Rest: time.Minute},
	}
}

// server is one ComfyUI that answers, whoever runs it. Whoever has the turn of its device uses it.
type server struct {
	api    api
	name   func() string // what people call it: "ComfyUI 0.3.62 at 127.0.0.1:8188"
	log    *slog.Logger
	limits limits
	gone   <-chan struct{} // closed when its process has ended; nil when that can't be told
	taken  func()          // is called when an image was fetched; nil when nobody cares
}

// prompt is a graph on its way through a server.
type prompt struct {
	asked string        // the id that it was sent with
	sent  chan struct{} // closed once the server has answered; then:
	id    string        // that it has there
	err   error         // why it was not taken; nil when it was
}

// errLost says that a prompt is nowhere on the server any more.
var errLost = errors.New("the prompt is gone: it was restarted, or somebody cleared its queue")

// errNoFile says that an image is not on the server's disk any more.
var errNoFile = errors.New("the image's file is gone")

// submit sends an order by a goroutine of its own: a call that ends meanwhile must not leave a prompt behind. background starts it.
func (s *server) submit(o order, client string, background func(func())) *prompt {
	p := &prompt{asked: newUUID(), sent: make(chan struct{})}
	background(func() {
		defer close(p.sent)
		p.id, p.err = s.api.submit(context.Background(), submission{o.graph, client, p.asked}) // bounded by the exchange's own deadline
		if p.err != nil {
			p.id = p.asked
		}
	})
	return p
}

// run has a server work at an order until history has it. p is what may be left there when an error is returned; nil when nothing was
// sent. background starts what must outlive the call.
func (s *server) run(ctx context.Context, o order, tell *teller, background func(func())) (r *record, p *prompt, err error) {
	watching, end := context.WithCancel(ctx)
	w := newWatch(s.api, s.log, newUUID(), o.samplers, tell.req.Preview != nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(watching)
	}()
	defer func() {
		end()
		<-ended
	}()
	select {
	case <-w.opened: // before it is sent, or its first events are lost
	case <-time.After(s.limits.gone):
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	p = s.submit(o, w.client, background)
	w.call(p.asked)
	select {
	case <-p.sent:
	case <-ctx.Done():
		return nil, p, context.Cause(ctx)
	case <-s.gone:
		return nil, p, errGone
	}
	if p.err != nil {
		return nil, p, p.err
	}
	w.call(p.id)
	r, err = s.follow(ctx, w, p.id, tell)
	return r, p, err
}

// make makes the image of an order. p is as in run.
func (s *server) make(ctx context.Context, o order, tell *teller, background func(func())) (png []byte, p *prompt, err error) {
	r, p, err := s.run(ctx, o, tell, background)
	if err != nil {
		return nil, p, err
	}
	png, err = s.take(ctx, r, o)
	if err == nil {
		tell.end()
	}
	return png, nil, err // it has ended: nothing is left there
}

// errGone says that the server's process has ended.
var errGone = errors.New("ComfyUI ended")

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
	where, err := l.server.api.queue(ctx, l.id)
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

// stalled says whether a prompt that runs has shown no sign of life for too long. One that waits behind others has all the time.
func (s *server) stalled(at seen) error {
	if !at.running || at.ended {
		return nil
	}
	limit := max(s.limits.stall, time.Duration(20*at.slowest*float64(time.Second)))
	if at.share == 0 || !at.linked {
		limit = max(limit, s.limits.firstStep)
	}
	if idle := time.Since(at.active); idle > limit {
		return fmt.Errorf("%w for %s at %d %%: it hangs", errStalled, idle.Round(time.Second), int(100*at.share))
	}
	return nil
}

// load runs an order for its model alone. p is as in run.
func (s *server) load(ctx context.Context, o order, req backend.Request, background func(func())) (p *prompt, err error) {
	o.warmUp()
	r, p, err := s.run(ctx, o, &teller{req: req}, background)
	if err != nil {
		return p, err
	}
	return nil, r.problem()
}

// settle takes a prompt that was given up off the server, and waits until it has left: what runs stops at its next step.
func (s *server) settle(ctx context.Context, p *prompt) error {
	select {
	case <-p.sent:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.gone:
		return nil
	}
	var refused *exchange.StatusError
	if errors.As(p.err, &refused) {
		return nil // it was never there
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.settle)
	defer cancel()
	begun := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := s.api.cancel(ctx, p.id)
		if err == nil {
			where, err := s.api.queue(ctx, p.id)
			if err == nil && where == absent {
				return nil
			}
		} else if unreachable(err) && time.Since(begun) > s.limits.gone {
			return nil // with it went its queue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("a prompt that was given up is still there: %w", context.Cause(ctx))
		case <-s.gone:
			return nil
		case <-time.After(pause):
		}
	}
}

// unload has everything unloaded and waits until the memory is free, for a while: another's prompt that runs delays it.
func (s *server) unload(ctx context.Context) error {
	if err := s.api.free(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.unload)
	defer cancel()
	for {
		if now, err := s.api.stats(ctx); err != nil || now.onCPU() || now.held() < leftOver {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.gone:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// leftOver is what PyTorch may hold when nothing is loaded, in bytes.
const leftOver = 64 << 20
