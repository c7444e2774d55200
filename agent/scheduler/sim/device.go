package sim

// gpuState is a device as it really is.
type gpuState struct {
	afflictions []int // disturbances, by position
	dead        bool
	rate        float64 // seconds at speed 1 in a second
	taken       uint64  // bytes of other programs
	crowd       float64 // share of the compute that they take
	hot         bool
	diedAt      float64

	model int // resident
	gen   uint32

	state   activity
	image   int
	given   float64
	left    float64 // seconds at speed 1 until the image is done
	at      float64 // when left was right
	until   float64 // of what takes a fixed time
	step    int
	preload bool
}

type activity uint8

const (
	idle activity = iota
	refusing
	lacking // room
	loading
	working
)

// dispatch gives an image, or the loading of its model, to an idle device.
func (e *engine) dispatch(o Order, d *gpuState) {
	model := e.machine.Images[o.Image].Model
	seen := &e.machine.Devices[o.Device]
	seen.Running, seen.Idle, seen.Model, seen.Since = o.Image, false, model, e.now
	if o.Act == Preload {
		seen.Running = none
	}
	d.image, d.preload, d.given, d.step = o.Image, o.Act == Preload, e.now, 0
	e.busy++
	switch {
	case d.dead:
		d.state, d.until = refusing, e.now+refusedSeconds
	case d.model == model:
		e.work(d)
	case e.world.Models[model].Memory > e.world.Box.Devices[o.Device].Memory-d.taken:
		d.state, d.until, d.model = lacking, e.now+noRoomSeconds, none
		e.result.NoRoom++
		if m := e.machine.Measured; m != nil && e.world.Models[model].Memory <= e.world.Box.Devices[o.Device].Memory-m.Devices[o.Device].Other {
			e.result.Unseen++
		}
		if !d.preload {
			e.images[o.Image].tries++
		}
	default:
		d.state, d.until, d.model = loading, e.now+e.world.Box.load(e.world.Models[model], e.cached[model]), none
		e.result.Loads++
	}
	e.schedule(o.Device, d)
}

// work begins the image itself.
func (e *engine) work(d *gpuState) {
	d.state, d.left, d.at = working, e.works[d.image], e.now
	if d.preload {
		d.left = 0
	}
}

// schedule puts the next thing that the device does on the agenda.
func (e *engine) schedule(at int, d *gpuState) {
	d.gen++
	due := d.until
	if d.state == working {
		if d.left > 0 && d.rate <= 0 {
			return // until a disturbance ends
		}
		due = e.now
		if ahead := d.left - e.mark(d); ahead > 0 {
			due += ahead / d.rate
		}
	}
	e.agenda.push(event{at: due, id: at, gen: d.gen, what: phase})
}

// mark is what is left of the image when its next step is done, or it is itself.
func (e *engine) mark(d *gpuState) float64 {
	s := e.shapes[e.machine.Images[d.image].Model]
	if !e.stepped || d.preload || d.step >= s.steps {
		return 0
	}
	return e.works[d.image] * (1 - float64(min(s.steps, d.step+s.stride))/(float64(s.steps)+tailSteps))
}

// progress brings left up to date before the rate changes.
func (e *engine) progress(d *gpuState) {
	if d.state == working {
		d.left = max(0, d.left-(e.now-d.at)*d.rate)
		d.at = e.now
	}
}

// proceed does the next thing of what the device does.
func (e *engine) proceed(at int, d *gpuState) {
	image := d.image
	switch d.state {
	case refusing:
		e.withdraw(at, d, Refused)
	case lacking:
		e.withdraw(at, d, NoRoom)
	case loading:
		d.model = e.machine.Images[image].Model
		e.cached[d.model] = true
		e.work(d)
		e.schedule(at, d)
	case working:
		d.left, d.at = e.mark(d), e.now
		if s := e.shapes[e.machine.Images[image].Model]; e.stepped && !d.preload && d.step < s.steps {
			d.step = min(s.steps, d.step+s.stride)
			e.schedule(at, d)
			e.policy.Notice(&e.machine, Notice{What: Stepped, Device: at, Image: image, Step: d.step, Count: s.steps})
			return
		}
		took, preload := e.now-d.given, d.preload
		e.release(at, d)
		if preload {
			e.notice(Notice{What: Loaded, Device: at, Image: image})
			return
		}
		e.images[image].made++
		e.result.made(e.machine.Images[image], e.images[image].made, e.now, took)
		e.end(image)
		e.notice(Notice{What: Finished, Device: at, Image: image, Took: took})
	}
}

// release makes the device idle.
func (e *engine) release(at int, d *gpuState) {
	d.gen++
	d.state, d.image = idle, none
	e.busy--
	seen := &e.machine.Devices[at]
	seen.Running, seen.Idle, seen.Model, seen.Freed = none, true, d.model, e.now
}

// withdraw takes from the device what it does and gives the image back to the policy, or counts it as lost.
func (e *engine) withdraw(at int, d *gpuState, why Reason) {
	image := d.image
	e.release(at, d)
	if why != Withdrawn {
		e.machine.Images[image].Failed |= 1 << at
	}
	if why == Died || why == Refused {
		e.machine.Devices[at].Down = e.world.Telemetry == Live // which tells when it is back
	}
	switch {
	case e.images[image].ended:
		image = none // a load on behalf of an image that another device has made
	case why == NoRoom && e.images[image].tries >= noRoomLimit:
		e.lose(image)
		e.notice(Notice{What: Lost, Device: at, Image: image, Why: why})
		return
	}
	e.notice(Notice{What: Returned, Device: at, Image: image, Why: why, Took: e.now - d.given})
}

func (e *engine) lose(image int) {
	e.result.lost(e.machine.Images[image], e.now)
	e.end(image)
}

// end counts an image as ended; its set is done with its last one.
func (e *engine) end(image int) {
	if e.images[image].ended {
		return
	}
	e.images[image].ended = true
	e.open--
	set := e.machine.Images[image].Set
	if e.left[set]--; e.left[set] == 0 {
		e.result.Times[set] = e.now - e.world.Sets[set].At
	}
}
