package scheduler

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// telling is what was last explained about a job.
type telling struct {
	text     string
	wait     Wait // that it tells
	seconds  float64
	expected *job.Expected
	since    time.Time // when its end was predicted first, and
	ahead    float64   // the seconds to it then; 0 when nothing was
}

// A new time is told when it is so much earlier or later than the one that was told, as a share of the time that is left.
const (
	moved     = 0.1
	movedLeft = 2 * time.Second // at least
)

// explain says why images wait and when they are expected, where that has changed.
func (c *Core) explain(in input, plan Plan, v View) map[string]job.Outlook {
	told := c.toldBefore // its memory is used again
	clear(told)
	changed := map[string]job.Outlook{}
	names := in.names()
	for _, w := range plan.Waits {
		id := in.jobs[w.Job].ID
		old := c.told[id]
		if old != nil && names == c.names && w.same(old.wait) && plan.Finish[w.Job] == unplanned && !old.late(v.Now) {
			told[id] = old // nearly all of a long queue
			continue
		}
		now := word(w, old, in.Stations)
		c.tell(id, &now, old, c.accuracy.queued.expect, plan.Finish[w.Job], v.Now, changed)
		told[id] = &now
	}
	for id, a := range c.attempts {
		old, now := c.told[id], telling{}
		left := never
		if !a.settled && a.cancelled.IsZero() {
			left = a.remaining(v.Now)
		}
		c.tell(id, &now, old, c.accuracy.started.expect, left, v.Now, changed)
		told[id] = &now
	}
	c.told, c.toldBefore, c.names = told, c.told, names
	return changed
}

// names tells one list of stations from another.
func (in *input) names() uint64 {
	h := fnv.New64a()
	for i := range in.Stations {
		h.Write([]byte(in.Stations[i].Key))
		h.Write([]byte(in.Stations[i].Name))
	}
	return h.Sum64()
}

// word puts a wait into words. A prediction that only wavers keeps its text.
func word(w Wait, old *telling, stations []Station) telling {
	now := telling{text: w.Words(stations), wait: w, seconds: w.Seconds}
	if old != nil && now.text != old.text && nearly(old.seconds, w.Seconds) {
		steady := w
		steady.Seconds = old.seconds
		if steady.Words(stations) == old.text {
			now.text, now.seconds = old.text, old.seconds
		}
	}
	return now
}

// late says whether the time that was told has passed.
func (t *telling) late(now time.Time) bool { return t.expected != nil && t.expected.Late.Before(now) }

// tell completes what is told of a job now, and notes it as changed when it is.
func (c *Core) tell(id string, now, old *telling, expect func(time.Time, float64) *job.Expected, left float64, at time.Time, changed map[string]job.Outlook) {
	known := old != nil
	if !known {
		old = &telling{}
	}
	now.since, now.ahead, now.expected = old.since, old.ahead, old.expected
	switch {
	case left != unplanned:
		now.expected = expect(at, left)
	case old.late(at):
		now.expected = nil // else what was told stands
	}
	if now.ahead == 0 && now.expected != nil {
		now.since, now.ahead = at, left
	}
	if known && now.text == old.text && sameTime(old.expected, now.expected, at) {
		now.expected = old.expected
		return
	}
	changed[id] = job.Outlook{Reason: now.text, Expected: now.expected}
}

// sameTime says whether a new time is not worth telling.
func sameTime(old, new *job.Expected, now time.Time) bool {
	if old == nil || new == nil {
		return old == new
	}
	off := max(new.At.Sub(old.At).Abs(), new.Late.Sub(old.Late).Abs()/2)
	return off <= max(movedLeft, time.Duration(moved*float64(max(0, new.At.Sub(now)))))
}

// nearly says whether a wait grew by no more than one coarse step: not worth another text.
func nearly(old, now float64) bool {
	step := func(v float64) int {
		at, _ := slices.BinarySearch(coarse, v)
		return at
	}
	return step(now)-step(old) == 1
}

func (c *Core) capacity(now time.Time) wire.Capacity {
	out := wire.Capacity{Policy: string(c.policy), Models: []wire.Model{}, Slots: []wire.Slot{}, Pool: c.steering.Pool, Generators: c.programs}
	for _, st := range c.slots {
		if st.Fallback {
			continue
		}
		slot := wire.Slot{
			Device: st.Device.Index, Backend: st.Backend.Name(), Models: []string{}, Loaded: st.loaded,
			Paused: st.steeredAway() != "", Simulated: st.Device.Simulated, Problem: st.problem(now),
		}
		for _, m := range st.Models {
			slot.Models = append(slot.Models, m.Name)
			at := slices.IndexFunc(out.Models, func(known wire.Model) bool { return known.Name == m.Name })
			if at < 0 {
				at = len(out.Models)
				out.Models = append(out.Models, wire.Model{Name: m.Name, Title: m.Title, Bytes: m.Bytes, Grid: 1})
			}
			out.Models[at].Family = cmp.Or(out.Models[at].Family, m.Family)
			out.Models[at].Grid = common(out.Models[at].Grid, max(1, m.Grid))
		}
		out.Slots = append(out.Slots, slot)
	}
	for _, a := range c.awaited {
		for _, m := range a.Models {
			at := slices.IndexFunc(out.Models, func(known wire.Model) bool { return known.Name == m.Name })
			if at < 0 {
				at = len(out.Models)
				out.Models = append(out.Models, wire.Model{Name: m.Name, Title: m.Title, Bytes: m.Bytes, Grid: 1, Away: a.Generator})
			}
			out.Models[at].Family = cmp.Or(out.Models[at].Family, m.Family)
			out.Models[at].Grid = common(out.Models[at].Grid, max(1, m.Grid))
		}
	}
	out.Loads = c.loads()
	out.DefaultModel = c.defaultModel()
	out.Devices = c.steeredDevices(now)
	return out
}

