package scheduler

import (
	"math"
	"slices"

	"muster/shared/gpu"
)

// planner is a plan in the making.
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

	whole    []float64 // by kind: seconds of one image when all stations share it
	sets     []bundle
	set      []int   // by image: its set
	clients  int     // that wait
	aversion float64 // to loads, found by search: how much of its own time a load counts on top of that

	watts float64 // that may still be drawn
	bound []int   // by image: the station that round robin dealt it to, −1 for none
}

func newPlanner(in Input) *planner {
	p := &planner{
		Input: in, plan: Plan{Waits: make([]Wait, 0, len(in.Pending))},
		free: make([]float64, len(in.Stations)), holds: make([]int, len(in.Stations)), taken: make([]bool, len(in.Stations)),
		models: make([]int, len(in.Kinds)), work: make([][]float64, len(in.Kinds)), able: make([][]int, len(in.Kinds)),
		bound: make([]int, len(in.Pending)), watts: math.Inf(1),
	}
	if in.Watts != nil {
		p.watts = *in.Watts
	}
	p.plan.Finish = make([]float64, len(in.Pending))
	for j := range p.plan.Finish {
		p.plan.Finish[j] = unplanned
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
	p.whole = p.wholeMachine()
	p.bundles()
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
	p.watts -= p.Stations[s].Extra
	p.occupy(j, s, p.finish(j, s))
}

func (p *planner) occupy(j, s int, until float64) {
	if p.idle(s) && p.Stations[s].Blocked == "" {
		p.idles--
	}
	p.taken[s] = true
	p.free[s] = until
	p.plan.Finish[j] = until
	p.holds[s] = p.models[p.Pending[j].Kind]
}

func (p *planner) cost(j, s int) Cost { return p.Kinds[p.Pending[j].Kind].Costs[s] }

// idle says whether the image that is planned on the station next would start now.
func (p *planner) idle(s int) bool { return p.Stations[s].Idle && !p.taken[s] }

// powered says whether an image may start on the station without drawing more than all devices together may.
func (p *planner) powered(s int) bool {
	return p.Stations[s].Extra <= p.watts || p.Stations[s].Ref == gpu.CPU
}

// holding says whether the station will hold the image's model when it is free.
func (p *planner) holding(j, s int) bool { return p.holds[s] == p.models[p.Pending[j].Kind] }

// never is the latest that a prediction says, in seconds: 30 years. It stands for what is no time at all (infinite, not a
// number), which a backend's odd report can lead to, so that times can always be compared.
const never = 1e9

// power is when there may be power for an image on the station: 0 when there is now, never when nothing of ours runs whose end
// would bring some.
func (p *planner) power(s int) float64 {
	if p.Watts == nil || !p.idle(s) || p.powered(s) {
		return 0
	}
	at := never
	for other := range p.Stations {
		if !p.idle(other) && p.Stations[other].Ref != gpu.CPU {
			at = min(at, p.free[other])
		}
	}
	return at
}

// finish is when the image would be done if it came next on the station.
func (p *planner) finish(j, s int) float64 {
	kind := p.Pending[j].Kind
	at := max(p.free[s], p.power(s)) + p.work[kind][s]
	if p.holds[s] != p.models[kind] {
		at += p.Kinds[kind].Costs[s].Load
	}
	if at < never {
		return at
	}
	return never
}

// allowed says whether the station may make the image at all, now or later.
func (p *planner) allowed(j, s int) bool {
	job := &p.Pending[j]
	return p.cost(j, s).Serves && (job.Pin == "" || job.Pin == p.Stations[s].Key)
}

// candidates gives the stations that can make the image, without those on which it failed as long as there are others, even if those
// rest for a moment. Nobody may change the result.
func (p *planner) candidates(j int) []int {
	job := &p.Pending[j]
	able := p.able[job.Kind]
	if job.Pin == "" && len(job.Avoid) == 0 {
		return able
	}
	var mine, others []int
	for _, s := range able {
		if job.Pin != "" && job.Pin != p.Stations[s].Key {
			continue
		}
		mine = append(mine, s)
		if !slices.Contains(job.Avoid, s) {
			others = append(others, s)
		}
	}
	if len(others) > 0 || p.restElsewhere(j) {
		return others
	}
	return mine
}

// restElsewhere says whether a station on which the image did not fail could make it, and only rests for now.
func (p *planner) restElsewhere(j int) bool {
	for s, st := range p.Stations {
		if st.Blocked != "" && !st.Gone && p.allowed(j, s) && p.fits(p.Pending[j].Kind, s) && !slices.Contains(p.Pending[j].Avoid, s) {
			return true
		}
	}
	return false
}
