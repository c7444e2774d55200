package sim

// telemetry is what was measured and is on its way.
type telemetry struct {
	measured []Measurement // a ring
	next     int           // to be measured
	shown    int           // to be delivered
	seq      uint64
}

// measure takes the state of every device, to be shown World.Stale later, and puts the next measurement on the agenda. While
// nothing is to be done it sleeps until shortly before the next set.
func (e *engine) measure() {
	t := &e.telemetry
	if t.measured == nil {
		t.measured = make([]Measurement, int(e.world.Stale/measureEvery)+4)
		for i := range t.measured {
			t.measured[i].Devices = make([]Load, len(e.devices))
		}
	}
	m := &t.measured[t.next%len(t.measured)]
	t.next++
	t.seq++
	m.Seq, m.At = t.seq, e.now
	for at := range e.devices {
		m.Devices[at] = e.load(at)
	}
	e.agenda.push(event{at: e.now + e.world.Stale, what: deliver})
	next := e.now + measureEvery
	if e.world.Telemetry == Frozen && next > frozenAt {
		return
	}
	if e.open == 0 && e.now-e.worked > quietSeconds+e.world.Stale && e.arrived < len(e.world.Sets) {
		next = max(next, e.world.Sets[e.arrived].At-awakeSeconds-e.world.Stale)
	}
	e.agenda.push(event{at: next, what: tick})
}

func (e *engine) load(at int) Load {
	d := &e.devices[at]
	if d.dead {
		return Load{Lost: true}
	}
	used := d.taken
	held := d.model
	if d.state == loading {
		held = e.machine.Images[d.image].Model
	}
	if held != none {
		used += e.world.Models[held].Memory
	}
	l := Load{Hot: d.hot, Used: min(used, e.world.Box.Devices[at].Memory), Other: d.taken, OtherShare: d.crowd, Utilization: d.crowd}
	if d.state == working {
		l.Utilization = 1
	}
	return l
}

// show delivers the oldest measurement that was not shown yet.
func (e *engine) show() {
	t := &e.telemetry
	m := &t.measured[t.shown%len(t.measured)]
	t.shown++
	e.machine.Measured = m
	for at := range m.Devices {
		seen, d := &e.machine.Devices[at], &e.devices[at]
		switch {
		case m.Devices[at].Lost:
			seen.Down = true
			if seen.Idle {
				seen.Model = none
			}
		case m.At > d.diedAt:
			seen.Down = false
		}
	}
	e.notice(Notice{What: Measured})
}
