package sim

// what is due on the simulated machine.
type due uint8

const (
	arrival due = iota // of a set
	outset             // of a disturbance
	ending             // of a disturbance
	phase              // of a device: the next thing of what it does
	tick               // of telemetry: measure
	deliver            // of telemetry: show
	ask                // the policy again
)

// event is something that will happen.
type event struct {
	at   float64
	seq  uint64 // equal times keep their order
	id   int    // set, disturbance or device
	gen  uint32 // of the device's phase: an older one does not count any more
	what due
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// agenda is a heap of events, the next one first.
type agenda struct {
	events []event
	seq    uint64
}

func (a *agenda) push(e event) {
	a.seq++
	e.seq = a.seq
	a.events = append(a.events, e)
	for i := len(a.events) - 1; i > 0; {
		parent := (i - 1) / 2
		if !a.events[i].before(a.events[parent]) {
			return
		}
		a.events[i], a.events[parent] = a.events[parent], a.events[i]
		i = parent
	}
}

func (a *agenda) pop() event {
	top, last := a.events[0], len(a.events)-1
	a.events[0] = a.events[last]
	a.events = a.events[:last]
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < last && a.events[child].before(a.events[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		a.events[i], a.events[least] = a.events[least], a.events[i]
		i = least
	}
}
