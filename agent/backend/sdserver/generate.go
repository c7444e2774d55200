package sdserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/calls"
	"muster/agent/backend/exchange"
	"muster/shared/gpu"
	"muster/shared/job"
)

// maxSteps is what sd-server makes at most; it clamps without a word.
const maxSteps = 100

// generator is the Fleet as a backend.Backend.
type generator struct{ fleet *Fleet }

// Name gives "sdserver".
func (g *generator) Name() string { return "sdserver" }

// Generate makes one image on the device's own child. When ctx ends it returns at once, and the child is then either left to
// finish or replaced, whatever is sooner; the next call for the device waits for that.
func (g *generator) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	f := g.fleet
	model, err := f.model(req.Model)
	if err != nil {
		return backend.Image{}, err
	}
	if err := check(req); err != nil {
		return backend.Image{}, err
	}
	p, err := f.pin(dev)
	if err != nil {
		return backend.Image{}, fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
	ctx, cancel, err := f.children.Enter(ctx)
	if err != nil {
		return backend.Image{}, err
	}
	defer cancel()
	s := f.slots.Of(dev)
	if err := s.Turn.Take(ctx); err != nil {
		return backend.Image{}, err
	}
	png, settled, err := s.generate(ctx, p, model, req, report)
	if settled {
		s.Turn.Release()
	}
	return backend.Image{PNG: png}, err
}

// check bounds what sd-server would clamp or round silently.
func check(req backend.Request) error {
	switch {
	case req.Steps < 1 || req.Steps > maxSteps:
		return fmt.Errorf("sd-server makes 1 to %d steps, not %d: ask for fewer", maxSteps, req.Steps)
	case min(req.Width, req.Height) < 1 || max(side(req.Width), side(req.Height)) > job.MaxSide:
		return fmt.Errorf("sd-server makes images of up to %d pixels a side, not %dx%d", job.MaxSide, req.Width, req.Height)
	case req.Seed < 0:
		return fmt.Errorf("seed %d: must be 0 or more", req.Seed)
	}
	return nil
}

// generate does a call's work with the slot's turn. settled is false when the turn was handed on to what settles the job.
func (s *slot) generate(ctx context.Context, p pin, model backend.Model, req backend.Request, report func(job.Progress)) (png []byte, settled bool, err error) {
	server, err := s.ensure(ctx, p, model)
	if err != nil {
		return nil, !s.LeaveStarting(context.Cause(ctx)), err
	}
	sampler, schedule, err := server.sampler(req.Sampler)
	if err != nil {
		return nil, true, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, true, err
	}
	server.begin(req)
	sent, err := s.send(server, newOrder(model, req, sampler, schedule))
	if err != nil {
		return nil, true, err
	}
	png, err = s.follow(ctx, server, sent, req, report)
	if ctx.Err() != nil && err != nil {
		cause := context.Cause(ctx)
		handed := s.Child == server && s.HandOn(func(ctx context.Context) { s.settle(ctx, cause, server, sent, req) })
		return nil, !handed, cause
	}
	return png, true, err
}

// submission is what became of an order.
type submission struct {
	done chan struct{}
	id   string // once done is closed
	err  error
}

// send submits in a goroutine of its own: a call that ends meanwhile must not leave a job behind whose id nobody knows.
func (s *slot) send(server *server, o order) (*submission, error) {
	sent := &submission{done: make(chan struct{})}
	if !s.fleet.children.Settle(func() {
		defer close(sent.done)
		sent.id, sent.err = server.api.submit(context.Background(), o) // bounded by the exchange's own deadline
	}) {
		return nil, calls.ErrStopping
	}
	return sent, nil
}

