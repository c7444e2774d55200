package scheduler

import (
	"context"
	"fmt"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/pool"
)

// What giving way is judged by.
const (
	yieldAfter    = 2 * time.Second  // another program's work must last so long
	yieldQuiet    = 30 * time.Second // it must be over for so long before the device comes back
	yieldPatience = 10               // seconds: an image that is done sooner is finished first
	crowdedShare  = 0.75             // our own steps are slower than this share of their usual speed: somebody else works there
	foreignBytes  = 256 << 20        // what another program must have taken meanwhile, for slow steps to be its work, or
	foreignHeld   = 1 << 30          // what it must hold when the device tells no other cause: a desktop holds less
	unloadRetry   = 30 * time.Second // after memory could not be freed
	unloadLimit   = 30 * time.Second // for the backend to free it
	drawSettle    = 5 * time.Second  // an image must run so long before the draw is that of work
)

// steered is what people decided about a slot's device, and what follows from it.
type steered struct {
	control   pool.Control // as it holds now
	hours     pool.Hours
	hoursText string
	closed    bool // outside its hours

	busySince  time.Time // another program has worked there since then; zero when none does
	quietSince time.Time // of a device that gives way: nobody else has worked there since then
	yielding   bool
	neighbour  string // the program that it gives way to, for people; "" when not known
	foreign    uint64 // bytes that other programs hold, as far as they are known
	foreignAt  uint64 // the same when the present image began

	used        bool // something was started there since its memory was freed last
	unloading   bool
	loading     *wish // what is being loaded; nil for nothing
	unloadFault string
	unloadAgain time.Time

	drawn    float64 // watts that the newest reading tells; 0 when not known
	drawWork float64 // watts while it works, learned; 0 when not known
	drawIdle float64 // watts while it does not
}

// steer takes what people decided about the device.
func (st *slotState) steer(c pool.Control, now time.Time) {
	st.control = c.At(now)
	if c.Hours != st.hoursText {
		st.hours, _ = pool.ParseHours(c.Hours) // checked when it was decided; nil is always
		st.hoursText = c.Hours
	}
	st.closed = !st.hours.Open(now.Local())
}

func (st *slotState) hotAt() float64 {
	if st.control.MaxCelsius != nil {
		return *st.control.MaxCelsius
	}
	return hotCelsius
}

// draws learns what the device draws with our work and without.
func (st *slotState) draws(r gpu.Reading, now time.Time) {
	st.drawn = 0
	if r.PowerWatts == nil {
		return
	}
	st.drawn = *r.PowerWatts
	switch a := st.current; {
	case a == nil && now.Sub(st.idleSince) >= drawSettle:
		st.drawIdle = st.drawn
	case a != nil && a.stepped() && now.Sub(a.started()) >= drawSettle:
		if st.drawWork == 0 {
			st.drawWork = st.drawn
		}
		st.drawWork += learningRate * (st.drawn - st.drawWork)
	}
}

// extra is the watts that an image adds to what the device draws now: learned, else up to its power limit; 0 when neither is known.
func (st *slotState) extra() float64 {
	work := st.drawWork
	if work == 0 && st.reading != nil && st.reading.PowerLimitWatts != nil {
		work = *st.reading.PowerLimitWatts
	}
	return max(0, work-st.drawn)
}

// neighbours judges whether another program works on the device: by its load while we do nothing there, and while we do by steps
// that are slower than they were, together with memory that somebody else has taken since, or holds: a language model that waits for
// its next question keeps its memory, and images may follow each other without a pause in which its load could be seen.
func (st *slotState) neighbours(processes []gpu.Process, now time.Time) {
	st.foreign, st.neighbour = 0, ""
	var most uint64
	for _, p := range processes {
		if p.MemoryBytes == nil || st.Owns == nil || st.Owns(p.PID) {
			continue
		}
		st.foreign += *p.MemoryBytes
		if *p.MemoryBytes > most {
			most, st.neighbour = *p.MemoryBytes, p.Name
		}
	}
	switch {
	case !st.worked(now):
		st.busySince = time.Time{}
		if st.quietSince.IsZero() {
			st.quietSince = now
		}
	default:
		st.quietSince = time.Time{}
		if st.busySince.IsZero() {
			st.busySince = now
		}
	}
	switch {
	case !st.control.Yield:
		st.yielding = false
	case !st.busySince.IsZero() && now.Sub(st.busySince) >= yieldAfter:
		st.yielding = true
	case !st.quietSince.IsZero() && now.Sub(st.quietSince) >= yieldQuiet:
		st.yielding = false
	}
}

