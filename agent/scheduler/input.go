package scheduler

import (
	"fmt"
	"slices"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// input is a planner's Input and the jobs that its images stand for.
type input struct {
	Input
	jobs []*job.Job
}

// demand is what equal images have in common.
type demand struct {
	model, sampler string
	pixels, steps  int
}

// How often every queued image is planned, not only those that could start soon: what people are told when they are far behind.
const (
	fullEvery = time.Second // and 5 ms for each image
	fullPlan  = 2048
	shortPlan = 64
)

// exploreAfter is after how many sets a slot that nothing was ever made on is worth a try.
const exploreAfter = 3

// input gathers what the plan depends on.
func (c *Core) input(active []job.Job, now time.Time, orders *Orders) input {
	in := input{Input: Input{Policy: c.policy, Hold: c.hold(now), Stations: c.stations(now), Horizon: shortPlan, Watts: c.wattsLeft()}}
	if away := c.away(); away != nil {
		in.Away = away.Problem
	}
	in.Pending, in.jobs = make([]Pending, 0, len(active)), make([]*job.Job, 0, len(active)) // they can be thousands
	kinds := map[demand]int{}
	var hopeless []bool // by kind
	var last demand
	kind := -1
	for i := range active {
		j := &active[i]
		if j.State != job.Queued || c.attempts[j.ID] != nil || c.failing[j.ID] {
			continue
		}
		d := demand{j.Model, j.Sampler, j.Width * j.Height, j.Steps}
		if kind < 0 || d != last {
			at, known := kinds[d]
			if !known {
				at = len(in.Kinds)
				kinds[d] = at
				in.Kinds = append(in.Kinds, c.kind(d))
			}
			kind, last = at, d
		}
		if kind == len(hopeless) { // each is asked about once
			hopeless = append(hopeless, c.hopeless(in.Kinds[kind], now))
		}
		if hopeless[kind] {
			c.failing[j.ID] = true
			orders.Refuse = append(orders.Refuse, Refusal{*j, fmt.Sprintf("no device here has a generator for %s: choose another", in.Kinds[kind].wants())})
			continue
		}
		in.Pending = append(in.Pending, Pending{
			ID: j.ID, Set: j.SetID, Ordinal: j.Ordinal, Kind: kind, Priority: j.Priority, Client: j.ClientID,
			Waited: max(0, now.Sub(j.Created).Seconds()), Pin: c.pin(j), Avoid: c.avoided(j.ID), Bound: c.boundTo(j.ID),
		})
		in.jobs = append(in.jobs, j)
	}
	if in.several() {
		for i := range in.Pending {
			in.Pending[i].Used = c.usage.of(in.Pending[i].Client, now)
		}
	}
	c.forgetMissing(in.Kinds)
	if now.Sub(c.fullAt) >= fullEvery+time.Duration(len(in.Pending))*fullEvery/200 || len(in.Pending) > c.count {
		in.Horizon, c.fullAt = fullPlan, now
	}
	c.count = len(in.Pending)
	return in
}

// several says whether images of more than one client wait.
func (in *input) several() bool {
	return slices.ContainsFunc(in.Pending, func(p Pending) bool { return p.Client != in.Pending[0].Client })
}

// pin gives the stable ID of the device that the job is bound to; "" for none. Jobs of versions that kept only the number go by that.
func (c *Core) pin(j *job.Job) string {
	switch {
	case j.PinnedKey != "" || j.PinnedTo == nil:
		return j.PinnedKey
	case *j.PinnedTo == gpu.CPU:
		return backend.CPU().ID
	}
	if c.inventory != nil {
		if device, ok := c.inventory.Device(*j.PinnedTo); ok {
			return device.ID
		}
	}
	return j.PinnedTo.Label()
}

// hold says why nothing may start.
func (c *Core) hold(now time.Time) string {
	switch {
	case c.inventory == nil:
		return "the devices are not known yet"
	case now.Before(c.diskUntil):
		return "results can't be stored (" + c.diskFault + "): starting again in a while"
	}
	return ""
}

// wattsLeft is what all GPUs together may draw more than they do; nil when there is no limit.
func (c *Core) wattsLeft() *float64 {
	limit := c.steering.Pool.MaxWatts
	if limit == nil {
		return nil
	}
	left := *limit
	counted := map[string]bool{}
	for _, st := range c.slots {
		if st.Device.Index == gpu.CPU {
			continue
		}
		draws := st.drawn
		if st.current != nil {
			draws += st.extra() // it will soon
		}
		if !counted[st.Device.ID] {
			counted[st.Device.ID] = true
			left -= draws
		}
	}
	return &left
}

func (c *Core) stations(now time.Time) []Station {
	promised := map[string]uint64{} // by Device.ID
	for _, st := range c.byKey {
		promised[st.Device.ID] += st.holds
	}
	stations := make([]Station, len(c.slots))
	for i, st := range c.slots {
		blocked, gone := st.blocked(now)
		stations[i] = Station{
			Ref: st.Device.Index, Key: st.Device.ID, Name: st.Device.Index.Label(), Blocked: blocked, Gone: gone,
			Idle: st.current == nil, Available: st.available(now), Loaded: st.loaded, Share: st.share, Memory: st.memory(),
			Room: st.room(promised[st.Device.ID] - st.holds), Extra: st.extra(),
		}
		if st.current != nil {
			stations[i].Set = st.current.Job.SetID
		}
	}
	return stations
}

func (c *Core) kind(d demand) Kind {
	kind := Kind{Model: d.model, Sampler: d.sampler, Costs: make([]Cost, len(c.slots)), Away: c.awayWith(d.model)}
	for i, st := range c.slots {
		model, ok := st.model(d.model)
		if !ok || !model.Samplers.Knows(d.sampler) {
			continue
		}
		at := pace{st.key, d.model, d.pixels}
		work := c.estimates.work(at, st.Speed, d.steps)
		if c.sets >= exploreAfter && !c.estimates.tried(st.key) {
			work /= exploring
		}
		kind.Costs[i] = Cost{Serves: true, Work: work, Load: c.estimates.load(st.key, model), Guess: !c.estimates.measured(d.model)}
		if st.Device.Index != gpu.CPU {
			kind.Costs[i].Needs = needs(model, d.pixels)
		}
	}
	return kind
}

// hopeless says whether no slot has had the model for a while although the devices are known, and no generator is away that may
// have it when it comes back.
func (c *Core) hopeless(kind Kind, now time.Time) bool {
	served := slices.ContainsFunc(kind.Costs, func(c Cost) bool { return c.Serves })
	if served || c.inventory == nil || c.away() != nil {
		delete(c.missing, kind.want())
		return false
	}
	since, known := c.missing[kind.want()]
	if !known {
		c.missing[kind.want()] = now
		return false
	}
	return now.Sub(since) >= missingAfter
}

// away gives a generator that does not answer now, or whose device nobody knows, so that its models are not offered; nil when there is
// none.
func (c *Core) away() *wire.Generator {
	for i := range c.programs {
		switch c.programs[i].State {
		case wire.GeneratorStarting, wire.GeneratorUnreachable, wire.GeneratorUnplaced:
			return &c.programs[i]
		}
	}
	return nil
}

// awayWith says why the generator without a slot that had a model is away, in words for people; "" when none had it.
func (c *Core) awayWith(model string) string {
	for _, a := range c.awaited {
		at := slices.IndexFunc(c.programs, func(g wire.Generator) bool { return g.ID == a.Generator })
		if at >= 0 && slices.ContainsFunc(a.Models, func(m backend.Model) bool { return m.Name == model }) {
			return c.programs[at].Problem
		}
	}
	return ""
}

func (c *Core) forgetMissing(kinds []Kind) {
	for missing := range c.missing {
		if !slices.ContainsFunc(kinds, func(k Kind) bool { return k.want() == missing }) {
			delete(c.missing, missing)
		}
	}
}

// avoided gives the positions of the slots on which the job failed.
func (c *Core) avoided(id string) []int {
	slots := c.avoid[id]
	if len(slots) == 0 {
		return nil
	}
	var at []int
	for i, st := range c.slots {
		if slots[st.key] {
			at = append(at, i)
		}
	}
	return at
}

// boundTo gives the position of the slot that the job was dealt to; −1 for none.
func (c *Core) boundTo(id string) int {
	key, ok := c.bound[id]
	if !ok {
		return -1
	}
	return slices.IndexFunc(c.slots, func(st *slotState) bool { return st.key == key })
}
