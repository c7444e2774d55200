package comfyui

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/calls"
	"muster/agent/process"
)

// limits are the deadlines towards a ComfyUI. Tests have others.
type limits struct {
	answer    time.Duration // for one exchange
	poll      time.Duration // between looks at a prompt while its socket is silent
	repeat    time.Duration // between reports of progress that has not changed, at least
	quiet     time.Duration // without a word from a socket that was opened again, until another one is tried
	stall     time.Duration // without a sign of life from a prompt that runs, or 20 steps if that is longer
	firstStep time.Duration // the same before its first step: a model may load
	gone      time.Duration // of exchanges that fail, until the server is given up
	view      time.Duration // for an image, from its first byte to its last
	settle    time.Duration // for a prompt that was given up to leave the server
	unload    time.Duration // for the memory of what was unloaded to be free

	probe   time.Duration // for --help
	scan    time.Duration // from one look at the models folders to the next
	scanned time.Duration // for one, until people are told that it does not end
	start   time.Duration // until a child answers
	grace   time.Duration // between SIGTERM and SIGKILL
	backoff process.Backoff
	breaker process.Breaker
}

func defaultLimits() limits {
	return limits{
		answer: 30 * time.Second, poll: time.Second, repeat: 15 * time.Second, quiet: 5 * time.Second, stall: 3 * time.Minute, firstStep: 10 * time.Minute,
		gone: 10 * time.Second, view: time.Minute, settle: 2 * time.Minute, unload: 10 * time.Second,
		probe: time.Minute, scan: 5 * time.Second, scanned: 2 * time.Second, start: 5 * time.Minute, grace: 10 * time.Second,
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
	life   *calls.Life     // ends when nothing more may be asked of it; nil when its process ends then, as our own does
}

// queued is a prompt on its way through a server.
type queued struct {
	asked string        // the id that it was sent with
	sent  chan struct{} // closed once the server has answered; then:
	id    string        // that it has there
	err   error         // why it was not taken; nil when it was
	// told says that the server was told to cancel it, and took that. Whoever settles it uses it.
	told bool
}

// errNoFile says that an image is not on the server's disk any more.
var errNoFile = errors.New("the image's file is gone")

// submit sends an order by a goroutine of its own: a call that ends meanwhile must not leave a prompt behind. background starts it.
func (s *server) submit(o order, client string, background func(func())) *queued {
	p := &queued{asked: newUUID(), sent: make(chan struct{})}
	background(func() {
		defer close(p.sent)
		ctx, cancel := s.life.Linger(stopSubmit) // the exchange has a deadline of its own
		defer cancel()
		p.id, p.err = s.api.submit(ctx, submission{o.graph, client, p.asked})
		if p.err != nil {
			p.id = p.asked
		}
	})
	return p
}

// run has a server work at an order until history has it. p is what may be left there when an error is returned; nil when nothing was
// sent. background starts what must outlive the call. When it panics, as what is told of progress may, the prompt is cancelled.
func (s *server) run(ctx context.Context, o order, tell *teller, background func(func())) (r *record, p *queued, err error) {
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
	panicked := true
	defer func() {
		if panicked {
			background(func() { _ = s.leave(p) })
		}
	}()
	r, err = s.follow(ctx, w, p.id, tell)
	panicked = false
	return r, p, err
}

// make makes the image of an order. p is as in run.
func (s *server) make(ctx context.Context, o order, tell *teller, background func(func())) (png []byte, p *queued, err error) {
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

// load runs an order for its model alone. p is as in run.
func (s *server) load(ctx context.Context, o order, req backend.Request, background func(func())) (p *queued, err error) {
	o.warmUp()
	r, p, err := s.run(ctx, o, &teller{req: req}, background)
	if err != nil {
		return p, err
	}
	return nil, r.problem()
}
