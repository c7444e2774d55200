package sim

import (
	"cmp"
	"slices"
)

// searchLimit is how many nodes a search looks at for each of its two optima; beyond, what it gives is a bound that is not exact.
const searchLimit = 1_500_000

// mixedBound searches the least mean time of the sets and the least makespan, by branch and bound.
func mixedBound(w *World, works []float64) Bound {
	s := newSearch(w, works)
	sum, exact := s.least(false)
	last, exactToo := s.least(true)
	return Bound{Mean: sum / float64(len(w.Sets)), Makespan: w.Sets[0].At + last, Exact: exact && exactToo}
}

// batch is what equal images of a set have in common.
type batch struct {
	set, model int
	work       float64
}

// search looks at schedules in the order in which their images start: the device that is free first takes one of the images that
// are left, or no more at all. No schedule that lets a device wait on purpose is better, but for one that waits until another device
// has read a file; that is looked at too.
type search struct {
	world    *World
	batches  []batch
	makespan bool
	nodes    int

	left   []int // by batch: images that no device has taken
	free   []float64
	holds  []int
	closed devices
	read   []float64 // by model: when the first device has read its file; never
	last   []float64 // by set: when its last image that is taken is done
	best   float64
	missed float64 // the least bound of what was not looked at

	own, sums, sizes []float64 // scratch of bound
	order            []int
}

func newSearch(w *World, works []float64) *search {
	n := len(w.Box.Devices)
	s := &search{world: w, free: make([]float64, n), holds: make([]int, n), read: make([]float64, len(w.Models)), last: make([]float64, len(w.Sets))}
	first := 0
	for set, one := range w.Sets {
		for _, work := range works[first : first+one.Count] {
			b := batch{set, one.Model, work}
			at := slices.Index(s.batches, b)
			if at < 0 {
				at = len(s.batches)
				s.batches, s.left = append(s.batches, b), append(s.left, 0)
			}
			s.left[at]++
		}
		first += one.Count
	}
	return s
}

// least gives the least sum of the sets' times, or the least makespan; exact is false when the search was cut short.
func (s *search) least(makespan bool) (value float64, exact bool) {
	s.makespan, s.nodes, s.best, s.missed, s.closed = makespan, 0, never, never, 0
	for d := range s.free {
		s.free[d], s.holds[d] = 0, none
		if w := s.world.Warm; w != none && s.world.Models[w].Memory <= s.world.Box.Devices[d].Memory {
			s.holds[d] = w
		}
	}
	for m := range s.read {
		s.read[m] = never
		if m == s.world.Warm {
			s.read[m] = 0
		}
	}
	clear(s.last)
	s.visit()
	return min(s.best, s.missed), s.missed >= s.best
}

// reached is the value of what is taken.
func (s *search) reached() float64 {
	value := 0.0
	for _, at := range s.last {
		if s.makespan {
			value = max(value, at)
		} else {
			value += at
		}
	}
	return value
}

func (s *search) visit() {
	s.nodes++
	bound := s.bound()
	if bound >= s.best-1e-9 {
		return
	}
	if s.nodes > searchLimit {
		s.missed = min(s.missed, bound)
		return
	}
	d := s.next()
	if d == none {
		if !slices.ContainsFunc(s.left, func(n int) bool { return n > 0 }) {
			s.best = s.reached()
		}
		return
	}
	for _, b := range s.choices(d) {
		s.take(d, b)
	}
	s.close(d)
}

// next gives the device that is free first; none when all are closed or nothing is left.
func (s *search) next() int {
	if !slices.ContainsFunc(s.left, func(n int) bool { return n > 0 }) {
		return none
	}
	best := none
	for d := range s.free {
		if !s.closed.has(d) && (best == none || s.free[d] < s.free[best]) {
			best = d
		}
	}
	return best
}

// choices gives the batches that a device may take from, the most promising first.
func (s *search) choices(d int) []int {
	choices := make([]int, 0, len(s.batches))
	for b, n := range s.left {
		if n > 0 && s.world.Models[s.batches[b].model].Memory <= s.world.Box.Devices[d].Memory {
			choices = append(choices, b)
		}
	}
	slices.SortStableFunc(choices, func(x, y int) int { return cmp.Compare(s.finish(d, x), s.finish(d, y)) })
	return choices
}

// loaded is when the device can have the batch's model: at once when it holds it.
func (s *search) loaded(d, b int) float64 {
	model := s.batches[b].model
	at := s.free[d]
	if s.holds[d] == model {
		return at
	}
	m := s.world.Models[model]
	cold := at + s.world.Box.load(m, false)
	if s.read[model] == never {
		return cold
	}
	return min(cold, max(at, s.read[model])+s.world.Box.load(m, true))
}