// follow waits for a submitted job's image. report may be nil.
func (s *slot) follow(ctx context.Context, server *server, sent *submission, req backend.Request, report func(job.Progress)) ([]byte, error) {
	select {
	case <-sent.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if sent.err != nil {
		return nil, s.submitFault(server, sent.err)
	}
	tell := teller{req: req, report: report}
	tell.start()
	look := time.NewTimer(s.fleet.limits.poll)
	defer look.Stop()
	hurry := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-server.Process.Done():
			return nil, s.died()
		case <-server.out.wake:
		case <-look.C:
			answer, err := server.api.job(ctx, sent.id)
			switch {
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case err != nil && !patient(err):
				return nil, s.exchangeFault(server, err)
			case err == nil && answer.ended():
				return s.finish(server, answer, req, &tell)
			}
			look.Reset(s.fleet.limits.poll)
		}
		seen := server.out.look()
		tell.progress(seen, s.decodeSeconds)
		if seen.finished { // its status changes in a moment
			hurry = min(max(2*hurry, time.Millisecond), lastPoll)
			look.Reset(hurry)
		}
		if err := s.stalled(server, seen); err != nil {
			return nil, err
		}
	}
}

// lastPoll is the longest pause between looks at a job that is finished but for writing its file.
const lastPoll = 8 * time.Millisecond

// patient says whether an error of a look at the job may pass: a server that is busy answers late, and one that died is noticed
// by its end.
func patient(err error) bool {
	var answered *exchange.StatusError
	return !errors.As(err, &answered) && !errors.Is(err, exchange.ErrBroken)
}

// submitFault explains an order that was not taken.
func (s *slot) submitFault(server *server, err error) error {
	var answered *exchange.StatusError
	if !errors.As(err, &answered) {
		return s.exchangeFault(server, err)
	}
	switch answered.Status {
	case http.StatusTooManyRequests:
		return fmt.Errorf("sd-server on %s is busy: %s: %w", s.Device.Index.Label(), answered.Message, backend.ErrUnavailable)
	case http.StatusBadRequest:
		return fmt.Errorf("sd-server refused the job: %s", answered.Message)
	}
	return s.exchangeFault(server, err)
}

// stalled gives an error, and ends the child, when it has shown no sign of life for too long.
func (s *slot) stalled(server *server, seen said) error {
	if idle := time.Since(seen.active); idle > s.fleet.limits.patience(server, seen) {
		return s.Failed(s.Stop(fmt.Sprintf("sd-server on %s made no progress for %s at step %d: it hangs", s.Device.Index.Label(), idle.Round(time.Second), seen.step)))
	}
	return nil
}

// patience is how long a child may show no sign of life now.
func (l limits) patience(server *server, seen said) time.Duration {
	if seen.step == 0 && (!server.stepped || server.encoders != onDevice) { // kernels are compiled, or text encoders take their time
		return l.firstStep
	}
	return max(l.stall, time.Duration(20*seen.slowest*float64(time.Second)))
}

// finish takes the image of a job that has ended.
func (s *slot) finish(server *server, answer status, req backend.Request, tell *teller) ([]byte, error) {
	if answer.Status != statusCompleted {
		return nil, s.jobFault(server, answer)
	}
	if answer.Result == nil || len(answer.Result.Images) != 1 {
		return nil, s.exchangeFault(server, fmt.Errorf("sd-server %w: a completed job without one image", exchange.ErrBroken))
	}
	png := answer.Result.Images[0].PNG
	if err := checkPNG(png, side(req.Width), side(req.Height)); err != nil {
		if errors.Is(err, errSize) {
			return nil, fmt.Errorf("sd-server: %w", err)
		}
		return nil, s.exchangeFault(server, fmt.Errorf("sd-server %w: %w", exchange.ErrBroken, err))
	}
	server.stepped = true
	if seen := server.out.look(); !seen.sampled.IsZero() {
		s.stepSeconds = seen.seconds
		s.decodeSeconds = time.Since(seen.sampled).Seconds() / float64(side(req.Width)*side(req.Height))
	}
	s.Succeeded()
	tell.end()
	return png, nil
}
