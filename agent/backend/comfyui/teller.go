package comfyui

import (
	"time"

	"muster/agent/backend"
	"muster/shared/job"
)

// teller reports the progress of one job, each step once and never backwards, until nothing changes for long, and hands on its previews.
type teller struct {
	req      backend.Request
	report   func(job.Progress) // nil: nobody wants it
	last     job.Progress       // that was reported
	at       time.Time          // when
	previews int                // of those seen that were handed on, the newest
}

func (t *teller) start() {
	if t.report != nil {
		t.say(job.Progress{Steps: t.req.Steps})
	}
}

func (t *teller) say(p job.Progress) {
	t.last, t.at = p, time.Now()
	t.report(p)
}

// again reports what was reported last, unless it is shorter ago than every: a prompt that waits behind others, or loads a model, is
// no hang as long as its server answers. When it takes too long is follow's own concern.
func (t *teller) again(every time.Duration) {
	if t.report != nil && time.Since(t.at) >= every {
		t.say(t.last)
	}
}

// tell reports what the socket has told since.
func (t *teller) tell(at seen) {
	if at.previews > t.previews && t.req.Preview != nil {
		t.previews = at.previews
		t.req.Preview(at.preview)
	}
	const half = 1e-6 // shares are quotients: 3/20 of 20 steps may be a hair below 3
	step := min(int(at.share*float64(t.req.Steps)+half), t.req.Steps)
	if t.report == nil || step <= t.last.Step {
		return
	}
	progress := job.Progress{Step: step, Steps: t.req.Steps}
	if at.pace > 0 {
		left := at.pace * (1 - at.share)
		progress.ETASeconds = &left
	}
	t.say(progress)
}

// end reports the last step, if it was not told of: a prompt whose nodes ComfyUI has in its cache shows no progress.
func (t *teller) end() {
	if t.report != nil && t.last.Step < t.req.Steps {
		left := 0.0
		t.say(job.Progress{Step: t.req.Steps, Steps: t.req.Steps, ETASeconds: &left})
	}
}