// steeredDevices gives the devices about which people decided something, with what that means now.
func (c *Core) steeredDevices(now time.Time) []wire.Steered {
	var out []wire.Steered
	devices := []gpu.Device{backend.CPU()}
	if c.inventory != nil {
		devices = append(slices.Clone(c.inventory.Devices), backend.CPU())
	}
	for _, device := range devices {
		control, decided := c.steering.Devices[device.ID]
		st := c.slotOf(device.ID)
		switch {
		case !decided && (st == nil || !st.hot):
			continue
		case st == nil:
			st = &slotState{Slot: Slot{Device: device}}
			st.steer(control, now)
		}
		phase, words := st.phase(now)
		out = append(out, wire.Steered{Device: device.Index, Key: device.ID, Control: st.control, Phase: phase, Words: words})
	}
	return out
}

func (c *Core) slotOf(deviceID string) *slotState {
	at := slices.IndexFunc(c.slots, func(st *slotState) bool { return st.Device.ID == deviceID })
	if at < 0 {
		return nil
	}
	return c.slots[at]
}

// phase is what the slot does about what people decided, and why in words.
func (st *slotState) phase(now time.Time) (wire.Phase, string) {
	why := st.steeredAway()
	if st.unloadFault != "" && why != "" {
		why += "; its memory could not be freed: " + st.unloadFault
	}
	free := st.current == nil && !st.used && !st.unloading
	switch mode := st.control.Mode; {
	case mode == pool.Paused:
		return wire.PhasePaused, why
	case mode == pool.Draining && free:
		return wire.PhaseDrained, "is drained: nothing of ours runs or is loaded there"
	case mode == pool.Draining:
		return wire.PhaseDraining, why
	case mode == pool.Reserved:
		return wire.PhaseReserved, why
	case st.yielding:
		return wire.PhaseYielding, why
	case st.hot:
		return wire.PhaseLimited, "is too hot"
	case st.limited(now) != "" && !st.unloading:
		return wire.PhaseLimited, st.limited(now)
	}
	return wire.PhaseActive, ""
}

// sketcher is the name of the backend that needs no model: the default only where there is no other.
const sketcher = "builtin"

// defaultModel stays what it was as long as a generator has it, although it is away; else it is the first model of the first GPU that has
// a real generator, else the first of any slot that can be given work, else of any at all, for which images wait; "" when there is none.
// What a generator could not load is taken only where there is nothing else.
func (c *Core) defaultModel() string {
	if !c.keepsDefault() {
		c.byDefault = cmp.Or(c.firstModel(func(m backend.Model) bool { return !m.Refused }), c.firstModel(func(backend.Model) bool { return true }))
	}
	return c.byDefault
}

// keepsDefault says whether the model that was the default last is still one, and none of the sketch renderer's, which gives way to any.
func (c *Core) keepsDefault() bool {
	same := func(m backend.Model) bool { return m.Name == c.byDefault && !m.Refused }
	for _, st := range c.slots {
		if !st.Fallback && st.Backend.Name() != sketcher && slices.ContainsFunc(st.Models, same) {
			return true
		}
	}
	return slices.ContainsFunc(c.awaited, func(a Awaited) bool { return slices.ContainsFunc(a.Models, same) })
}

func (c *Core) firstModel(taken func(backend.Model) bool) string {
	fallback, away := "", ""
	for _, st := range c.slots {
		at := slices.IndexFunc(st.Models, taken)
		switch {
		case at < 0 || st.Fallback:
		case st.Problem != "":
			away = cmp.Or(away, st.Models[at].Name)
		case st.Device.Index != gpu.CPU && st.Backend.Name() != sketcher:
			return st.Models[at].Name
		case fallback == "":
			fallback = st.Models[at].Name
		}
	}
	for _, a := range c.awaited {
		if at := slices.IndexFunc(a.Models, taken); at >= 0 {
			away = cmp.Or(away, a.Models[at].Name)
		}
	}
	return cmp.Or(fallback, away)
}

// next is the time until something may change by itself.
func (c *Core) next(waiting bool, now time.Time) time.Duration {
	next := idleEvery
	if waiting || len(c.attempts) > 0 {
		next = replanEvery
	}
	at := func(t time.Time) {
		if t.After(now) {
			next = min(next, t.Sub(now))
		}
	}
	at(c.diskUntil)
	for _, st := range c.byKey {
		at(st.restUntil)
		at(st.unloadAgain)
		if st.control.Until != nil {
			at(*st.control.Until)
		}
		at(st.hours.Next(now.Local()))
		if !st.badSince.IsZero() {
			at(st.badSince.Add(deadAfter))
		}
		if a := st.current; a != nil && !a.cancelled.IsZero() {
			at(a.cancelled.Add(finishingAfter))
		}
	}
	return next
}

// Timing of plans.
const (
	replanEvery = time.Second      // while images wait or run: predictions age
	idleEvery   = 30 * time.Second // when nothing does
)

// unplanned stands for the end of an image that this plan did not look at.
var unplanned = math.Inf(-1)
