package scheduler

import (
	"cmp"
	"slices"
)

// leastLoaded starts images by age on the idle station with the least memory in use; equal ones keep their order.
func (p *planner) leastLoaded(order []int) {
	var buffer []int
	for n, j := range order {
		if n >= window {
			p.wait(Wait{Job: j, Cause: farBehind})
			continue
		}
		buffer = p.candidates(j, buffer)
		best, next := -1, -1
		for _, s := range buffer {
			if p.idle(s) && (best < 0 || p.Stations[s].Memory < p.Stations[best].Memory) {
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
			w := p.later(j, next, -1)
			p.occupy(j, next, p.finish(j, next))
			p.wait(w)
		}
	}
}

// deal binds the images of new sets, and those whose station is gone, over the stations by memory in use.
func (p *planner) deal(order []int) {
	turns := make(map[string]int)
	var buffer []int
	for _, j := range order {
		job := &p.Pending[j]
		if b := p.bound[j]; b >= 0 && p.allowed(j, b) && !p.Stations[b].Gone && !slices.Contains(job.Avoid, b) {
			continue
		}
		p.bound[j] = -1
		buffer = buffer[:0]
		for s := range p.Stations {
			if p.allowed(j, s) && !p.Stations[s].Gone && !slices.Contains(job.Avoid, s) {
				buffer = append(buffer, s)
			}
		}
		if len(buffer) == 0 {
			buffer = p.candidates(j, buffer) // rather where it failed than nowhere
		}
		if len(buffer) == 0 {
			continue
		}
		slices.SortStableFunc(buffer, func(a, b int) int { return cmp.Compare(p.Stations[a].Memory, p.Stations[b].Memory) })
		p.bound[j] = buffer[turns[job.Set]%len(buffer)]
		turns[job.Set]++
		p.plan.Deals = append(p.plan.Deals, Deal{Job: j, Station: p.bound[j]})
	}
}

// roundRobin starts each image on the station it was dealt to, when that is idle.
func (p *planner) roundRobin(order []int) {
	for _, j := range order {
		s := p.bound[j]
		switch {
		case s < 0 || p.Stations[s].Blocked != "" || !p.fits(j, s):
			p.wait(p.stranded(j))
		case p.idle(s):
			p.start(j, s, dealtReason(p.Stations[s]))
		default:
			w := Wait{Job: j, Cause: dealt, Station: s, Seconds: p.free[s]}
			p.occupy(j, s, p.finish(j, s))
			p.wait(w)
		}
	}
}
