package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"muster/agent/backend"
	"muster/shared/job"
)

// Causes for which an attempt ends before its image is done.
var (
	errShutdown  = errors.New("the agent stops")
	errCancelled = errors.New("the job was cancelled")
)

// deviceError is the cause when a device or generator was given up during an attempt: a failure of the slot.
type deviceError struct{ why string }

func (e *deviceError) Error() string { return e.why }

// Unwrap tells the backend that what it holds on the device is to be freed at once.
func (e *deviceError) Unwrap() error { return backend.ErrUnavailable }

// movedError is the cause when the device is wanted for something else: nobody's failure, the image is made again elsewhere.
type movedError struct{ why string }

func (e *movedError) Error() string { return e.why }

// Patience of the scheduler.
const (
	missingAfter   = 2 * time.Minute  // a model that no slot has had for so long fails its jobs; drivers of many cards start slowly
	hangAfter      = 10 * time.Minute // without progress, or
	hangFactor     = 20               // so many times the expected seconds, whichever is more: the backend hangs
	firstDiskPause = 30 * time.Second // of starting, when results can't be stored; doubles
	longDiskPause  = 5 * time.Minute
)

// reconcile ends attempts whose job has gone on without them, and forgets what belongs to jobs that are gone.
func (c *Core) reconcile(active []job.Job, now time.Time, orders *Orders) {
	alive := make(map[string]int, len(c.attempts)+len(c.avoid)) // by job: running attempt, 0 when queued
	remembered := len(c.avoid)+len(c.bound) > 0
	for i := range active {
		switch j := &active[i]; {
		case j.State == job.Running:
			alive[j.ID] = j.Attempt
		case remembered && (c.avoid[j.ID] != nil || c.bound[j.ID] != ""):
			alive[j.ID] = 0
		}
	}
	for id, a := range c.attempts {
		if a.number > 0 && alive[id] != a.number {
			c.end(a, errCancelled, now, orders)
		}
	}
	gone := func(id string) bool { _, ok := alive[id]; return !ok }
	maps.DeleteFunc(c.avoid, func(id string, _ map[string]bool) bool { return gone(id) })
	maps.DeleteFunc(c.bound, func(id string, _ string) bool { return gone(id) })
}

// adopt gives jobs back that run by nobody: their start was committed after the attempt had stopped waiting for it.
func (c *Core) adopt(active []job.Job, orders *Orders) {
	for i := range active {
		j := &active[i]
		if j.State == job.Running && c.attempts[j.ID] == nil && !c.returns[j.ID] {
			c.returns[j.ID] = true
			orders.Return = append(orders.Return, *j)
		}
	}
}

func (c *Core) end(a *Attempt, cause error, now time.Time, orders *Orders) {
	if a.cancelled.IsZero() {
		a.cancelled = now
		orders.Ends = append(orders.Ends, End{a, cause})
	}
}

// watch gives up attempts whose device died or whose backend hangs.
func (c *Core) watch(now time.Time, orders *Orders) {
	for _, st := range c.byKey {
		a := st.current
		if a == nil || a.settled || !a.cancelled.IsZero() {
			continue
		}
		limit := max(hangAfter, time.Duration(hangFactor*a.total*float64(time.Second)))
		switch {
		case !st.badSince.IsZero() && now.Sub(st.badSince) >= deadAfter:
			why := "vanished during the image"
			if st.present {
				why = stateWords(st.state) + " during the image"
			}
			c.end(a, &deviceError{why}, now, orders)
		case now.Sub(a.moved()) >= limit:
			c.end(a, &deviceError{fmt.Sprintf("%s made no progress for %s", a.Where.Backend, limit.Round(time.Second))}, now, orders)
		}
	}
}

// Started tells that the queue has an attempt as running.
func (c *Core) Started(a *Attempt, number int) { a.number = number }

// Freed tells that the backend's call has returned: the slot can be used again.
func (c *Core) Freed(a *Attempt, now time.Time) {
	if st := c.byKey[a.slot]; st != nil && st.current == a {
		st.current = nil
		st.idleSince = now
	}
}

// Refused tells that a refusal was recorded, or could not be.
func (c *Core) Refused(id string) { delete(c.failing, id) }

// Returned tells that a job was given back, or could not be.
func (c *Core) Returned(id string) { delete(c.returns, id) }

// Unloaded tells how freeing a slot's memory ended.
func (c *Core) Unloaded(u Unload, err error, now time.Time) {
	st := c.byKey[u.key]
	if st == nil {
		return
	}
	st.unloading = false
	if err != nil {
		st.unloadFault, st.unloadAgain = err.Error(), now.Add(unloadRetry)
		return
	}
	st.unloadFault = ""
	st.loaded, st.holds, st.used = "", 0, false
}

// DiskTrouble tells that a finished image can't be stored or recorded, and is tried again: nothing new starts meanwhile. "" tells
// that it could be.
func (c *Core) DiskTrouble(fault string, now time.Time) {
	if fault == "" {
		c.diskPause, c.diskUntil = 0, time.Time{}
		return
	}
	if now.Before(c.diskUntil) {
		return // the fault that is known already
	}
	c.diskPause = min(max(firstDiskPause, 2*c.diskPause), longDiskPause)
	c.diskFault, c.diskUntil = fault, now.Add(c.diskPause)
}

// Settled tells how an attempt ended, as the queue has it; the conclusions are drawn from that.
func (c *Core) Settled(a *Attempt, o Outcome, now time.Time) {
	a.settled = true
	if c.attempts[a.Job.ID] == a {
		delete(c.attempts, a.Job.ID)
	}
	if o.DiskFault != "" {
		c.DiskTrouble(o.DiskFault, now)
	}
	st := c.byKey[a.slot]
	if o.Succeeded {
		c.succeeded(a, o.Took, now)
	}
	switch {
	case st == nil:
	case o.Succeeded:
		st.failures, st.fault = 0, ""
		c.forgetLoad(a.Job.Model, st.Device.ID)
	case o.Fault != "":
		st.failed(o.Fault, now)
		st.loaded, st.holds = "", 0
		if c.avoid[a.Job.ID] == nil {
			c.avoid[a.Job.ID] = map[string]bool{}
		}
		c.avoid[a.Job.ID][a.slot] = true
	case a.cold && !a.stepped():
		st.loaded, st.holds = "", 0 // it ended before the model was surely there
	}
}

// succeeded learns from a finished image: what it cost, how well that was predicted, and who had it.
func (c *Core) succeeded(a *Attempt, took time.Duration, now time.Time) {
	c.DiskTrouble("", now)
	if o, measured := a.observe(took); measured {
		if c.estimates.learn(pace{a.slot, a.Job.Model, a.Job.Width * a.Job.Height}, a.Target.Speed, o) {
			c.guessedUntil = now
		}
	}
	if a.promised > 0 && a.decided.After(c.guessedUntil) {
		c.accuracy.started.add(took.Seconds() / a.promised)
	}
	if t, ok := c.told[a.Job.ID]; ok && t.ahead > 0 && t.since.After(c.guessedUntil) {
		c.accuracy.queued.add(now.Sub(t.since).Seconds() / t.ahead)
	}
	if c.lastSet != a.Job.SetID {
		c.lastSet = a.Job.SetID
		c.sets++
	}
	c.usage.add(a.Job.ClientID, a.cost, now)
}
