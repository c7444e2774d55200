package sim

import "slices"

// bound is a policy that binds each image to a device when it is submitted: every device has a queue of its own. Images of a
// device that dies are bound again, and so is one that comes back.
type bound struct {
	queues   [][]int
	homeless []int // no device can take them now
	// choose gives one of the devices that can make the image. turn is its place among those that are bound together.
	choose func(b *bound, m *Machine, image, turn int, able []int) int

	orders []Order
	able   []int
}

func (b *bound) Notice(m *Machine, n Notice) {
	switch n.What {
	case Submitted:
		for i := range n.Count {
			b.bind(m, n.Image+i, i, false)
		}
	case Returned:
		b.bind(m, n.Image, 0, true)
	}
}

// bind puts an image into a queue; one that comes back goes to its head.
func (b *bound) bind(m *Machine, image, turn int, first bool) {
	if b.queues == nil {
		b.queues = make([][]int, len(m.Devices))
	}
	b.able = m.able(b.able, image)
	if len(b.able) == 0 {
		b.homeless = append(b.homeless, image)
		return
	}
	d := b.choose(b, m, image, turn, b.able)
	if first {
		b.queues[d] = append([]int{image}, b.queues[d]...)
		return
	}
	b.queues[d] = append(b.queues[d], image)
}

func (b *bound) Decide(m *Machine) ([]Order, float64) {
	moving := b.homeless
	b.homeless = nil
	for d := range b.queues {
		if m.Devices[d].Down {
			moving = append(moving, b.queues[d]...)
			b.queues[d] = nil
		}
	}
	for i, image := range moving {
		b.bind(m, image, i, false)
	}
	b.orders = b.orders[:0]
	for d := range b.queues {
		if len(b.queues[d]) > 0 && m.Devices[d].Idle {
			b.orders = append(b.orders, Order{Start, d, b.queues[d][0]})
			b.queues[d] = b.queues[d][1:]
		}
	}
	return b.orders, never
}

// waiting is how many images are before a new one on the device.
func (b *bound) waiting(m *Machine, d int) int {
	n := len(b.queues[d])
	if !m.Devices[d].Idle {
		n++
	}
	return n
}

// backlog is the seconds of work before a new image on the device, as known from the mean of each model.
func (b *bound) backlog(m *Machine, d int) float64 {
	sum := 0.0
	for _, image := range b.queues[d] {
		sum += m.Models[m.Images[image].Model].Seconds
	}
	sum /= m.Box.Devices[d].Speed
	if seen := m.Devices[d]; seen.Running != none {
		sum += max(0, m.Models[m.Images[seen.Running].Model].Seconds/m.Box.Devices[d].Speed-(m.Now-seen.Since))
	}
	return sum
}

// roundRobin deals the images of a set over the devices, from least to most memory in use at its submission (facts/api.md).
func roundRobin(_ *bound, m *Machine, _, turn int, able []int) int {
	// Insertion sort: stable, of few devices, without garbage.
	for i := 1; i < len(able); i++ {
		for j := i; j > 0 && m.memory(able[j]) < m.memory(able[j-1]); j-- {
			able[j], able[j-1] = able[j-1], able[j]
		}
	}
	return able[turn%len(able)]
}

// tossed binds each image to any device.
func tossed(_ *bound, m *Machine, _, _ int, able []int) int { return able[m.Rand.IntN(len(able))] }

// shortestQueue binds to the device with the fewest images before it (JSQ).
func shortestQueue(b *bound, m *Machine, _, _ int, able []int) int {
	return least(able, func(d int) float64 { return float64(b.waiting(m, d)) })
}

// shortestDelay binds to the device that is expected to be done with it first (SED). It knows the true speeds and what an image
// of each model takes on average; it does not know of loading.
func shortestDelay(b *bound, m *Machine, image, _ int, able []int) int {
	return least(able, func(d int) float64 {
		return b.backlog(m, d) + m.Models[m.Images[image].Model].Seconds/m.Box.Devices[d].Speed
	})
}

// least gives the first of the devices with the least value.
func least(among []int, value func(d int) float64) int {
	best, bestValue := none, never
	for _, d := range among {
		if v := value(d); best == none || v < bestValue {
			best, bestValue = d, v
		}
	}
	return best
}

// pulled is a policy with one queue, oldest first, from which devices are served when they are idle.
type pulled struct {
	waiting []int
	// next gives a start; ok is false when nothing may start now. It must not give a device or image of earlier ones.
	next func(p *pulled, m *Machine) (o Order, at int, ok bool)

	orders []Order
	taken  devices
	able   []int
}

func (p *pulled) Notice(_ *Machine, n Notice) {
	switch n.What {
	case Submitted:
		for i := range n.Count {
			p.waiting = append(p.waiting, n.Image+i)
		}
	case Returned:
		p.waiting = insert(p.waiting, n.Image)
	}
}

// insert puts an image back in its place by age.
func insert(queue []int, image int) []int {
	at := len(queue)
	for at > 0 && queue[at-1] > image {
		at--
	}
	queue = append(queue, 0)
	copy(queue[at+1:], queue[at:])
	queue[at] = image
	return queue
}

func (p *pulled) Decide(m *Machine) ([]Order, float64) {
	p.orders, p.taken = p.orders[:0], 0
	for {
		o, at, ok := p.next(p, m)
		if !ok {
			return p.orders, never
		}
		p.orders = append(p.orders, o)
		p.taken |= 1 << o.Device
		p.waiting = append(p.waiting[:at], p.waiting[at+1:]...)
	}
}

func (p *pulled) free(m *Machine, d int) bool {
	return m.Devices[d].Idle && !m.Devices[d].Down && !p.taken.has(d)
}

// leastLoaded starts the oldest image that can start on the idle device with the least memory in use (facts/api.md).
func leastLoaded(p *pulled, m *Machine) (Order, int, bool) {
	if !p.anyFree(m) {
		return Order{}, 0, false
	}
	for at, image := range p.waiting {
		best, used := none, 0.0
		p.able = m.able(p.able, image)
		for _, d := range p.able {
			if v := m.memory(d); p.free(m, d) && (best == none || v < used) {
				best, used = d, v
			}
		}
		if best != none {
			return Order{Start, best, image}, at, true
		}
	}
	return Order{}, 0, false
}

func (p *pulled) anyFree(m *Machine) bool {
	for d := range m.Devices {
		if p.free(m, d) {
			return true
		}
	}
	return false
}

// affinityReach is how far behind the oldest image InvokeAI's device looks for one of the model that it holds.
const affinityReach = 32

// invokeAI lets each idle device take the oldest image, or one of the next 32 whose model it holds (AFFINITY_MAX_LOOKAHEAD in its
// session queue).
func invokeAI(p *pulled, m *Machine) (Order, int, bool) {
	for d := range m.Devices {
		if !p.free(m, d) {
			continue
		}
		first := none
		for at, image := range p.waiting {
			if first != none && image > p.waiting[first]+affinityReach {
				break
			}
			if !p.serves(m, image, d) {
				continue
			}
			if m.Images[image].Model == m.Devices[d].Model {
				return Order{Start, d, image}, at, true
			}
			if first == none {
				first = at
			}
		}
		if first != none {
			return Order{Start, d, p.waiting[first]}, first, true
		}
	}
	return Order{}, 0, false
}

func (p *pulled) serves(m *Machine, image, d int) bool {
	p.able = m.able(p.able, image)
	return slices.Contains(p.able, d)
}
