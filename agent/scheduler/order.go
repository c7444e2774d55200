package scheduler

import (
	"cmp"
	"slices"
)

// order sorts the images by who comes first: priority, then the policy's order, then age.
func (p *planner) order() []int {
	order := make([]int, len(p.Pending))
	for i := range order {
		order[i] = i
	}
	rank := make([]float64, len(p.Pending)) // all equal: by age
	if p.Policy == Predicted || p.Policy == "" {
		p.rank(rank)
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &p.Pending[a], &p.Pending[b]
		switch {
		case x.Priority != y.Priority:
			return cmp.Compare(y.Priority, x.Priority)
		case rank[a] != rank[b]:
			return cmp.Compare(rank[a], rank[b])
		case x.Set != y.Set:
			return cmp.Compare(x.Set, y.Set)
		case x.Ordinal != y.Ordinal:
			return cmp.Compare(x.Ordinal, y.Ordinal)
		}
		return cmp.Compare(x.ID, y.ID)
	})
	return order
}

// rank gives each image the remaining work of its set over the whole machine, less half of what it has waited.
func (p *planner) rank(rank []float64) {
	whole := p.wholeMachine()
	left := make(map[string]float64, len(p.Pending)/2+1)
	for i := range p.Pending {
		left[p.Pending[i].Set] += whole[p.Pending[i].Kind]
	}
	for _, st := range p.Stations {
		if _, queued := left[st.Set]; queued {
			left[st.Set] += st.Available / float64(len(p.Stations))
		}
	}
	for i := range p.Pending {
		rank[i] = left[p.Pending[i].Set] - waitWeight*p.Pending[i].Waited
	}
}

// wholeMachine gives, by kind, the seconds that one image takes when all usable stations share it; 0 when none serves it.
func (p *planner) wholeMachine() []float64 {
	whole := make([]float64, len(p.Kinds))
	for k := range p.Kinds {
		rate := 0.0
		for s, c := range p.Kinds[k].Costs {
			if c.Serves && p.Stations[s].Blocked == "" && c.Work > 0 {
				rate += 1 / p.work[k][s]
			}
		}
		if rate > 0 {
			whole[k] = 1 / rate
		}
	}
	return whole
}
