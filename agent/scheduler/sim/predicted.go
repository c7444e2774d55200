package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"muster/agent/backend"
	"muster/agent/scheduler"
	"muster/shared/gpu"
	"muster/shared/job"
)

// Predicted is muster's own policy: the real code.
var Predicted = Competitor{Name: string(scheduler.Predicted), New: func(w *World) Policy { return newPredicted(w) }, Steps: true}

// predicted drives the scheduler's Core with the simulated machine, as Scheduler does with the real one: the same views, the same
// order of calls, and the queue's rule of how often an image may fail.
type predicted struct {
	world *World
	core  *scheduler.Core
	view  scheduler.View

	images   []int // by position in view.Jobs
	attempts []*scheduler.Attempt
	ends     []scheduler.End // by device: how its attempt is being ended; without Attempt when it is not
	failures []int           // by image
	orders   []Order

	snapshots [2]gpu.Snapshot // taken in turn: Core keeps none longer than until the next
	numbers   [2][]numbers

	forecast
}

// numbers are what a reading points to.
type numbers struct {
	utilization float64
	used, total uint64
	throttle    gpu.Throttle
}

// generator stands for a backend that only the simulator plays.
type generator struct{}

var errSimulated = errors.New("a simulated device makes no images")

func (generator) Name() string { return "simulated" }
func (generator) Generate(context.Context, gpu.Device, backend.Request, func(job.Progress)) (backend.Image, error) {
	return backend.Image{}, errSimulated
}
func (generator) Unload(context.Context, gpu.Device) error { return nil }

func newPredicted(w *World) *predicted {
	n := len(w.Box.Devices)
	p := &predicted{
		world: w, core: scheduler.NewCore(scheduler.Predicted), attempts: make([]*scheduler.Attempt, n), ends: make([]scheduler.End, n),
		forecast: newForecast(w),
	}
	models := make([]backend.Model, len(w.Models))
	for i, m := range w.Models {
		models[i] = backend.Model{Name: m.Name, Title: m.Name, Bytes: int64(m.File), VRAMBytes: m.Memory}
	}
	priors := w.priors()
	inventory := &gpu.Inventory{Revision: 1}
	for d := range n {
		memory := w.Box.Devices[d].Memory
		inventory.Devices = append(inventory.Devices, gpu.Device{
			ID: fmt.Sprintf("sim-%02d", d), Index: gpu.Ref(d), Name: "simulated", MemoryBytes: &memory, Simulated: true,
		})
		p.view.Slots = append(p.view.Slots, scheduler.Slot{Device: inventory.Devices[d], Backend: generator{}, Models: models, Speed: priors[d] * speedOfOne})
	}
	p.view.Inventory = inventory
	for i := range p.snapshots {
		p.snapshots[i].GPUs, p.numbers[i] = make([]gpu.Reading, n), make([]numbers, n)
	}
	if w.Warm != none {
		p.warm(w)
	}
	return p
}

// warm lets the Core load the model on every device where it fits, an hour before, by images that are stopped after their first
// step: it learns what each device holds, and nothing else.
func (p *predicted) warm(w *World) {
	now := clock(-3600)
	v := p.view
	v.Now = now
	s := shapeOf(w.Models[w.Warm].Seconds)
	for _, d := range w.Box.fits(w.Models[w.Warm]) {
		v.Jobs = append(v.Jobs, job.Job{
			ID: fmt.Sprintf("warm-%02d", d), SetID: "warm", Ordinal: d, State: job.Queued, Model: w.Models[w.Warm].Name, Width: s.width, Height: s.height,
			Steps: s.steps, Created: now, PinnedKey: p.view.Slots[d].Device.ID,
		})
	}
	for _, a := range p.core.Plan(v).Starts {
		p.core.Started(a, 1)
		a.Begin(now)
		a.Report(job.Progress{Step: 1, Steps: s.steps}, now)
		p.core.Settled(a, scheduler.Outcome{}, now)
		p.core.Freed(a, now)
	}
}

func (p *predicted) Notice(m *Machine, n Notice) {
	switch n.What {
	case Submitted:
		p.submit(m, n)
	case Measured:
		p.look(m)
	case Stepped:
		p.attempts[n.Device].Report(job.Progress{Step: n.Step, Steps: n.Count}, clock(m.Now))
	case Finished:
		p.settle(n, scheduler.Outcome{Succeeded: true, Took: duration(n.Took)}, m)
		p.remove(n.Image)
		p.arrived(m, n.Image)
	case Lost:
		p.settle(n, scheduler.Outcome{Fault: "no room", Memory: true}, m)
		p.remove(n.Image)
	case Returned:
		p.giveBack(m, n)
	}
}

