package sim

// swarmUI is SwarmUI's BackendHandler: a request takes a backend that has its model, even a busy one, at most two at a time, the
// least used first. Requests without one make pressure for their model; when that is older than 1.5 s, or only one backend is
// left, the model with the highest pressure (10 a request, 1 a second) is loaded on the available backend that was used longest
// ago, an unused one if there is one, which then takes nothing until the model is there. Only one backend loads the same model at a
// time.
type swarmUI struct {
	fed
	pressures []pressure // by model
	reserved  []int      // by device: the model that it will load; none
	loading   []int      // by device: the model that it loads now; none
}

type pressure struct {
	count   int
	since   float64
	loading bool
	bad     devices // where loading it failed
}

const (
	swarmUses     = 2
	swarmPatience = 1.5 // seconds
	swarmCount    = 10
	unset         = -1
)

func (p *swarmUI) Notice(m *Machine, n Notice) {
	if p.reserved == nil {
		p.pressures = make([]pressure, len(m.Models))
		p.reserved, p.loading = make([]int, len(m.Devices)), make([]int, len(m.Devices))
		for d := range p.reserved {
			p.reserved[d], p.loading[d] = none, none
		}
		for model := range p.pressures {
			p.pressures[model].since = unset
		}
	}
	if ended := n.What == Loaded || n.What == Returned; ended && p.loading[n.Device] != none {
		model := p.loading[n.Device]
		p.loading[n.Device], p.reserved[n.Device] = none, none
		p.pressures[model].loading = false
		if n.What != Loaded {
			p.pressures[model].bad |= 1 << n.Device
		}
		return // the images still wait
	}
	p.take(m, n)
}

func (p *swarmUI) Decide(m *Machine) ([]Order, float64) {
	p.orders = p.orders[:0]
	p.revoke(m)
	for d := range p.reserved {
		if m.Devices[d].Down && p.reserved[d] != none && p.loading[d] == none {
			p.pressures[p.reserved[d]].loading = false
			p.reserved[d] = none
		}
	}
	p.bind(m, swarmUses, p.holder)
	p.press(m)
	for p.reserve(m) {
	}
	p.feed(m)
	for d, model := range p.reserved {
		if model != none && p.loading[d] == none && m.Devices[d].Idle && len(p.queues[d]) == 0 && !p.started(d) {
			p.preload(m, d, model)
		}
	}
	return p.orders, p.again(m)
}

func (p *swarmUI) started(d int) bool {
	for _, o := range p.orders {
		if o.Device == d {
			return true
		}
	}
	return false
}

// holder gives the least used available backend that has the image's model; none when there is none.
func (p *swarmUI) holder(m *Machine, image int) int {
	best := none
	for d := range m.Devices {
		has := m.Devices[d].Model == m.Images[image].Model && p.available(m, d)
		if has && (best == none || p.load(m, d) < p.load(m, best)) {
			best = d
		}
	}
	return best
}

func (p *swarmUI) available(m *Machine, d int) bool {
	return !m.Devices[d].Down && p.reserved[d] == none && p.load(m, d) < swarmUses
}

// press counts the requests that wait for each model.
func (p *swarmUI) press(m *Machine) {
	for i := range p.pressures {
		p.pressures[i].count = 0
	}
	for _, image := range p.waiting {
		p.pressures[m.Images[image].Model].count++
	}
	for i := range p.pressures {
		switch q := &p.pressures[i]; {
		case q.count == 0:
			q.since, q.bad = unset, 0
		case q.since == unset:
			q.since = m.Now
		}
	}
}

// reserve chooses a backend for the model with the highest pressure; false when nothing may be loaded now.
func (p *swarmUI) reserve(m *Machine) bool {
	loaders := 0
	for d := range m.Devices {
		if p.available(m, d) {
			loaders++
		}
	}
	best, bestValue := none, 0.0
	for model := range p.pressures {
		q := &p.pressures[model]
		if q.count == 0 || q.loading || !p.anyFits(m, model) {
			continue
		}
		if v := float64(q.count*swarmCount) + m.Now - q.since; best == none || v > bestValue {
			best, bestValue = model, v
		}
	}
	if best == none {
		return false
	}
	q := &p.pressures[best]
	if loaders != 1 && m.Now-q.since <= swarmPatience {
		return false
	}
	d := p.loader(m, best)
	if d == none {
		if q.bad != 0 {
			q.bad = 0 // SwarmUI fails the requests here; they are let try again
		}
		return false
	}
	q.loading, p.reserved[d] = true, best
	return true
}

func (p *swarmUI) anyFits(m *Machine, model int) bool {
	for d := range m.Devices {
		if p.available(m, d) && m.Models[model].Memory <= m.Box.Devices[d].Memory {
			return true
		}
	}
	return false
}

// loader gives the available backend without the model, rather an unused one, that was used longest ago.
func (p *swarmUI) loader(m *Machine, model int) int {
	best := none
	for d := range m.Devices {
		if !p.available(m, d) || p.pressures[model].bad.has(d) || m.Devices[d].Model == model || m.Models[model].Memory > m.Box.Devices[d].Memory {
			continue
		}
		unused := p.load(m, d) == 0
		if best == none || unused && p.load(m, best) > 0 || unused == (p.load(m, best) == 0) && m.Devices[d].Freed < m.Devices[best].Freed {
			best = d
		}
	}
	return best
}

// preload loads the model on behalf of the oldest image that waits for it, or of none when they are all gone.
func (p *swarmUI) preload(m *Machine, d, model int) {
	for _, image := range p.waiting {
		if m.Images[image].Model == model {
			p.loading[d] = model
			p.orders = append(p.orders, Order{Preload, d, image})
			return
		}
	}
	p.reserved[d], p.pressures[model].loading = none, false
}

// again is when the next pressure is old enough.
func (p *swarmUI) again(m *Machine) float64 {
	again := never
	for _, q := range p.pressures {
		if q.count > 0 && !q.loading && m.Now-q.since <= swarmPatience {
			again = min(again, q.since+swarmPatience+1e-3)
		}
	}
	return again
}
