package sdapi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/agent/backend/prompt"
	"muster/shared/gpu"
	"muster/shared/job"
)

// order is the body of txt2img. The seed always stands in it: without one every program takes any.
type order struct {
	Prompt         string         `json:"prompt"`
	NegativePrompt string         `json:"negative_prompt"`
	Seed           int64          `json:"seed"`
	Width          int            `json:"width"`
	Height         int            `json:"height"`
	Steps          int            `json:"steps"`
	Guidance       float64        `json:"cfg_scale"`
	Distilled      *float64       `json:"distilled_cfg_scale,omitempty"` // Forge's, of models that have one of their own
	Sampler        string         `json:"sampler_name,omitempty"`
	Scheduler      string         `json:"scheduler,omitempty"`
	BatchSize      int            `json:"batch_size"`
	Iterations     int            `json:"n_iter"`
	SendImages     bool           `json:"send_images"`
	SaveImages     bool           `json:"save_images"`
	Override       map[string]any `json:"override_settings,omitempty"`
	Restore        bool           `json:"override_settings_restore_afterwards"`
	Task           string         `json:"force_task_id,omitempty"`
}

// call is one image that is being made.
type call struct {
	program program // as it was when the call began
	req     backend.Request
	model   backend.Model
	order   order
	begun   time.Time
	eye     eye
	pace    pace
	life    time.Time // since when the clock of a stall runs
	shown   time.Time // when a preview was asked for last
	sent    *attach.Sent
	report  func(job.Progress)
	told    job.Progress // last
	toldAt  time.Time
	queued  bool // it was seen last to wait behind others
	marred  bool // somebody was seen to interrupt it
}

// Generate makes one image. When ctx ends it returns at once; what is left on the server is interrupted if it is proven to be ours,
// else waited for, and the next call waits for that.
func (g *Generator) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (image backend.Image, err error) {
	if err := context.Cause(ctx); err != nil {
		return backend.Image{}, err
	}
	if err := g.Usable(dev); err != nil {
		return backend.Image{}, err
	}
	model, err := g.Model(req.Model)
	if err != nil {
		return backend.Image{}, err
	}
	if err := g.Turn.TakeTelling(ctx, g.limits.alive, func() { report(job.Progress{Steps: req.Steps}) }); err != nil {
		return backend.Image{}, err
	}
	err = g.Use(func() (rest func(), err error) {
		image.PNG, rest, err = g.generate(ctx, model, req, report)
		return rest, err
	})
	return image, err
}

// generate does a call's work with the turn. rest settles a call that was given up, with the turn; nil when nothing is left of it.
func (g *Generator) generate(ctx context.Context, model backend.Model, req backend.Request, report func(job.Progress)) (png []byte, rest func(), err error) {
	c, err := g.prepare(ctx, model, req)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	c.report = report
	c.tell(job.Progress{Steps: req.Steps})
	c.sent = g.Send(g.client, "/sdapi/v1/txt2img", c.order, g.limits.read)
	err = g.follow(ctx, c)
	if err == nil && c.sent.Err != nil && g.Life.Over() { // the agent's stop has closed the connection, and nothing else
		err = fmt.Errorf("%s is left, the agent stops: %w: %w", g.Server.Name(), attach.ErrNotItsFault, backend.ErrUnavailable)
	}
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	g.learn(c)
	if err != nil { // given up, or it hangs
		return nil, func() { g.settle(c, err) }, err
	}
	png, err = g.finish(ctx, c)
	switch {
	case err == nil:
		g.holds(model)
		left := 0.0
		report(job.Progress{Step: req.Steps, Steps: req.Steps, ETASeconds: &left})
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return png, nil, err
}

// prepare makes the server ready for an order, and the order.
func (g *Generator) prepare(ctx context.Context, model backend.Model, req backend.Request) (*call, error) {
	p := g.kind()
	g.forget()
	if !p.known() { // it has just come back, or gone
		return nil, fmt.Errorf("%s is asked what it is: %w", g.Server.Name(), backend.ErrUnavailable)
	}
	if err := p.check(req); err != nil {
		return nil, err
	}
	name, schedule, err := p.sampler(model, req.Sampler)
	if err != nil {
		return nil, err
	}
	if err := g.ready(ctx, p, model); err != nil {
		return nil, err
	}
	c := &call{program: p, req: req, model: model, begun: time.Now(), life: time.Now(), eye: eye{g: g, program: p, perTask: g.perTask, shown: -1}}
	scale, own := p.guidance(model, req.Guidance)
	c.order = order{
		Prompt: prompt.Plain(req.Prompt), NegativePrompt: req.NegativePrompt, Seed: p.seed(req.Seed), Width: p.side(req.Width), Height: p.side(req.Height),
		Steps: req.Steps, Guidance: scale, Distilled: own, Sampler: name, Scheduler: schedule, BatchSize: 1, Iterations: 1, SendImages: true, Restore: true,
	}
	if p.tasks {
		c.order.Task = newTask()
		c.eye.task = c.order.Task
	}
	if p.web {
		c.order.Override = map[string]any{"sd_model_checkpoint": model.Path}
	}
	if p.mark && !g.markless && g.perTask != yes {
		c.eye.mark = newMark()
		c.order.Override[markOption] = c.eye.mark
	}
	if p.progress && g.perTask != yes {
		looking, cancel := context.WithTimeout(ctx, g.limits.look)
		defer cancel()
		a, err := g.progress(looking, false)
		c.eye.idle = err == nil && a.idle()
		if err == nil && !a.idle() {
			c.eye.theirs = a.run()
		}
	}
	if p.counts {
		g.memory(ctx)
	}
	return c, nil
}

// forget drops what was learned of another program, or of a former start. The caller has the turn.
func (g *Generator) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.learned != g.recognised {
		g.learned, g.perTask, g.markless = g.recognised, unknown, false
	}
}

