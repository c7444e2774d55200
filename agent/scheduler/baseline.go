package scheduler

import (
	"cmp"
	"slices"
)

// leastLoaded starts images by age on the idle station with the least memory in use; equal ones keep their order.
func (p *planner) leastLoaded(order []int) {
	for n, j := range order {
		if n >= p.Horizon && p.idles == 0 {
			p.wait(Wait{Job: j, Cause: inTurn})
			continue
		}
		best, next := -1, -1
		for _, s := range p.candidates(j) {
			if p.idle(s) && p.powered(s) && (best < 0 || p.Stations[s].Memory < p.Stations[best].Memory) {
				best = s
			}
			if next < 0 || p.free[s] < p.free[next] {
				next = s
			}
		}
		switch {
		case next < 0:
			p.wait(p.stranded(j))
		case best >= 0:
			p.start(j, best, leastReason(p.Stations[best]))
		default:
			p.wait(p.later(j, next, -1))
			p.occupy(j, next, p.finish(j, next))
		}
	}
}

// deal binds the images of new sets, and those whose station is gone or has no room for them, over the stations by memory in use.
func (p *planner) deal(order []int) {
	turns := make(map[string]int)
	for _, j := range order {
		job := &p.Pending[j]
		if b := p.bound[j]; b >= 0 && p.deals(j, b) && p.fits(job.Kind, b) {
			continue
		}
		hands := p.hands(j)
		if slices.Contains(hands, p.bound[j]) {
			continue // others are no better
		}
		p.bound[j] = -1
		if len(hands) == 0 {
			continue
		}
		slices.SortStableFunc(hands, func(a, b int) int { return cmp.Compare(p.Stations[a].Memory, p.Stations[b].Memory) })
		p.bound[j] = hands[turns[job.Set]%len(hands)]
		turns[job.Set]++
		p.plan.Deals = append(p.plan.Deals, Deal{Job: j, Station: p.bound[j]})
	}
}

// hands gives the stations that an image can be dealt to: those with room for it; if there are none, those that may have room
// later; if there are none either, rather those where it failed than nothing.
func (p *planner) hands(j int) []int {
	var roomy, small []int
	for s := range p.Stations {
		switch {
		case !p.deals(j, s):
		case p.fits(p.Pending[j].Kind, s):
			roomy = append(roomy, s)
		default:
			small = append(small, s)
		}
	}
	switch {
	case len(roomy) > 0:
		return roomy
	case len(small) > 0:
		return small
	}
	return slices.Clone(p.candidates(j))
}

// deals says whether round robin deals the image to the station, whatever room there is.
func (p *planner) deals(j, s int) bool {
	return p.allowed(j, s) && !p.Stations[s].Gone && !slices.Contains(p.Pending[j].Avoid, s)
}

// roundRobin starts each image on the station it was dealt to, when that is idle.
func (p *planner) roundRobin(order []int) {
	for _, j := range order {
		s := p.bound[j]
		switch {
		case s < 0 || p.Stations[s].Blocked != "" || !p.fits(p.Pending[j].Kind, s):
			p.wait(p.stranded(j))
		case p.idle(s) && p.powered(s):
			p.start(j, s, dealtReason(p.Stations[s]))
		default:
			p.wait(Wait{Job: j, Cause: dealt, Station: s, Seconds: p.free[s]})
			p.occupy(j, s, p.finish(j, s))
		}
	}
}