func (s *search) finish(d, b int) float64 {
	return s.loaded(d, b) + s.batches[b].work/s.world.Box.Devices[d].Speed
}

func (s *search) take(d, b int) {
	of := s.batches[b]
	loaded, finish := s.loaded(d, b), s.finish(d, b)
	free, holds, read, last := s.free[d], s.holds[d], s.read[of.model], s.last[of.set]
	if holds != of.model {
		s.read[of.model] = min(read, loaded)
	}
	s.free[d], s.holds[d], s.last[of.set] = finish, of.model, max(last, finish)
	s.left[b]--
	s.visit()
	s.left[b]++
	s.free[d], s.holds[d], s.read[of.model], s.last[of.set] = free, holds, read, last
}

// close gives the device nothing more, and neither those that are just like it: they would have served as well.
func (s *search) close(d int) {
	before := s.closed
	for o := range s.free {
		if s.world.Box.Devices[o] == s.world.Box.Devices[d] && s.free[o] == s.free[d] && s.holds[o] == s.holds[d] {
			s.closed |= 1 << o
		}
	}
	s.visit()
	s.closed = before
}

// bound gives what no way on from here can beat: each set for itself, the sets in the order of their rest on one server as fast as
// all open devices, and of both the larger, rank by rank.
func (s *search) bound() float64 {
	done := 0.0
	s.own, s.sizes, s.sums = s.own[:0], s.sizes[:0], s.sums[:0]
	for set := range s.last {
		own, size := s.alone(set)
		switch {
		case size == 0 && s.makespan:
			done = max(done, s.last[set])
		case size == 0:
			done += s.last[set]
		default:
			s.own, s.sizes = append(s.own, max(own, s.last[set])), append(s.sizes, size)
		}
	}
	if len(s.own) == 0 {
		return done
	}
	slices.Sort(s.own)
	slices.Sort(s.sizes)
	s.order = s.order[:0]
	for d := range s.free {
		if !s.closed.has(d) {
			s.order = append(s.order, d)
		}
	}
	if len(s.order) == 0 {
		return never
	}
	slices.SortFunc(s.order, func(a, b int) int { return cmp.Compare(s.free[a], s.free[b]) })
	sum := 0.0
	for i, size := range s.sizes {
		sum += size
		at := max(s.own[i], s.served(sum))
		if s.makespan {
			done = max(done, at)
		} else {
			done += at
		}
	}
	return done
}

// served gives when the open devices together can have done work.
func (s *search) served(work float64) float64 {
	speed, at := 0.0, 0.0
	for _, d := range s.order {
		if gap := s.free[d] - at; speed > 0 {
			if speed*gap >= work {
				break
			}
			work -= speed * gap
		}
		speed, at = speed+s.world.Box.Devices[d].Speed, s.free[d]
	}
	return at + work/speed
}

// alone gives when the rest of a set could be done if the open devices had nothing else to do, and its work.
func (s *search) alone(set int) (at, size float64) {
	count, least, largest, model := 0, never, 0.0, none
	for b, n := range s.left {
		if n == 0 || s.batches[b].set != set {
			continue
		}
		of := s.batches[b]
		count, size, model = count+n, size+float64(n)*of.work, of.model
		least, largest = min(least, of.work), max(largest, of.work)
	}
	if count == 0 {
		return 0, 0
	}
	begins := s.begins(model)
	next := make([]float64, len(begins))
	first := never
	for d, begin := range begins {
		next[d] = begin + least/s.world.Box.Devices[d].Speed
		first = min(first, begin+largest/s.world.Box.Devices[d].Speed)
	}
	for range count {
		d := 0
		for i := range next {
			if next[i] < next[d] {
				d = i
			}
		}
		at = next[d]
		next[d] += least / s.world.Box.Devices[d].Speed
	}
	return max(at, first), size
}

// begins gives when each device could have the model at the soonest; never when it is closed or too small.
func (s *search) begins(model int) []float64 {
	m := s.world.Models[model]
	cold, cached := s.world.Box.load(m, false), s.world.Box.load(m, true)
	read := s.read[model]
	begins := make([]float64, len(s.free))
	if read == never { // some device has to read it first
		for d, at := range s.free {
			if !s.closed.has(d) && m.Memory <= s.world.Box.Devices[d].Memory {
				read = min(read, at+cold)
			}
		}
	}
	for d, at := range s.free {
		switch {
		case s.closed.has(d) || m.Memory > s.world.Box.Devices[d].Memory:
			begins[d] = never
		case s.holds[d] == model:
			begins[d] = at
		default:
			begins[d] = min(at+cold, max(at, read)+cached)
		}
	}
	return begins
}
