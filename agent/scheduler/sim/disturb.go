package sim

import "slices"

// befall begins a disturbance and puts its end, and the outset of the next one, on the agenda.
func (e *engine) befall(id int) {
	if id+1 < len(e.world.Disturbances) {
		e.agenda.push(event{at: e.world.Disturbances[id+1].At, id: id + 1, what: outset})
	}
	x := e.world.Disturbances[id]
	e.agenda.push(event{at: x.At + x.For, id: id, what: ending})
	d := &e.devices[x.Device]
	d.afflictions = append(d.afflictions, id)
	e.troubled++
	e.afflict(x.Device, d)
}

// recover ends a disturbance.
func (e *engine) recover(id int) {
	x := e.world.Disturbances[id]
	d := &e.devices[x.Device]
	d.afflictions = slices.DeleteFunc(d.afflictions, func(other int) bool { return other == id })
	e.troubled--
	e.afflict(x.Device, d)
}

// afflict draws the conclusions from the disturbances that a device has now.
func (e *engine) afflict(at int, d *gpuState) {
	e.progress(d)
	total := e.world.Box.Devices[at].Memory
	left, heat, taken, dead := 1.0, 1.0, 0.0, false
	for _, id := range d.afflictions {
		switch x := e.world.Disturbances[id]; x.Kind {
		case Dead:
			dead = true
		case Busy:
			left *= 1 - x.Compute
			taken += x.Memory
		case Hot:
			heat *= x.Speed
		}
	}
	d.rate = e.world.Box.Devices[at].Speed * left * heat
	d.crowd, d.hot, d.taken = 1-left, heat < 1, min(total, uint64(taken*float64(total)))
	if dead && !d.dead {
		e.die(at, d)
	}
	d.dead = dead
	if d.state == working {
		e.schedule(at, d)
	}
}

// die loses what the device holds. Who gave it an image knows at once, others when telemetry shows it.
func (e *engine) die(at int, d *gpuState) {
	e.result.Deaths++
	d.diedAt, d.model = e.now, none
	if d.state != idle && d.state != refusing {
		e.result.Killed++
		e.withdraw(at, d, Died)
	}
}
