package scheduler

import (
	"fmt"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
)

// What a slot is judged by.
const (
	hotCelsius       = 95.0 // edge or junction: no new work from here on, unless a person set another limit
	hotSlack         = 5.0  // until it is so much cooler again
	staleAfter       = 10 * time.Second
	deadAfter        = 10 * time.Second // stuck, lost or vanished for so long: what runs there is given up
	steadyShare      = 0.8              // steps that are slower than this share of their usual speed are slowed down by something
	leastFelt        = 0.1              // of the speed that is left when steps crawl
	finishingAfter   = 30 * time.Second // a cancelled attempt that has not returned is told as a problem
	settleAfter      = 3 * time.Second  // utilization is our own work's until so long after it
	leastBusy        = 10               // percent; below it is a desktop, not another program's work
	leastShare       = 0.5              // a program that fills a device still leaves about half of it
	firstRest        = time.Second      // after a failure; doubles
	longestRest      = time.Minute
	restAfterFailure = 2 // failures in a row from which on the rest is told as a problem
)

// slotState is what the Core knows about a slot beyond what it is told.
type slotState struct {
	Slot
	key     string
	present bool // in the newest list of slots
	steered
	reading *gpu.Reading // nil when unknown or stale
	state   gpu.State    // the last known; "" when never known

	current   *Attempt  // occupies it until the backend's call has returned
	idleSince time.Time // zero before the first attempt
	loaded    string    // model that is resident; "" for none
	holds     uint64    // bytes promised to it, or to the one that is being loaded

	failures  int // in a row
	restUntil time.Time
	fault     string
	badSince  time.Time // stuck, lost or vanished; zero when it is not
	hot       bool
	share     float64 // of its speed that other programs leave
}

// measured takes the newest reading; nil when there is none that can be trusted. state is kept while nothing is known.
func (st *slotState) measured(r *gpu.Reading, now time.Time) {
	st.reading = r
	if r != nil {
		st.state = r.State
		st.feel(*r)
		st.draws(*r, now)
		st.crowd(*r, now)
	}
	vanished := !st.present && st.Device.Index != gpu.CPU // the processor is only not needed any more
	switch bad := vanished || st.state == gpu.StateStuck || st.state == gpu.StateLost; {
	case !bad:
		st.badSince = time.Time{}
	case st.badSince.IsZero():
		st.badSince = now
	}
}

// feel judges the temperature, with some slack so that the answer does not flicker.
func (st *slotState) feel(r gpu.Reading) {
	hottest, known := 0.0, false
	for _, t := range r.Temperatures {
		if t.Sensor == gpu.SensorEdge || t.Sensor == gpu.SensorJunction {
			hottest, known = max(hottest, t.Celsius), true
		}
	}
	switch {
	case !known || hottest < st.hotAt()-hotSlack:
		st.hot = false
	case hottest >= st.hotAt():
		st.hot = true
	}
}

// crowd learns how much of the device other programs use, from what it does while we do nothing on it. A load that the device's
// own other values contradict (stuck at 100 %, as some firmware reports) teaches nothing.
func (st *slotState) crowd(r gpu.Reading, now time.Time) {
	if st.justWorked(now) || r.UtilizationPercent == nil || r.IsSuspect("utilization_percent") {
		return
	}
	left := 1.0
	if *r.UtilizationPercent >= leastBusy {
		left = max(leastShare, 1-*r.UtilizationPercent/100)
	}
	st.share += learningRate * (left - st.share)
}

// feelSteps learns the same from how fast our own steps are, compared with what they took when the device was ours alone.
func (c *Core) feelSteps(st *slotState) {
	a := st.current
	if a == nil {
		return
	}
	usual, known := c.estimates.steps[pace{a.slot, a.Job.Model, a.Job.Width * a.Job.Height}]
	if !known {
		return
	}
	now, fresh := a.pace()
	if !fresh || now <= 0 {
		return
	}
	left := min(1, usual/now)
	if left > steadyShare {
		left = 1 // images differ so much by themselves
	}
	st.share += learningRate * (max(left, leastFelt) - st.share)
}

