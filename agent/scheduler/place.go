package scheduler

import (
	"math"
	"slices"

	"muster/shared/gpu"
)

// Bounds of the predicted policy (ARCHITECTURE.md, Scheduler).
const (
	waitWeight     = 0.5 // how much a second of waiting counts against a second of work
	saturatedAfter = 20  // seconds of whole-machine work that are queued, from which on warm devices take what they hold first
	lookAhead      = 32  // images that a warm device looks at then
	headPatience   = 180 // seconds after which the first image is not passed any more
	window         = 512 // images that are planned; more can't change what starts now
	explained      = 64  // images that are planned when nothing is idle any more, to say what each waits for
)

// Input is all that a plan depends on: no clocks, no devices, no queue. Times are seconds.
type Input struct {
	Policy   Policy
	Hold     string // why nothing may start at all; "" when it may
	Stations []Station
	Kinds    []Kind
	Pending  []Pending
}

// Station is a slot as the plan sees it.
type Station struct {
	Ref       gpu.Ref
	Name      string  // for people: "Device 0"
	Blocked   string  // why it takes no work ("is paused"); "" when it does
	Gone      bool    // blocked for so long that images bound to it are dealt again
	Idle      bool    // nothing runs on it
	Available float64 // until it is free, 0 when idle
	Set       string  // of the image that runs on it
	Loaded    string  // model that it holds when it is free
	Share     float64 // of its speed that other programs leave, 0 to 1; 0 counts as 1
	Memory    float64 // share of its memory in use by all programs, 0 to 1
	Room      *uint64 // bytes for a model, with those of the one that it would unload; nil when not known
}

// Kind is what equal images ask for.
type Kind struct {
	Model string
	Costs []Cost // by position in Input.Stations
}

// Cost is what one image of a kind takes on one station.
type Cost struct {
	Serves bool    // the station has the model
	Work   float64 // with the station to itself
	Load   float64 // of the model, when it is not loaded
	Needs  uint64  // bytes of device memory; 0 when none
}

// Pending is a queued image.
type Pending struct {
	ID       string
	Set      string
	Ordinal  int // in its set
	Kind     int // position in Input.Kinds
	Priority int
	Waited   float64  // since its set was submitted
	Pin      *gpu.Ref // the only device that may make it; nil for any
	Avoid    []int    // stations on which it failed
	Bound    int      // station that round robin dealt it to; −1 for none
}

// Plan is what to do now. Jobs and stations are positions in the Input.
type Plan struct {
	Starts []Start
	Waits  []Wait // every image that does not start, in the plan's order
	Deals  []Deal // round robin only: bindings to remember
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
		p.predicted(p.warmFirst(order))
	}
	return p.plan
}

type planner struct {
	Input
	plan  Plan
	ahead int // images that wait and come before this one

	// By station.
	free  []float64 // when what is planned on it will be done
	holds []int     // the model that it will hold then, as in models
	taken []bool    // something is planned on it now
	idles int       // stations that could start something and on which nothing is planned

	// By kind.
	models []int       // the model: the first kind with the same one
	work   [][]float64 // by station: seconds, with what other programs leave of it
	able   [][]int     // stations that can make it now or when they are free

	bound []int // by image: the station that round robin dealt it to, −1 for none
}

func newPlanner(in Input) *planner {
	p := &planner{
		Input: in,
		free:  make([]float64, len(in.Stations)), holds: make([]int, len(in.Stations)), taken: make([]bool, len(in.Stations)),
		models: make([]int, len(in.Kinds)), work: make([][]float64, len(in.Kinds)), able: make([][]int, len(in.Kinds)),
		bound: make([]int, len(in.Pending)),
	}
	for j := range in.Pending {
		p.bound[j] = in.Pending[j].Bound
	}
	for k := range in.Kinds {
		p.models[k] = slices.IndexFunc(in.Kinds, func(other Kind) bool { return other.Model == in.Kinds[k].Model })
		p.work[k] = make([]float64, len(in.Stations))
		for s, c := range in.Kinds[k].Costs {
			p.work[k][s] = c.Work / share(in.Stations[s])
			if c.Serves && in.Stations[s].Blocked == "" && p.fits(k, s) {
				p.able[k] = append(p.able[k], s)
			}
		}
	}
	for s, st := range in.Stations {
		p.free[s] = st.Available
		p.holds[s] = slices.IndexFunc(in.Kinds, func(k Kind) bool { return k.Model == st.Loaded })
		if st.Idle && st.Blocked == "" {
			p.idles++
		}
	}
	return p
}

func share(st Station) float64 {
	if st.Share <= 0 {
		return 1
	}
	return st.Share
}