// check bounds what programs would clamp or round without a word.
func (p program) check(req backend.Request) error {
	switch {
	case req.Steps < 1 || p.maxSteps > 0 && req.Steps > p.maxSteps:
		return fmt.Errorf("%s makes 1 to %d steps, not %d: ask for fewer", p.name, p.maxSteps, req.Steps)
	case min(req.Width, req.Height) < 1 || max(p.side(req.Width), p.side(req.Height)) > job.MaxSide:
		return fmt.Errorf("%s makes images of up to %d pixels a side, not %dx%d", p.name, job.MaxSide, req.Width, req.Height)
	case req.Seed < 0:
		return fmt.Errorf("seed %d: must be 0 or more", req.Seed)
	}
	return nil
}

// sampler translates the name that a job asks for, and the schedule behind it. Most programs take their default for one that they do not
// know, without a word, so it is refused here.
func (p program) sampler(model backend.Model, wanted string) (name, schedule string, err error) {
	switch {
	case wanted == "":
		return "", "", nil
	case model.Samplers == nil || len(model.Samplers.Samplers) == 0:
		return "", "", fmt.Errorf("%s does not tell which samplers it has: ask for none", p.name)
	}
	name, schedule, ok := model.Samplers.Find(wanted)
	if !ok {
		return "", "", fmt.Errorf("sampler %q is not known to %s: choose one of %s, or none", wanted, p.name, exchange.Clean(strings.Join(model.Samplers.Titles(), ", ")))
	}
	return name, schedule, nil
}

// guidance is the scale that is sent for what a job asks for, and the model's own where there is a field for it.
func (p program) guidance(model backend.Model, asked float64) (scale float64, own *float64) {
	scale, own = model.Guidance(asked)
	switch {
	case p.pipelines && own != nil:
		return asked, nil
	case !p.distilled:
		own = nil
	}
	return scale, own
}

// follow waits for the end of an exchange, and tells of its progress meanwhile. Its error says that the exchange goes on. Nobody looks
// any more when it returns.
func (g *Generator) follow(ctx context.Context, c *call) error {
	looking, end := context.WithCancel(ctx)
	looks := make(chan sight, 1)
	tick := time.NewTicker(g.limits.poll)
	defer tick.Stop()
	busy := false // somebody looks
	defer func() {
		end()
		if busy {
			<-looks
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.sent.Done:
			return nil
		case seen := <-looks:
			busy = false
			c.see(seen, g.limits.alive)
		case <-tick.C:
			if !busy {
				busy = true
				picture := c.wantsPicture(g.limits.preview)
				go func() { looks <- c.eye.look(looking, picture) }()
			}
		}
		if err := c.stalled(g); err != nil {
			return err
		}
	}
}

// learn keeps what a call has shown of the program.
func (g *Generator) learn(c *call) {
	switch {
	case c.eye.perTask != unknown:
		g.perTask = c.eye.perTask
	case c.eye.told >= patience:
		g.perTask = no
	}
}
