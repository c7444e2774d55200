package scheduler

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// Core is what the scheduler knows and how it decides. It has no goroutine, no clock and no disk: whoever drives it shows it the
// world with Plan, carries out the Orders, and tells it what happened. Scheduler does so with the real machine, package sim with a
// simulated one. It is not safe for concurrent use, but for the methods of Attempt.
type Core struct {
	policy    Policy
	estimates *estimates
	accuracy  *accuracy

	inventory *gpu.Inventory
	report    *gpu.Report
	steering  *pool.Steering
	programs  []wire.Generator // what is behind the slots, or will be
	awaited   []Awaited        // those that have no slot yet
	byDefault string           // the default model; "" for none
	seq       uint64           // of the newest snapshot
	seqAt     time.Time        // when it came
	slots     []*slotState
	byKey     map[string]*slotState

	attempts    map[string]*Attempt        // by job, until the queue knows their end
	avoid       map[string]map[string]bool // by job: slots on which it failed
	bound       map[string]string          // by job: slot that round robin dealt it to
	failing     map[string]bool            // jobs that are being failed
	returns     map[string]bool            // jobs without an attempt that are being given back
	missing     map[want]time.Time         // since when no slot has it
	wishes      []*wish                    // models that people want loaded
	failedLoads []failedLoad               // oldest first
	told        map[string]*telling        // by job: what was explained
	toldBefore  map[string]*telling        // the one before that
	names       uint64                     // of the stations that told names
	usage       usage                      // of the machine by clients
	lastSet     string                     // of which an image was finished
	sets        int                        // of which images were finished, one after the other

	// guessedUntil is when a device's speed, or its time of loading, was measured for the first time: how far predictions from before
	// were off tells nothing of those since.
	guessedUntil time.Time

	fullAt time.Time // when every queued image was planned last
	count  int       // of queued images then

	diskFault string
	diskUntil time.Time
	diskPause time.Duration
}

// NewCore gives a Core that knows nothing yet; "" is Predicted.
func NewCore(policy Policy) *Core {
	if policy == "" {
		policy = Predicted
	}
	return &Core{
		policy: policy, estimates: newEstimates(), accuracy: newAccuracy(), byKey: map[string]*slotState{}, attempts: map[string]*Attempt{},
		avoid: map[string]map[string]bool{}, bound: map[string]string{}, failing: map[string]bool{}, returns: map[string]bool{},
		missing: map[want]time.Time{}, told: map[string]*telling{}, toldBefore: map[string]*telling{}, usage: usage{},
	}
}

// View is the world as it is when a plan is made. Nothing of it is changed or kept beyond the next one, but for what Slots lead to.
type View struct {
	Now       time.Time
	Inventory *gpu.Inventory // nil until the devices are known
	Snapshot  *gpu.Snapshot  // nil until something was measured
	Report    *gpu.Report    // the programs on the devices; nil when not known
	Slots     []Slot
	Jobs      []job.Job // queued and running, oldest first
	Steering  *pool.Steering
	// Generators are the programs behind the slots, and those that can't take work yet.
	Generators []wire.Generator
	Awaited    []Awaited
}

// Orders are what to do now.
type Orders struct {
	Starts  []*Attempt // give each to its slot
	Ends    []End      // stop each
	Refuse  []Refusal  // fail these jobs, then call Refused
	Return  []job.Job  // running by nobody: give them back to the queue, then call Returned
	Unloads []Unload   // free these slots' memory, then call Unloaded
	Loads   []Load     // load these models, then call Loaded
	// Outlooks are by job what has changed about why it waits and when it is expected.
	Outlooks map[string]job.Outlook
	Capacity wire.Capacity // what can generate now
	// Next is the time after which to plan again when nothing happens before.
	Next time.Duration
}

// End is an attempt to stop. Its Cause tells what becomes of the job.
type End struct {
	Attempt *Attempt
	Cause   error
}

// Outcome is how the attempt ended once it was stopped before its image was done.
func (e End) Outcome() Outcome {
	var device *deviceError
	if errors.As(e.Cause, &device) {
		return Outcome{Fault: device.why}
	}
	return Outcome{}
}

// Refusal is a job that nothing here can make.
type Refusal struct {
	Job job.Job
	Why string // in words for people
}

// Unload is a slot whose model is not wanted in memory any more.
type Unload struct {
	Slot Slot
	key  string
}

// Outcome is how an attempt ended. The zero Outcome is an attempt that ended without anybody's fault.
type Outcome struct {
	Succeeded bool
	Took      time.Duration // of a success: from Begin to the finished image
	Fault     string        // what the slot did wrong, so that the job goes elsewhere; "" when nothing
	Memory    bool          // the fault was lack of memory: the generator is still alive
	DiskFault string        // why no result can be stored; "" when it can
}

