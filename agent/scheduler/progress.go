package scheduler

import (
	"time"

	"muster/shared/job"
)

func (a *attempt) begin(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun = now
}

// report notes a report of the backend and completes it with the time that is left.
func (a *attempt) report(p job.Progress, now time.Time) job.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.Step > a.last.step {
		a.last = mark{p.Step, now}
		if a.first.step == 0 {
			a.first = a.last
		}
	}
	if p.Steps > 0 && p.Step > 0 {
		eta := float64(max(0, p.Steps-p.Step)) * a.rate()
		p.ETASeconds = &eta
	}
	a.progress = p
	return p
}

// rate is the seconds a step takes: measured in this attempt, else expected. Called with mu held.
func (a *attempt) rate() float64 {
	if n := a.last.step - a.first.step; n > 0 {
		return a.last.at.Sub(a.first.at).Seconds() / float64(n)
	}
	return a.step
}

// remaining is the seconds until it is done. One that is late is taken to need a tenth more.
func (a *attempt) remaining(now time.Time) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.total - now.Sub(a.begun).Seconds()
	if a.last.step > 0 {
		steps := a.progress.Steps
		if steps == 0 {
			steps = a.job.Steps
		}
		tail := max(0, min(a.step, a.total-float64(a.job.Steps)*a.step))
		left = float64(max(0, steps-a.last.step))*a.rate() + tail - now.Sub(a.last.at).Seconds()
	}
	return max(left, a.total/10)
}

// stepped says whether a step was reported.
func (a *attempt) stepped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last.step > 0
}

// moved is when the attempt last showed life.
func (a *attempt) moved() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last.at.After(a.begun) {
		return a.last.at
	}
	return a.begun
}

// observe gives what a finished attempt took; false when nothing can be learned from it.
func (a *attempt) observe(took time.Duration) (observation, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	total := took.Seconds()
	o := observation{share: a.share, loaded: a.cold && a.model.Bytes > 0}
	steps := a.last.step - a.first.step
	switch {
	case steps > 0:
		o.step = a.last.at.Sub(a.first.at).Seconds() / float64(steps)
		rest := max(0, total-o.step*float64(a.last.step))
		if o.loaded {
			o.load = max(0, a.first.at.Sub(a.begun).Seconds()-o.step*float64(a.first.step))
			rest = max(0, rest-o.load)
		}
		o.tail = rest
	case o.loaded:
		return o, false // loading and work can't be told apart
	default:
		o.step = total / (float64(max(1, a.job.Steps)) + priorTailSteps)
		o.tail = priorTailSteps * o.step
	}
	return o, true
}
