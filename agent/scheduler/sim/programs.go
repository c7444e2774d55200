package sim

import "slices"

// fed is the queue that a program keeps before each device, beside its own.
type fed struct {
	waiting []int // not bound yet, oldest first
	queues  [][]int
	orders  []Order
	able    []int
}

func (f *fed) take(m *Machine, n Notice) {
	if f.queues == nil {
		f.queues = make([][]int, len(m.Devices))
	}
	switch {
	case n.What == Submitted:
		for i := range n.Count {
			f.waiting = append(f.waiting, n.Image+i)
		}
	case n.What == Returned && n.Image != none:
		f.waiting = insert(f.waiting, n.Image)
	}
}

// revoke takes back what waits for dead devices.
func (f *fed) revoke(m *Machine) {
	for d := range f.queues {
		if m.Devices[d].Down {
			for _, image := range f.queues[d] {
				f.waiting = insert(f.waiting, image)
			}
			f.queues[d] = nil
		}
	}
}

// bind gives what waits to the devices that the program would choose, until all of them have their fill.
func (f *fed) bind(m *Machine, fill int, choose func(m *Machine, image int) int) {
	room := 0
	for d := range m.Devices {
		room += max(0, fill-f.load(m, d))
	}
	kept := f.waiting[:0]
	for i, image := range f.waiting {
		if room == 0 {
			kept = append(kept, f.waiting[i:]...)
			break
		}
		if d := choose(m, image); d != none {
			f.queues[d] = append(f.queues[d], image)
			room--
		} else {
			kept = append(kept, image)
		}
	}
	f.waiting = kept
}

// load is how many images the device has, the running one included.
func (f *fed) load(m *Machine, d int) int {
	n := len(f.queues[d])
	if !m.Devices[d].Idle {
		n++
	}
	return n
}

// feed starts the head of every idle device's queue.
func (f *fed) feed(m *Machine) {
	for d := range f.queues {
		if len(f.queues[d]) > 0 && m.Devices[d].Idle {
			f.orders = append(f.orders, Order{Start, d, f.queues[d][0]})
			f.queues[d] = f.queues[d][1:]
		}
	}
}

// mold is utensils/mold's GpuPool::select_worker: a warm idle device; a warm busy one; the smallest empty one with room; the
// largest of the rest. A device takes two images beside the running one; when all are full, images wait. Its newest version
// prefers an empty device to a warm busy one (spread).
type mold struct {
	fed
	spread bool
}

const moldQueue = 3

func (p *mold) Notice(m *Machine, n Notice) { p.take(m, n) }

func (p *mold) Decide(m *Machine) ([]Order, float64) {
	p.orders = p.orders[:0]
	p.revoke(m)
	p.bind(m, moldQueue, p.worker)
	p.feed(m)
	return p.orders, never
}

// worker gives the device that mold would send the image to; none when all are full.
func (p *mold) worker(m *Machine, image int) int {
	model := m.Images[image].Model
	p.able = m.able(p.able, image)
	best, bestRank, bestValue := none, 0, 0.0
	for _, d := range p.able {
		n := p.load(m, d)
		if n >= moldQueue {
			continue
		}
		rank, value := 0, 0.0
		memory := float64(m.Box.Devices[d].Memory)
		switch warm := m.Devices[d].Model == model; {
		case warm && n == 0:
			rank = 0
		case warm && p.spread:
			rank, value = 2, float64(n)
		case warm:
			rank, value = 1, float64(n)
		case n == 0 && m.Devices[d].Model == none && p.spread:
			rank, value = 1, memory
		case n == 0 && m.Devices[d].Model == none:
			rank, value = 2, memory
		default:
			rank, value = 3, -memory
		}
		if best == none || rank < bestRank || rank == bestRank && value < bestValue {
			best, bestRank, bestValue = d, rank, value
		}
	}
	return best
}

// ollama keeps one copy of a model: images go to the device that holds theirs. A model that none holds goes to the empty device
// with the most free memory, else takes the place of the one that was used longest ago on an idle device. Images are looked at in
// their order; one that must wait for a device holds up those behind it (server/sched.go).
type ollama struct {
	fed
	owner []int // by model: the device that has it or will; none
}

func (p *ollama) Notice(m *Machine, n Notice) {
	p.take(m, n)
	if p.owner == nil {
		p.owner = make([]int, len(m.Models))
		for model := range p.owner {
			p.owner[model] = slices.IndexFunc(m.Devices, func(d Seen) bool { return d.Model == model })
		}
	}
	if n.What == Returned || n.What == Lost {
		if model := p.ownedBy(n.Device); model != none && m.Devices[n.Device].Model != model {
			p.owner[model] = none
		}
	}
}

func (p *ollama) Decide(m *Machine) ([]Order, float64) {
	p.orders = p.orders[:0]
	p.revoke(m)
	for model, d := range p.owner {
		if d != none && m.Devices[d].Down {
			p.owner[model] = none
		}
	}
	for len(p.waiting) > 0 {
		d := p.place(m, p.waiting[0])
		if d == none {
			break
		}
		p.queues[d] = append(p.queues[d], p.waiting[0])
		p.waiting = p.waiting[1:]
	}
	p.feed(m)
	return p.orders, never
}

func (p *ollama) place(m *Machine, image int) int {
	model := m.Images[image].Model
	p.able = m.able(p.able, image)
	if d := p.owner[model]; d != none && slices.Contains(p.able, d) {
		return d
	}
	best, bestEmpty, bestValue := none, false, 0.0
	for _, d := range p.able {
		if p.load(m, d) > 0 {
			continue
		}
		room := m.free(d)
		empty := p.ownedBy(d) == none && m.Devices[d].Model == none
		value := -float64(room)
		if !empty {
			room += m.Models[m.Devices[d].Model].Memory
			value = m.Devices[d].Freed
		}
		if room < m.Models[model].Memory {
			continue
		}
		if best == none || empty && !bestEmpty || empty == bestEmpty && value < bestValue {
			best, bestEmpty, bestValue = d, empty, value
		}
	}
	if best != none {
		if old := p.ownedBy(best); old != none {
			p.owner[old] = none
		}
		p.owner[model] = best
	}
	return best
}

// ownedBy gives the model that the device keeps; none for none.
func (p *ollama) ownedBy(d int) int { return slices.Index(p.owner, d) }