func (p *predicted) submit(m *Machine, n Notice) {
	for i := range n.Count {
		of := m.Images[n.Image+i]
		s := shapeOf(m.Models[of.Model].Seconds)
		p.view.Jobs = append(p.view.Jobs, job.Job{
			ID: fmt.Sprintf("%08d", n.Image+i), SetID: fmt.Sprintf("%08d", of.Set), Ordinal: of.Ordinal, State: job.Queued, Model: m.Models[of.Model].Name,
			Width: s.width, Height: s.height, Steps: s.steps, Created: clock(m.Now),
		})
		p.images = append(p.images, n.Image+i)
		p.failures = append(p.failures, 0)
	}
	p.submitted(m, n)
}

// settle tells the Core how the attempt on a device ended, and that the device is free.
func (p *predicted) settle(n Notice, o scheduler.Outcome, m *Machine) {
	a := p.attempts[n.Device]
	p.attempts[n.Device], p.ends[n.Device] = nil, scheduler.End{}
	p.core.Settled(a, o, clock(m.Now))
	p.core.Freed(a, clock(m.Now))
}

// giveBack queues an image again, or gives it up when it has failed too often: the queue's rule.
func (p *predicted) giveBack(m *Machine, n Notice) {
	o := scheduler.Outcome{}
	switch n.Why {
	case NoRoom:
		o.Fault, o.Memory = "no room on the device", true
	case Died:
		o.Fault = "the generator died"
	case Refused:
		o.Fault = "the generator can't be reached"
	case Withdrawn:
		o = p.ends[n.Device].Outcome()
	}
	p.settle(n, o, m)
	at := p.position(n.Image)
	p.view.Jobs[at].State = job.Queued
	if o.Fault != "" {
		if p.failures[n.Image]++; p.failures[n.Image] >= job.MaxFailures {
			p.orders = append(p.orders, Order{Act: GiveUp, Image: n.Image})
			p.remove(n.Image)
		}
	}
}

func (p *predicted) position(image int) int {
	at, _ := slices.BinarySearch(p.images, image)
	return at
}

func (p *predicted) remove(image int) {
	at := p.position(image)
	p.images = slices.Delete(p.images, at, at+1)
	p.view.Jobs = slices.Delete(p.view.Jobs, at, at+1)
}

// look turns the newest measurement into a snapshot.
func (p *predicted) look(m *Machine) {
	turn := m.Measured.Seq % 2
	s := &p.snapshots[turn]
	s.Seq, s.Time, s.Revision = m.Measured.Seq, clock(m.Measured.At), 1
	for d, load := range m.Measured.Devices {
		v, r := &p.numbers[turn][d], &s.GPUs[d]
		if load.Lost {
			r.Index, r.State = gpu.Ref(d), gpu.StateLost // with its last values
			r.AgeMilliseconds += int64(measureEvery * 1000)
			continue
		}
		*v = numbers{utilization: 100 * load.Utilization, used: load.Used, total: m.Box.Devices[d].Memory}
		if load.Hot {
			v.throttle = gpu.ThrottleThermal
		}
		*r = gpu.Reading{
			Index: gpu.Ref(d), State: gpu.StateOK, UtilizationPercent: &v.utilization, MemoryTotalBytes: &v.total, MemoryUsedBytes: &v.used,
			Throttle: &v.throttle,
		}
	}
	p.view.Snapshot = s
}

func (p *predicted) Decide(m *Machine) ([]Order, float64) {
	p.view.Now = clock(m.Now)
	plan := p.core.Plan(p.view)
	for _, a := range plan.Starts {
		image, _ := strconv.Atoi(a.Job.ID)
		d := int(a.Target.Device.Index)
		at := p.position(image)
		p.view.Jobs[at].State = job.Running
		p.view.Jobs[at].Attempt++
		p.core.Started(a, p.view.Jobs[at].Attempt)
		a.Begin(p.view.Now)
		p.attempts[d] = a
		p.orders = append(p.orders, Order{Start, d, image})
	}
	for _, end := range plan.Ends {
		d := int(end.Attempt.Target.Device.Index)
		if p.attempts[d] == end.Attempt {
			p.ends[d] = end
			p.orders = append(p.orders, Order{Act: Withdraw, Device: d})
		}
	}
	for _, u := range plan.Unloads {
		p.orders = append(p.orders, Order{Act: Unload, Device: int(u.Slot.Device.Index)})
		p.core.Unloaded(u, nil, p.view.Now)
	}
	for _, r := range plan.Refuse {
		image, _ := strconv.Atoi(r.Job.ID)
		p.orders = append(p.orders, Order{Act: GiveUp, Image: image})
		p.remove(image)
		p.core.Refused(r.Job.ID)
	}
	for _, j := range plan.Return {
		image, _ := strconv.Atoi(j.ID)
		p.view.Jobs[p.position(image)].State = job.Queued
		p.core.Returned(j.ID)
	}
	p.told(m, plan.Outlooks)
	orders := p.orders
	p.orders = nil
	return orders, m.Now + max(plan.Next.Seconds(), 1e-3)
}
