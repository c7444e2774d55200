package sim

import (
	"context"
	"fmt"
	"time"
)

// How the simulated machine behaves where the benchmark gives a number.
const (
	noRoomSeconds  = 3.0  // that a dispatch to a device without room takes
	noRoomLimit    = 4    // such dispatches lose an image
	refusedSeconds = 1.0  // that a dispatch to a dead device takes
	measureEvery   = 1.0  // seconds between measurements
	frozenAt       = 30.0 // seconds after which frozen telemetry shows nothing new
	tailSteps      = 0.5  // of an image after its last step, in steps
)

// Bounds of a run.
const (
	quietSeconds = 60.0    // without work, after which measuring stops until shortly before the next set
	awakeSeconds = 15.0    // before the next set, when measuring goes on
	stuckSeconds = 7200.0  // without any image on any device, while some wait and nothing disturbs: the policy has forgotten them
	maxEvents    = 2e8     // of one run
	checkEvery   = 1 << 12 // events between looks at the context
)

// Competitor is a policy that takes part.
type Competitor struct {
	Name string
	New  func(w *World) Policy
	// Steps says whether it wants to know of every step of an image.
	Steps bool
}

// engine is one run.
type engine struct {
	ctx     context.Context
	world   *World
	policy  Policy
	name    string
	stepped bool

	machine  Machine
	now      float64
	agenda   agenda
	devices  []gpuState
	images   []imageState
	works    []float64
	shapes   []shape
	cached   []bool  // by model: some device has loaded its file
	left     []int   // by set: images that have not ended
	arrived  int     // sets
	open     int     // images that have arrived and not ended
	busy     int     // devices to which something was given
	troubled int     // disturbances that have not ended
	worked   float64 // when an image was open last
	moved    float64 // when none waited, or something was given to a device, last
	again    float64 // when the policy wants to be asked
	news     bool    // something happened that the policy may act on

	telemetry telemetry
	result    *Result
}

// imageState is an image as it really is.
type imageState struct {
	tries int // dispatches to devices without room
	ended bool
	made  int
}

// Run plays a world with a competitor. It fails when the context ends and when the policy does something that can't be.
func Run(ctx context.Context, w *World, c Competitor) (*Result, error) {
	e := &engine{
		ctx: ctx, world: w, policy: c.New(w), name: c.Name, stepped: c.Steps, works: w.works(), shapes: w.shapes(), cached: make([]bool, len(w.Models)),
		devices: make([]gpuState, len(w.Box.Devices)), left: make([]int, len(w.Sets)), again: never,
		result: newResult(w, c.Name),
	}
	e.images = make([]imageState, 0, len(e.works))
	e.machine = Machine{
		Box: &w.Box, Models: w.Models, Devices: make([]Seen, len(w.Box.Devices)), Images: make([]Image, 0, len(e.works)),
		Rand: random(w.Seed, policyStream), world: w,
	}
	for d := range e.devices {
		e.devices[d] = gpuState{model: none, image: none, rate: w.Box.Devices[d].Speed}
		if w.Warm != none && w.Models[w.Warm].Memory <= w.Box.Devices[d].Memory {
			e.devices[d].model, e.cached[w.Warm] = w.Warm, true
		}
		e.machine.Devices[d] = Seen{Running: none, Idle: true, Model: e.devices[d].model}
	}
	if len(w.Sets) > 0 {
		e.agenda.push(event{at: w.Sets[0].At, what: arrival})
	}
	if len(w.Disturbances) > 0 {
		e.agenda.push(event{at: w.Disturbances[0].At, what: outset})
	}
	if w.Telemetry != Absent {
		e.agenda.push(event{at: 0, what: tick})
	}
	if err := e.run(); err != nil {
		return nil, fmt.Errorf("policy %s at %.3f s: %w", c.Name, e.now, err)
	}
	if f, ok := e.policy.(forecaster); ok {
		e.result.ImageErrors, e.result.SetErrors = f.errors()
	}
	return e.result, nil
}

