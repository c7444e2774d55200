package comfyui

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/backend"
	"muster/shared/job"
)

// generate makes an image on a server. p is what may be left there; nil when nothing is.
func generate(ctx context.Context, s *server, e entry, c catalogue, req backend.Request, report func(job.Progress), background func(func())) (png []byte, p *queued, err error) {
	tell := &teller{req: req, report: report}
	tell.start()
	for try := range 2 {
		o, err := newOrder(e, c, req, try)
		if err != nil {
			return nil, nil, err
		}
		png, p, err = s.make(ctx, o, tell, background)
		if errors.Is(err, errNoFile) && try == 0 && o.prefix != "" {
			// ComfyUI had it in its cache, and somebody took the file away: under another name it is saved again.
			continue
		}
		if err != nil && ctx.Err() == nil {
			err = s.explain(err, e)
		}
		return png, p, err
	}
	return nil, nil, fmt.Errorf("%s: %w: %w", s.name(), errNoFile, backend.ErrUnavailable)
}

// warmUp is the request by which a model is loaded: the smallest image that its family can make.
func warmUp(e entry) backend.Request {
	const side = 64
	return backend.Request{Prompt: "warm-up", Model: e.name, Width: side, Height: side, Steps: 1, Guidance: 1}
}

// load has a model loaded by a server. p is as in generate.
func load(ctx context.Context, s *server, e entry, c catalogue, req backend.Request, background func(func())) (p *queued, err error) {
	if e.workflow != nil {
		return nil, fmt.Errorf("workflow %q loads its models with its first image: ask for one", e.name)
	}
	o, err := newOrder(e, c, req, 0)
	if err != nil {
		return nil, err
	}
	p, err = s.load(ctx, o, req, background)
	if err != nil && ctx.Err() == nil {
		err = s.explain(err, e)
	}
	return p, err
}
