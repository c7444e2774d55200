package comfyui

import (
	"muster/agent/backend"
	"muster/shared/job"
)

// teller reports the progress of one job, each step at most once and never backwards, and hands on its previews.
type teller struct {
	req      backend.Request
	report   func(job.Progress) // nil: nobody wants it
	step     int
	previews int // of those seen that were handed on, the newest
}

func (t *teller) start() {
	if t.report != nil {
		t.report(job.Progress{Steps: t.req.Steps})
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
	if t.report == nil || step <= t.step {
		return
	}
	progress := job.Progress{Step: step, Steps: t.req.Steps}
	if at.pace > 0 {
		left := at.pace * (1 - at.share)
		progress.ETASeconds = &left
	}
	t.step = step
	t.report(progress)
}

// end reports the last step, if it was not told of: a prompt whose nodes ComfyUI has in its cache shows no progress.
func (t *teller) end() {
	if t.report != nil && t.step < t.req.Steps {
		left := 0.0
		t.report(job.Progress{Step: t.req.Steps, Steps: t.req.Steps, ETASeconds: &left})
	}
}
