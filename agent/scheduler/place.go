package scheduler

import (
	"fmt"

	"muster/shared/gpu"
)

// waitWeight is how much a second of waiting counts against a second of the whole machine's work.
const waitWeight = 0.2

// Input is all that a plan depends on: no clocks, no devices, no queue. Times are seconds.
type Input struct {
	Policy Policy
	Hold   string // why nothing may start at all; "" when it may
	// Away is what a generator that does not answer now may have to do with a model that no station has; "" when all answer.
	Away string
	// Horizon is how many images are planned when nothing is idle any more, to say what each waits for and until when; 0 is none.
	Horizon int
	// Watts is what all devices together may draw more than they do now; nil is no limit.
	Watts    *float64
	Stations []Station
	Kinds    []Kind
	Pending  []Pending
}

// Station is a slot as the plan sees it.
type Station struct {
	Ref       gpu.Ref
	Key       string  // the device's stable ID
	Name      string  // for people: "Device 0"
	Blocked   string  // why it takes no work ("is paused"); "" when it does
	Gone      bool    // blocked for so long that images bound to it are dealt again
	Idle      bool    // nothing runs on it
	Available float64 // until it is free, 0 when idle
	Set       string  // of the image that runs on it
	Loaded    string  // model that it holds when it is free
	Share     float64 // of its speed that other programs leave, 0 to 1; 0 counts as 1
	Memory    float64 // share of its memory in use by all programs, 0 to 1
	Extra     float64 // watts that an image adds to what its device draws
	Room      *uint64 // bytes for a model, with those of the one that it would unload; nil when not known
}

// Kind is what equal images ask for.
type Kind struct {
	Model   string
	Sampler string // "" for each generator's own default
	Costs   []Cost // by position in Input.Stations
	// Away is why a generator that has no station and had the model does not answer; "" when none had it.
	Away string
}

// want is what a generator must have for an image.
type want struct{ model, sampler string }

func (k Kind) want() want { return want{k.Model, k.Sampler} }

// wants names it, for people.
func (k Kind) wants() string {
	if k.Sampler != "" {
		return fmt.Sprintf("model %q with the sampler %q", k.Model, k.Sampler)
	}
	return fmt.Sprintf("model %q", k.Model)
}

// Cost is what one image of a kind takes on one station.
type Cost struct {
	Serves bool    // the station has the model, and knows the sampler
	Work   float64 // with the station to itself
	Load   float64 // of the model, when it is not loaded
	Guess  bool    // nothing was measured yet: not worth telling
	Needs  uint64  // bytes of device memory; 0 when none
}

// Pending is a queued image.
type Pending struct {
	ID       string
	Set      string
	Ordinal  int // in its set
	Kind     int // position in Input.Kinds
	Priority int
	Client   string  // who asked for it
	Used     float64 // seconds of the whole machine that the client had lately; told only when several clients wait
	Waited   float64 // since its set was submitted
	Pin      string  // stable ID of the only device that may make it; "" for any
	Avoid    []int   // stations on which it failed
	Bound    int     // station that round robin dealt it to; −1 for none
}

// Plan is what to do now. Jobs and stations are positions in the Input.
type Plan struct {
	Starts []Start
	Waits  []Wait // every image that does not start, in the plan's order
	Deals  []Deal // round robin only: bindings to remember
	// Finish is by image when it is predicted to be done, in seconds from now: never when it is not known, unplanned when this plan
	// did not look so far.
	Finish []float64
}

// Start gives an image to an idle station.
type Start struct {
	Job, Station int
	Reason       string // in words for people
}

// Deal binds an image to a station.
type Deal struct{ Job, Station int }

// Place decides which image starts where, and why the others wait. It is a pure function.
func Place(in Input) Plan {
	p := newPlanner(in)
	order := p.order()
	switch {
	case in.Hold != "":
		for _, j := range order {
			p.wait(Wait{Job: j, Cause: held, Detail: in.Hold})
		}
	case in.Policy == RoundRobin:
		p.deal(order)
		p.roundRobin(order)
	case in.Policy == LeastLoaded:
		p.leastLoaded(order)
	default:
		p.predicted(p.search(order))
	}
	return p.plan
}

// predicted plans images in order, each where it is done first, and starts what comes first on an idle station.
func (p *planner) predicted(order []int) {
	for n, j := range order {
		if n >= p.Horizon && p.idles == 0 {
			p.wait(Wait{Job: j, Cause: inTurn})
			continue
		}
		candidates := p.candidates(j)
		best, other := p.best(j, candidates)
		switch {
		case best < 0:
			p.wait(p.stranded(j))
			p.plan.Finish[j] = never
		case p.idle(best) && p.powered(best):
			p.start(j, best, p.bestReason(j, best, len(candidates), p.finish(j, best)))
		case p.idle(best):
			p.wait(Wait{Job: j, Cause: powered, Station: best})
			p.occupy(j, best, p.finish(j, best))
		default:
			p.wait(p.later(j, best, other))
			p.occupy(j, best, p.finish(j, best))
		}
	}
}

// best gives the station on which the image is done first, and the best of those that are idle; −1 for none.
func (p *planner) best(j int, candidates []int) (best, other int) {
	best, other = -1, -1
	var bestAt, otherAt float64
	for _, s := range candidates {
		at := p.finish(j, s)
		if p.aversion > 0 && !p.holding(j, s) {
			at += p.aversion * p.cost(j, s).Load
		}
		if best < 0 || at < bestAt || at == bestAt && p.idle(s) && !p.idle(best) {
			best, bestAt = s, at
		}
		if p.idle(s) && (other < 0 || at < otherAt) {
			other, otherAt = s, at
		}
	}
	return best, other
}