// worked says whether another program works on the device, by the newest reading.
func (st *slotState) worked(now time.Time) bool {
	if st.current != nil {
		return st.share < crowdedShare && (st.foreign >= st.foreignAt+foreignBytes || st.foreign >= foreignHeld && !st.overheats())
	}
	r := st.reading
	if r == nil || r.UtilizationPercent == nil || r.IsSuspect("utilization_percent") || st.justWorked(now) {
		return !st.busySince.IsZero() // nothing new is known
	}
	return *r.UtilizationPercent >= leastBusy
}

// overheats says whether the device tells that it runs slower for its own sake.
func (st *slotState) overheats() bool {
	return st.reading != nil && st.reading.Throttle != nil && *st.reading.Throttle&(gpu.ThrottleThermal|gpu.ThrottleHardware) != 0
}

// justWorked says whether the load that is reported may still be our own.
func (st *slotState) justWorked(now time.Time) bool {
	return st.current != nil || !st.idleSince.IsZero() && now.Sub(st.idleSince) < settleAfter
}

// steeredAway says which decision of a person keeps work away for long, as "Device 0 " would continue; "" when none does.
func (st *slotState) steeredAway() string {
	until := ""
	if st.control.Until != nil {
		until = " until " + st.control.Until.Local().Format("15:04")
	}
	switch {
	case st.control.Mode == pool.Paused:
		return "is paused" + until
	case st.control.Mode == pool.Draining:
		return "is being drained" + until
	case st.control.Mode == pool.Reserved:
		return "is reserved for other programs" + until
	case st.yielding && st.neighbour != "":
		return "gives way to " + st.neighbour
	case st.yielding:
		return "gives way to another program"
	}
	return ""
}

// limited says which limit keeps work away now; "" when none does. Temperature is judged apart.
func (st *slotState) limited(time.Time) string {
	switch limit := st.control.MaxWatts; {
	case st.closed:
		return "takes work only at " + st.hoursText
	case limit != nil && st.drawn >= *limit:
		return fmt.Sprintf("draws %.0f W, its limit is %.0f W", st.drawn, *limit)
	case st.unloading:
		return "is freeing its memory"
	case st.loading != nil:
		return "loads " + st.loading.model
	}
	return ""
}

// giveWay stops what runs where a person or another program wants the device now, and frees its memory when nothing runs any more.
func (c *Core) giveWay(now time.Time, orders *Orders) {
	for _, st := range c.byKey {
		reserved, drained := st.control.Mode == pool.Reserved, st.control.Mode == pool.Draining
		dead := !st.badSince.IsZero() && now.Sub(st.badSince) >= deadAfter // what waits there would hang on it
		if a := st.current; a != nil && !a.settled && (reserved || st.yielding && a.remaining(now) > yieldPatience) {
			c.end(a, &movedError{st.Device.Index.Label() + " " + st.steeredAway()}, now, orders)
		}
		if !(reserved || drained || st.yielding || dead) || st.current != nil || !st.used || st.unloading || st.loading != nil || now.Before(st.unloadAgain) {
			continue
		}
		if _, can := st.Backend.(backend.Unloader); !can {
			st.loaded, st.holds, st.used = "", 0, false // it keeps nothing, or what it keeps is not ours to free
			continue
		}
		st.unloading = true
		orders.Unloads = append(orders.Unloads, Unload{st.Slot, st.key})
	}
}

// do frees the slot's memory, within its time.
func (u Unload) do(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, unloadLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- u.Slot.Backend.(backend.Unloader).Unload(ctx, u.Slot.Device) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s did not free the memory of %s within %s", u.Slot.Backend.Name(), u.Slot.Device.Index.Label(), unloadLimit)
	}
}
