package scheduler

import "math"

// How far a better order is looked for.
const (
	searchSets   = 12     // the first ones
	searchImages = 64     // of them, at most
	searchWork   = 40_000 // predictions of one image on one station: about a fifth of a millisecond
	patience     = 60     // seconds that any set can wait, and
	patienceWork = 5.0    // so many times its own work: beyond, it weighs more and more
	reload       = 1.0    // how much more a load may count than its own time: it also drives out what others may need
)

// search moves the first sets where the plan ends better: by the sum over them of what weigh says of the time from submission to the
// last image. It tries each before each other, and looks at plans that avoid loading beside those that do not.
// It keeps to sets of one priority; where several clients wait the order is fair as it is and stays.
func (p *planner) search(order []int) []int {
	r := p.rollout(order)
	if r == nil {
		return order
	}
	best := make([]int, len(r.blocks))
	for i := range best {
		best[i] = i
	}
	trial := make([]int, len(best))
	least, aversion := r.cost(best, 0), 0.0
	try := func(seq []int, a float64) bool {
		c := r.cost(seq, a)
		if c >= least*(1-1e-9) {
			return false
		}
		least, aversion = c, a
		copy(best, seq)
		return true
	}
	try(best, reload)
	for improved := true; improved && r.budget > 0; {
		improved = false
		for i := 1; i < len(best); i++ {
			for to := 0; to < i && r.budget > 0; to++ {
				moveTo(trial, best, i, to)
				improved = try(trial, aversion) || improved
			}
		}
		improved = try(best, reload-aversion) || improved
	}
	p.aversion = aversion
	found := make([]int, 0, len(order))
	for _, b := range best {
		found = append(found, r.blocks[b].images...)
	}
	return append(found, order[r.images:]...)
}

// moveTo copies a sequence with its i-th element moved forward to a place.
func moveTo(to, from []int, i, place int) {
	copy(to, from[:place])
	to[place] = from[i]
	copy(to[place+1:], from[place:i])
	copy(to[i+1:], from[i+1:])
}

// rollout plays plans to their end, again and again.
type rollout struct {
	p      *planner
	blocks []block
	images int // of the order that are in blocks
	budget int

	free  []float64
	holds []int
}

// weigh is what it costs that a set is done so long after its submission, by the work that is left of it. A power above 1 lets long
// times weigh more than in proportion.
func weigh(flow, left float64) float64 {
	late := flow / (patience + patienceWork*left)
	return flow * math.Sqrt(flow) * (1 + late*late)
}

// block is the images of one set that wait.
type block struct {
	images []int
	waited float64
	left   float64 // seconds that the whole machine works on it
	runs   float64 // seconds until what already runs of it is done
}

// rollout takes the first sets of an order; nil when there is nothing to choose.
func (p *planner) rollout(order []int) *rollout {
	if p.idles == 0 || p.clients > 1 {
		return nil
	}
	r := &rollout{p: p, budget: searchWork, free: make([]float64, len(p.free)), holds: make([]int, len(p.holds))}
	at := map[int]int{}
	for _, j := range order[:min(len(order), searchImages)] {
		if p.Pending[j].Priority != p.Pending[order[0]].Priority {
			break
		}
		b, known := at[p.set[j]]
		if !known {
			if len(r.blocks) == searchSets {
				break
			}
			b = len(r.blocks)
			at[p.set[j]] = b
			r.blocks = append(r.blocks, block{waited: p.sets[p.set[j]].waited, left: p.sets[p.set[j]].left})
		}
		r.blocks[b].images = append(r.blocks[b].images, j)
		r.images++
	}
	if len(r.blocks) < 2 {
		return nil
	}
	for s, st := range p.Stations {
		if st.Idle {
			continue
		}
		for b := range r.blocks {
			if p.Pending[r.blocks[b].images[0]].Set == st.Set {
				r.blocks[b].runs = max(r.blocks[b].runs, p.free[s])
			}
		}
	}
	return r
}

// cost is what a sequence of blocks leads to. Aversion to loads chooses other stations, and does not count by itself.
func (r *rollout) cost(seq []int, aversion float64) float64 {
	p := r.p
	copy(r.free, p.free)
	copy(r.holds, p.holds)
	r.budget -= r.images * len(p.Stations)
	total := 0.0
	for _, b := range seq {
		end := r.blocks[b].runs
		for _, j := range r.blocks[b].images {
			kind := p.Pending[j].Kind
			model, work, costs := p.models[kind], p.work[kind], p.Kinds[kind].Costs
			best, bestAt, bestScore := -1, 0.0, 0.0
			for _, s := range p.candidates(j) {
				at := r.free[s] + work[s]
				score := at
				if r.holds[s] != model {
					at += costs[s].Load
					score = at + aversion*costs[s].Load
				}
				if best < 0 || score < bestScore {
					best, bestAt, bestScore = s, at, score
				}
			}
			if best >= 0 {
				r.free[best], r.holds[best] = min(bestAt, never), model
				end = max(end, r.free[best])
			}
		}
		total += weigh(r.blocks[b].waited+end, r.blocks[b].left)
	}
	return total
}
