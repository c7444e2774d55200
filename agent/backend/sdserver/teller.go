package sdserver

import (
	"muster/agent/backend"
	"muster/shared/job"
)

// teller reports the progress of one job, each step at most once and never backwards.
type teller struct {
	req    backend.Request
	report func(job.Progress)
	step   int
}

func (t *teller) start() {
	if t.report != nil {
		t.report(job.Progress{Steps: t.req.Steps})
	}
}

// progress reports a new step. decodeSeconds, per pixel, is added to the time left.
func (t *teller) progress(seen said, decodeSeconds float64) {
	if t.report == nil || seen.steps == 0 {
		return
	}
	step := seen.step * t.req.Steps / seen.steps // some samplers count other steps than were asked for
	if step <= t.step {
		return
	}
	t.step = step
	left := float64(seen.steps-seen.step)*seen.seconds + decodeSeconds*float64(side(t.req.Width)*side(t.req.Height))
	t.report(job.Progress{Step: step, Steps: t.req.Steps, ETASeconds: &left})
}

// end reports the last step, if its bar was not seen.
func (t *teller) end() {
	if t.report != nil && t.step < t.req.Steps {
		left := 0.0
		t.report(job.Progress{Step: t.req.Steps, Steps: t.req.Steps, ETASeconds: &left})
	}
}
