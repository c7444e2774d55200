package sdapi

import (
	"time"
)

// pace is how fast a job goes, as far as looks have shown.
type pace struct {
	step     int // last seen
	at       time.Time
	fastest  float64 // seconds a step; 0 before two steps were seen
	slowest  float64
	begun    time.Time // our job was seen for the first time; zero before
	progress time.Time // the last step was seen
}

// see takes the step of our job that was seen now.
func (p *pace) see(step int, now time.Time) {
	if p.begun.IsZero() {
		p.begun, p.at, p.progress = now, now, now
	}
	if step > p.step {
		if p.step > 0 {
			seconds := now.Sub(p.progress).Seconds() / float64(step-p.step)
			p.slowest = max(p.slowest, seconds)
			if p.fastest == 0 || seconds < p.fastest {
				p.fastest = seconds
			}
		}
		p.step, p.progress = step, now
	}
	p.at = now
}

// enough says whether the steps that are left can have been made since the last look: half the shortest time is allowed for.
func (p *pace) enough(steps int, now time.Time) bool {
	return float64(steps-p.step-1)*p.fastest/2 <= now.Sub(p.at).Seconds()
}
