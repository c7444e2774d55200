package sdapi

import (
	"errors"
	"fmt"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/shared/job"
)

func (c *call) wantsPicture(every time.Duration) bool {
	if c.req.Preview == nil || time.Since(c.shown) < every {
		return false
	}
	c.shown = time.Now()
	return true
}

func (c *call) tell(p job.Progress) {
	c.told, c.toldAt = p, time.Now()
	c.report(p)
}

// see takes what a look has shown, and reports it: now and then also that there is nothing new, as long as the server is there, or can't
// be asked. For how long no step may come is bounded by stalled.
func (c *call) see(s sight, alive time.Duration) {
	c.learnOf(s)
	if s.err == nil && time.Since(c.toldAt) >= alive {
		c.tell(c.told)
	}
}

// learnOf takes what a look has shown, and reports a new step.
func (c *call) learnOf(s sight) {
	now := time.Now()
	if s.err == nil {
		c.queued = s.others
	}
	c.marred = c.marred || s.interrupted
	if s.others {
		c.life = now // while it waits behind others the clock does not run
	}
	if !s.ours {
		return
	}
	if c.pace.begun.IsZero() {
		c.life = now
	}
	step := min(int(s.share*float64(c.req.Steps)+1e-9), c.req.Steps-1) // the last one is told with the image
	before := c.pace.step
	c.pace.see(step, now)
	if step > before {
		c.life = now
		left := float64(c.req.Steps-step) * now.Sub(c.pace.begun).Seconds() / float64(step)
		c.tell(job.Progress{Step: step, Steps: c.req.Steps, ETASeconds: &left})
	}
	if s.preview != nil && c.req.Preview != nil {
		c.req.Preview(*s.preview)
	}
}

// errHangs is wrapped when a server shows no sign of life.
var errHangs = errors.New("it hangs")

// stalled gives an error when the call has shown no sign of life for too long.
func (c *call) stalled(g *Generator) error {
	limit := g.limits.firstStep
	switch {
	case !c.program.progress:
		limit = g.limits.silent
	case c.pace.step > 0:
		limit = max(g.limits.stall, time.Duration(20*c.pace.slowest*float64(time.Second)))
	}
	if waited := time.Since(c.begun); c.pace.begun.IsZero() && waited > g.limits.queue {
		return fmt.Errorf("%s has worked for others for %s: %w: %w: %w", g.Server.Name(), waited.Round(time.Second), errHangs, attach.ErrNotItsFault, backend.ErrUnavailable)
	}
	if idle := time.Since(c.life); idle > limit {
		return fmt.Errorf("%s made no progress for %s at step %d: %w: %w", g.Server.Name(), idle.Round(time.Second), c.pace.step, errHangs, backend.ErrUnavailable)
	}
	return nil
}