// forecaster is a Policy that predicts.
type forecaster interface {
	errors() (images, sets []float64)
}

func (e *engine) done() bool { return e.arrived == len(e.world.Sets) && e.open == 0 }

func (e *engine) run() error {
	for n := 0; !e.done(); n++ {
		if n%checkEvery == 0 {
			if err := context.Cause(e.ctx); err != nil {
				return err
			}
		}
		if n > maxEvents || len(e.agenda.events) == 0 {
			return fmt.Errorf("%d images wait for ever", e.open)
		}
		next := e.agenda.pop()
		e.now, e.machine.Now = next.at, next.at
		e.happen(next)
		if len(e.agenda.events) > 0 && e.agenda.events[0].at == e.now || !e.news {
			continue
		}
		e.news = false
		if err := e.decide(); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) happen(next event) {
	switch next.what {
	case arrival:
		e.arrive(next.id)
	case outset:
		e.befall(next.id)
	case ending:
		e.recover(next.id)
	case phase:
		if d := &e.devices[next.id]; d.gen == next.gen {
			e.proceed(next.id, d)
		}
	case tick:
		e.measure()
	case deliver:
		e.show()
	case ask:
		e.news = e.news || next.at == e.again
	}
}

func (e *engine) notice(n Notice) {
	e.news = true
	began := time.Now()
	e.policy.Notice(&e.machine, n)
	e.result.deciding += time.Since(began)
}

func (e *engine) decide() error {
	began := time.Now()
	orders, again := e.policy.Decide(&e.machine)
	e.result.deciding += time.Since(began)
	e.result.decisions++
	for _, o := range orders {
		if err := e.obey(o); err != nil {
			return err
		}
	}
	if e.news { // an order had a consequence at once
		e.agenda.push(event{at: e.now, what: ask})
	}
	if e.again = again; again < never {
		if again <= e.now {
			return fmt.Errorf("it wants to be asked again at %.3f s, which is not later", again)
		}
		e.agenda.push(event{at: again, what: ask})
	}
	if e.open > 0 {
		e.worked = e.now
	}
	if e.open == 0 || e.busy > 0 || e.troubled > 0 {
		e.moved = e.now
	}
	if e.now-e.moved > stuckSeconds {
		return fmt.Errorf("%d images wait and nothing runs", e.open)
	}
	return nil
}

func (e *engine) obey(o Order) error {
	if o.Act == GiveUp {
		if e.images[o.Image].ended {
			return fmt.Errorf("image %d is given up although it has ended", o.Image)
		}
		e.lose(o.Image)
		return nil
	}
	d := &e.devices[o.Device]
	if (d.state == idle) == (o.Act == Withdraw) {
		return fmt.Errorf("order %d for device %d, which does something else", o.Act, o.Device)
	}
	switch o.Act {
	case Start, Preload:
		if e.images[o.Image].ended && o.Act == Start {
			return fmt.Errorf("image %d is started although it has ended", o.Image)
		}
		e.dispatch(o, d)
	case Withdraw:
		e.withdraw(o.Device, d, Withdrawn)
	case Unload:
		d.model = none
		e.machine.Devices[o.Device].Model = none
	}
	return nil
}

func (e *engine) arrive(set int) {
	s := e.world.Sets[set]
	first := len(e.images)
	for i := range s.Count {
		e.images = append(e.images, imageState{})
		e.machine.Images = append(e.machine.Images, Image{Set: set, Ordinal: i, Model: s.Model, Arrived: e.now})
	}
	e.left[set] = s.Count
	e.open += s.Count
	e.arrived++
	if set+1 < len(e.world.Sets) {
		e.agenda.push(event{at: e.world.Sets[set+1].At, id: set + 1, what: arrival})
	}
	e.notice(Notice{What: Submitted, Image: first, Count: s.Count})
}
