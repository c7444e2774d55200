package scheduler

import (
	"cmp"
	"slices"
)

// bundle is the images of one set that wait.
type bundle struct {
	name    string
	kind    int // of its first image
	client  string
	left    float64 // seconds that the whole machine works on it, with what runs of it
	waited  float64
	used    float64 // by its client
	rank    float64
	running bool // some of it runs
}

// bundles finds the sets of the images that wait.
func (p *planner) bundles() {
	p.set = make([]int, len(p.Pending))
	index := make(map[string]int, len(p.Pending)/2+1)
	last, at := "", -1
	for i := range p.Pending {
		j := &p.Pending[i]
		if at < 0 || j.Set != last {
			known := false
			if at, known = index[j.Set]; !known {
				at = len(p.sets)
				index[j.Set] = at
				p.sets = append(p.sets, bundle{name: j.Set, kind: j.Kind, client: j.Client, used: j.Used})
			}
			last = j.Set
		}
		p.set[i] = at
		b := &p.sets[at]
		b.left += p.whole[j.Kind]
		b.waited = max(b.waited, j.Waited)
	}
	for s, st := range p.Stations {
		if at, queued := index[st.Set]; queued {
			p.sets[at].left += st.Available * p.part(p.sets[at].kind, s)
			p.sets[at].running = true
		}
	}
}

// part is how much of the whole machine's speed is the station's.
func (p *planner) part(kind, s int) float64 {
	if !(p.work[kind][s] > 0) {
		return 0
	}
	return min(1, p.whole[kind]/p.work[kind][s])
}

// order sorts the images by who comes first: priority, then the policy's order, then age.
func (p *planner) order() []int {
	if p.Policy == Predicted || p.Policy == "" {
		p.rank()
	}
	places := make([]place, len(p.Pending))
	for i := range places {
		j := &p.Pending[i]
		places[i] = place{rank: p.sets[p.set[i]].rank, priority: j.Priority, set: p.set[i], ordinal: j.Ordinal, image: i}
	}
	slices.SortFunc(places, func(a, b place) int {
		switch {
		case a.priority != b.priority:
			return b.priority - a.priority
		case a.set != b.set && a.rank != b.rank:
			return cmp.Compare(a.rank, b.rank)
		case a.set != b.set:
			return cmp.Compare(p.sets[a.set].name, p.sets[b.set].name)
		case a.ordinal != b.ordinal:
			return a.ordinal - b.ordinal
		}
		return cmp.Compare(p.Pending[a.image].ID, p.Pending[b.image].ID)
	})
	order := make([]int, len(places))
	for i := range places {
		order[i] = places[i].image
	}
	return order
}

// place is all that the order of images depends on, side by side: they can be thousands.
type place struct {
	rank                          float64
	priority, set, ordinal, image int
}

// rank gives each set its remaining work over the whole machine, less a part of what it has waited. Of several clients, each set
// counts as much larger as its client has other work before it, and had lately: so each gets about an equal share, and one who asks
// for much does not make those wait who ask for little.
func (p *planner) rank() {
	byClient := map[string][]int{}
	for s := range p.sets {
		b := &p.sets[s]
		b.rank = b.left - waitWeight*b.waited
		byClient[b.client] = append(byClient[b.client], s)
	}
	p.clients = len(byClient)
	if p.clients < 2 {
		return
	}
	for _, mine := range byClient {
		slices.SortFunc(mine, func(s, t int) int {
			return cmp.Or(cmp.Compare(p.sets[s].rank, p.sets[t].rank), cmp.Compare(p.sets[s].name, p.sets[t].name))
		})
		before := 0.0
		for _, s := range mine {
			b := &p.sets[s]
			b.rank += b.used + before
			before += b.left
		}
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