// fits is the hard rule on device memory.
func (p *planner) fits(kind, s int) bool {
	room := p.Stations[s].Room
	return room == nil || p.Kinds[kind].Costs[s].Needs <= *room
}

func (p *planner) wait(w Wait) {
	w.Ahead = p.ahead
	p.ahead++
	p.plan.Waits = append(p.plan.Waits, w)
}

func (p *planner) start(j, s int, reason string) {
	p.plan.Starts = append(p.plan.Starts, Start{Job: j, Station: s, Reason: reason})
	p.occupy(j, s, p.finish(j, s))
}

func (p *planner) occupy(j, s int, until float64) {
	if p.idle(s) && p.Stations[s].Blocked == "" {
		p.idles--
	}
	p.taken[s] = true
	p.free[s] = until
	p.holds[s] = p.models[p.Pending[j].Kind]
}

func (p *planner) cost(j, s int) Cost { return p.Kinds[p.Pending[j].Kind].Costs[s] }

// idle says whether the image that is planned on the station next would start now.
func (p *planner) idle(s int) bool { return p.Stations[s].Idle && !p.taken[s] }

// holding says whether the station will hold the image's model when it is free.
func (p *planner) holding(j, s int) bool { return p.holds[s] == p.models[p.Pending[j].Kind] }

// finish is when the image would be done if it came next on the station.
func (p *planner) finish(j, s int) float64 {
	kind := p.Pending[j].Kind
	at := p.free[s] + p.work[kind][s]
	if p.holds[s] != p.models[kind] {
		at += p.Kinds[kind].Costs[s].Load
	}
	return at
}

// allowed says whether the station may make the image at all, now or later.
func (p *planner) allowed(j, s int) bool {
	job := &p.Pending[j]
	return p.cost(j, s).Serves && (job.Pin == nil || *job.Pin == p.Stations[s].Ref)
}

// candidates gives the stations that can make the image, without those on which it failed as long as there are others. Nobody
// may change the result.
func (p *planner) candidates(j int) []int {
	job := &p.Pending[j]
	able := p.able[job.Kind]
	if job.Pin == nil && len(job.Avoid) == 0 {
		return able
	}
	var mine, others []int
	for _, s := range able {
		if job.Pin != nil && *job.Pin != p.Stations[s].Ref {
			continue
		}
		mine = append(mine, s)
		if !slices.Contains(job.Avoid, s) {
			others = append(others, s)
		}
	}
	if len(others) > 0 {
		return others
	}
	return mine
}

// warmFirst starts, when the machine is saturated, on each idle station the first image whose model it holds. It gives the
// order without those.
func (p *planner) warmFirst(order []int) []int {
	if len(order) == 0 || !p.saturated() || p.Pending[order[0]].Waited > headPatience {
		return order
	}
	for s := range p.Stations {
		if !p.idle(s) || p.holds[s] < 0 {
			continue
		}
		if at := p.held(order, s); at >= 0 {
			p.start(order[at], s, warmReason(p.Stations[s]))
			order = slices.Delete(order, at, at+1)
		}
	}
	return order
}

// held gives the position of the first image whose model the station holds; −1 when there is none within reach. It never passes
// an image of higher priority.
func (p *planner) held(order []int, s int) int {
	for at, j := range order[:min(lookAhead, len(order))] {
		if p.Pending[j].Priority != p.Pending[order[0]].Priority {
			break
		}
		if p.holding(j, s) && p.cost(j, s).Load > 0 && slices.Contains(p.candidates(j), s) {
			return at
		}
	}
	return -1
}

func (p *planner) saturated() bool {
	whole := p.wholeMachine()
	queued := 0.0
	for i := range p.Pending {
		queued += whole[p.Pending[i].Kind]
	}
	return queued > saturatedAfter
}

// predicted plans images in order, each where it is done first, and starts what comes first on an idle station.
func (p *planner) predicted(order []int) {
	for n, j := range order {
		if n >= window || n >= explained && p.idles == 0 {
			p.wait(Wait{Job: j, Cause: inTurn})
			continue
		}
		candidates := p.candidates(j)
		best, bestAt, other, otherAt := -1, math.Inf(1), -1, math.Inf(1) // other: the best of the idle ones
		for _, s := range candidates {
			at := p.finish(j, s)
			if at < bestAt || at == bestAt && p.idle(s) && !p.idle(best) {
				best, bestAt = s, at
			}
			if at < otherAt && p.idle(s) {
				other, otherAt = s, at
			}
		}
		switch {
		case best < 0:
			p.wait(p.stranded(j))
		case p.idle(best):
			p.start(j, best, p.bestReason(j, best, len(candidates), bestAt))
		default:
			p.wait(p.later(j, best, other))
			p.occupy(j, best, bestAt)
		}
	}
}