// blocked says why the slot takes no work, as "Device 0 " would continue; "" when it does. gone means: not soon.
func (st *slotState) blocked(now time.Time) (why string, gone bool) {
	switch {
	case st.Problem != "":
		return "can't generate: " + st.Problem, true
	case st.steeredAway() != "":
		return st.steeredAway(), true
	case st.state != "" && !st.state.Usable():
		return stateWords(st.state), true
	case st.hot:
		return fmt.Sprintf("is too hot (%.0f °C or more)", st.hotAt()), false
	case st.limited(now) != "":
		return st.limited(now), false
	case st.finishing(now):
		return "is still finishing a cancelled image", false
	case now.Before(st.restUntil):
		return st.resting(), false
	}
	return "", false
}

// problem is blocked for the list of slots, which shows by itself what people decided.
func (st *slotState) problem(now time.Time) string {
	if st.Problem != "" {
		return st.Problem
	}
	if st.steeredAway() != "" {
		return ""
	}
	why, _ := st.blocked(now)
	return why
}

func (st *slotState) resting() string {
	if st.failures < restAfterFailure {
		return "rests a moment after a failure: " + st.fault
	}
	return fmt.Sprintf("rests up to %s after %d failures in a row: %s", about(restOf(st.failures).Seconds()), st.failures, st.fault)
}

func stateWords(s gpu.State) string {
	switch s {
	case gpu.StateStuck:
		return "does not answer its driver"
	case gpu.StateLost:
		return "was lost"
	case gpu.StateDriverMismatch:
		return "has a driver and library that differ: reboot"
	case gpu.StateNoDriver:
		return "has no driver"
	case gpu.StateNoPermission:
		return "can't be read by this user"
	}
	return "can't be used (" + string(s) + ")"
}

// finishing says whether an attempt that was given up still holds the slot after a generous time.
func (st *slotState) finishing(now time.Time) bool {
	a := st.current
	return a != nil && !a.cancelled.IsZero() && now.Sub(a.cancelled) >= finishingAfter
}

// failed makes the slot rest: 1 s after the first failure, twice as long after each further one, at most a minute.
func (st *slotState) failed(fault string, now time.Time) {
	st.failures++
	st.fault = fault
	st.restUntil = now.Add(restOf(st.failures))
}

func restOf(failures int) time.Duration {
	rest := firstRest
	for range failures - 1 {
		rest = min(2*rest, longestRest)
	}
	return rest
}

// model gives the model of that name, if the slot has it.
func (st *slotState) model(name string) (backend.Model, bool) {
	for _, m := range st.Models {
		if m.Name == name {
			return m, true
		}
	}
	return backend.Model{}, false
}

// available is the seconds until the slot is free.
func (st *slotState) available(now time.Time) float64 {
	switch a := st.current; {
	case a == nil:
		return 0
	case !a.cancelled.IsZero():
		return 1
	default:
		return a.remaining(now)
	}
}

// memory is the share of the device's memory in use by all programs. What can't be read counts as full, and so does the CPU,
// which comes last.
func (st *slotState) memory() float64 {
	if st.reading == nil {
		return 1
	}
	return st.reading.Load()
}

// room is the bytes for a model: the reported free ones and those of the model that would be unloaded, and never more than the
// device has, less what is promised to others on it. nil when nothing is known.
func (st *slotState) room(promised uint64) *uint64 {
	if st.Device.Index == gpu.CPU {
		return nil
	}
	total := st.Device.MemoryBytes
	if st.reading != nil && st.reading.MemoryTotalBytes != nil {
		total = st.reading.MemoryTotalBytes
	}
	if total == nil {
		return nil
	}
	room := *total - min(*total, promised)
	if st.reading != nil {
		if free := st.reading.MemoryFreeBytes(); free != nil {
			room = min(room, *free+st.holds)
		}
	}
	return &room
}
