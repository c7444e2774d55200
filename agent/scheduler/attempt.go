package scheduler

import (
	"sync"
	"time"

	"muster/agent/backend"
	"muster/agent/queue"
	"muster/shared/job"
)

// Attempt is one start of a job on a slot. Its methods may be called from any goroutine.
type Attempt struct {
	// Set before it starts, never changed.
	Job      job.Job
	Target   Slot
	Where    queue.Placement
	slot     string // its key
	model    backend.Model
	cold     bool      // the model has to be loaded
	loads    float64   // expected seconds of loading; 0 when it is resident
	step     float64   // expected seconds a step, with what other programs leave
	total    float64   // expected seconds, loading included
	promised float64   // total as it was told to people
	decided  time.Time // then
	cost     float64   // seconds of the whole machine
	share    float64   // of the device that other programs left when it started

	// Core's.
	number    int // of the attempt; 0 until the queue has started it
	cancelled time.Time
	settled   bool
	felt      int // the step up to which its speed was taken into account

	// The backend's goroutine writes, under mu.
	mu       sync.Mutex
	begun    time.Time // of the backend's call; before, when it was decided
	progress job.Progress
	previews int               // pictures so far
	first    mark              // first report of a step
	last     mark              // newest report
	recent   [recentMarks]mark // the newest ones, in a ring
	reports  int
	alive    time.Time // newest report of any kind
}

// recentMarks is over how many reports the present speed is measured.
const recentMarks = 4

type mark struct {
	step int
	at   time.Time
}

// Begin tells that the backend's call begins.
func (a *Attempt) Begin(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun = now
}

// Report notes a report of the backend and completes it with the time that is left.
func (a *Attempt) Report(p job.Progress, now time.Time) job.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alive = now
	if p.Step > a.last.step {
		a.last = mark{p.Step, now}
		a.recent[a.reports%recentMarks] = a.last
		a.reports++
		if a.first.step == 0 {
			a.first = a.last
		}
	}
	if p.Steps > 0 && p.Step > 0 {
		eta := float64(max(0, p.Steps-p.Step)) * a.rate()
		p.ETASeconds = &eta
	}
	p.Preview = a.previews
	a.progress = p
	return p
}

// Previewed notes a picture of the unfinished image and gives the progress that tells of it.
func (a *Attempt) Previewed() job.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.previews++
	a.progress.Preview = a.previews
	return a.progress
}

// rate is the seconds that a step takes now: measured over the newest ones of this attempt, else expected. Called with mu held.
func (a *Attempt) rate() float64 {
	oldest := a.first
	if a.reports >= recentMarks {
		oldest = a.recent[a.reports%recentMarks]
	}
	if n := a.last.step - oldest.step; n > 0 {
		return a.last.at.Sub(oldest.at).Seconds() / float64(n)
	}
	return a.step
}

// pace gives the seconds of a step as they were measured since the step after which it was asked last; false when there is nothing new.
func (a *Attempt) pace() (seconds float64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last.step <= a.felt || a.last.step == a.first.step {
		return 0, false
	}
	a.felt = a.last.step
	return a.rate(), true
}

// remaining is the seconds until it is done. One that is late is taken to need a tenth more.
func (a *Attempt) remaining(now time.Time) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.total - now.Sub(a.begun).Seconds()
	if a.last.step > 0 {
		steps := a.progress.Steps
		if steps == 0 {
			steps = a.Job.Steps
		}
		tail := max(0, min(a.step, a.total-a.loads-float64(a.Job.Steps)*a.step))
		left = float64(max(0, steps-a.last.step))*a.rate() + tail - now.Sub(a.last.at).Seconds()
		return max(left, a.rate()/10)
	}
	return max(left, a.total/10)
}

// stepped says whether a step was reported.
func (a *Attempt) stepped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last.step > 0
}

// started is when the backend's call began.
func (a *Attempt) started() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.begun
}

// moved is when the attempt last showed life: a backend that waits behind somebody else's image reports that it is still there.
func (a *Attempt) moved() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.alive.After(a.begun) {
		return a.alive
	}
	return a.begun
}

// observe gives what a finished attempt took; false when nothing can be learned from it.
func (a *Attempt) observe(took time.Duration) (observation, bool) {
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
		o.step = total / (float64(max(1, a.Job.Steps)) + priorTailSteps)
		o.tail = priorTailSteps * o.step
	}
	return o, true
}