// Plan looks at everything and decides.
func (c *Core) Plan(v View) Orders {
	var orders Orders
	c.look(v)
	c.reconcile(v.Jobs, v.Now, &orders)
	c.adopt(v.Jobs, &orders)
	c.watch(v.Now, &orders)
	c.giveWay(v.Now, &orders)
	c.preload(v.Now, &orders)
	in := c.input(v.Jobs, v.Now, &orders)
	plan := Place(in.Input)
	for _, d := range plan.Deals {
		c.bound[in.Pending[d.Job].ID] = c.slots[d.Station].key
	}
	for _, st := range plan.Starts {
		orders.Starts = append(orders.Starts, c.launch(*in.jobs[st.Job], c.slots[st.Station], st.Reason, v.Now))
	}
	orders.Outlooks = c.explain(in, plan, v)
	orders.Capacity = c.capacity(v.Now)
	orders.Next = c.next(len(plan.Waits) > 0, v.Now)
	return orders
}

// look takes the newest inventory, slots, readings and decisions.
func (c *Core) look(v View) {
	c.inventory, c.report, c.steering, c.programs, c.awaited = v.Inventory, v.Report, v.Steering, v.Generators, v.Awaited
	if c.steering == nil {
		c.steering = &pool.Steering{}
	}
	snapshot := v.Snapshot
	if snapshot != nil && (snapshot.Seq != c.seq || c.seqAt.IsZero()) {
		c.seq, c.seqAt = snapshot.Seq, v.Now
	}
	if snapshot != nil && (v.Now.Sub(c.seqAt) > staleAfter || c.inventory == nil || snapshot.Revision != c.inventory.Revision) {
		snapshot = nil // frozen, or of other devices: go by what was promised
	}
	for _, st := range c.byKey {
		st.present = false
	}
	c.slots = c.slots[:0]
	if c.inventory != nil {
		for _, slot := range v.Slots {
			c.seat(slot)
		}
	}
	maps.DeleteFunc(c.byKey, func(_ string, st *slotState) bool {
		return !st.present && st.current == nil && !st.used && !st.unloading && st.loading == nil && st.failures == 0
	})
	for _, st := range c.byKey {
		if (!st.present || st.Problem != "") && st.current == nil && st.loading == nil {
			st.loaded, st.holds = "", 0 // its generator is gone, and the model with it
		}
		if st.loaded != "" && st.current == nil && st.loading == nil && c.emptied(st) {
			st.loaded, st.holds, st.used = "", 0, false // ended when what it made was given up
		}
		st.steer(c.steering.Devices[st.Device.ID], v.Now)
		var reading *gpu.Reading
		if st.present {
			reading = readingOf(snapshot, st.Device)
		}
		st.measured(reading, v.Now)
		if !st.badSince.IsZero() && st.current == nil {
			st.loaded, st.holds = "", 0 // what it held is lost with it
		}
		c.feelSteps(st)
		st.neighbours(c.processesOn(st.Device.Index), v.Now)
	}
}

// emptied says whether the slot's own generator, which the agent starts for it, tells that it does not run.
func (c *Core) emptied(st *slotState) bool {
	return slices.ContainsFunc(c.programs, func(g wire.Generator) bool {
		return !g.Attached && g.Kind == st.Backend.Name() && g.Kind != sketcher && g.Device != nil && *g.Device == st.Device.Index &&
			g.State == wire.GeneratorIdle
	})
}

// seat puts a slot into the list, with what is known of it.
func (c *Core) seat(slot Slot) {
	key := slot.Device.ID + "/" + cmp.Or(slot.Generator, slot.Backend.Name())
	st, known := c.byKey[key]
	if !known {
		st = &slotState{key: key, share: 1}
		c.byKey[key] = st
	}
	if st.present {
		return // the same device and backend twice: one image at a time
	}
	st.Slot, st.present = slot, true
	c.slots = append(c.slots, st)
}

// readingOf gives the device's reading; nil when there is none, or only an old one of a device that should answer.
func readingOf(s *gpu.Snapshot, device gpu.Device) *gpu.Reading {
	if s == nil || device.Index < 0 || int(device.Index) >= len(s.GPUs) {
		return nil
	}
	r := &s.GPUs[device.Index]
	if r.State.Usable() && r.AgeMilliseconds > staleAfter.Milliseconds() {
		return nil
	}
	return r
}

// processesOn gives the programs on a device; nil when they are not known.
func (c *Core) processesOn(ref gpu.Ref) []gpu.Process {
	if c.report == nil || c.inventory == nil || c.report.Revision != c.inventory.Revision || ref < 0 || int(ref) >= len(c.report.Devices) {
		return nil
	}
	return c.report.Devices[ref].Processes
}
