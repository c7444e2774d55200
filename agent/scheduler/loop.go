package scheduler

import (
	"context"
	"fmt"
	"maps"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

// Patience of the loop.
const (
	missingAfter   = 2 * time.Minute  // a model that no slot has had for so long fails its jobs; drivers of many cards start slowly
	hangAfter      = 10 * time.Minute // without progress, or
	hangFactor     = 20               // so many times the expected seconds, whichever is more: the backend hangs
	firstDiskPause = 30 * time.Second // of starting, when results can't be stored; doubles
	longDiskPause  = 5 * time.Minute
)

// loop is what Run's goroutine owns.
type loop struct {
	s         *Scheduler
	estimates *estimates

	inventory *gpu.Inventory
	seq       uint64    // of the newest snapshot
	seqAt     time.Time // when it came
	slots     []*slotState
	byKey     map[string]*slotState

	attempts map[string]*attempt        // by job, until the queue knows their end
	avoid    map[string]map[string]bool // by job: slots on which it failed
	bound    map[string]string          // by job: slot that round robin dealt it to
	failing  map[string]bool            // jobs that are being failed
	returns  map[string]bool            // jobs without an attempt that are being given back
	missing  map[string]time.Time       // by model: since when no slot has it
	told     map[string]telling         // by job: what was explained

	diskFault string
	diskUntil time.Time
	diskPause time.Duration
}

func newLoop(s *Scheduler) *loop {
	return &loop{
		s: s, estimates: newEstimates(), byKey: map[string]*slotState{}, attempts: map[string]*attempt{},
		avoid: map[string]map[string]bool{}, bound: map[string]string{}, failing: map[string]bool{},
		returns: map[string]bool{}, missing: map[string]time.Time{}, told: map[string]telling{},
	}
}

// busy counts the attempts that have not ended: their goroutines, or those of jobs that are being failed or given back.
func (l *loop) busy() int {
	n := len(l.failing) + len(l.returns)
	for _, st := range l.byKey {
		if st.current != nil {
			n++
		}
	}
	return n
}

// step looks at everything, plans, and starts what the plan starts. It gives the time after which to do so again.
func (l *loop) step(ctx context.Context) time.Duration {
	now := time.Now()
	l.look(now)
	active := l.s.config.Queue.Active()
	l.reconcile(active, now)
	l.adopt(ctx, active)
	l.watch(now)
	in := l.input(ctx, active, now)
	plan := Place(in.Input)
	for _, d := range plan.Deals {
		l.bound[in.Pending[d.Job].ID] = l.slots[d.Station].key
	}
	for _, st := range plan.Starts {
		l.launch(ctx, *in.jobs[st.Job], l.slots[st.Station], st.Reason, now)
	}
	l.explain(in, plan)
	l.publish(now)
	return l.next(len(plan.Waits) > 0, now)
}

// look takes the newest inventory, slots and readings.
func (l *loop) look(now time.Time) {
	l.inventory = l.s.config.Inventory()
	snapshot := l.s.config.Snapshot()
	if snapshot != nil && (snapshot.Seq != l.seq || l.seqAt.IsZero()) {
		l.seq, l.seqAt = snapshot.Seq, now
	}
	if snapshot != nil && (now.Sub(l.seqAt) > staleAfter || l.inventory == nil || snapshot.Revision != l.inventory.Revision) {
		snapshot = nil // frozen, or of other devices: go by what was promised
	}
	for _, st := range l.byKey {
		st.present = false
	}
	l.slots = l.slots[:0]
	if l.inventory != nil {
		for _, slot := range l.s.config.Slots(*l.inventory) {
			l.seat(slot)
		}
	}
	maps.DeleteFunc(l.byKey, func(_ string, st *slotState) bool {
		return !st.present && st.current == nil && st.failures == 0
	})
	for _, st := range l.byKey {
		if (!st.present || st.Problem != "") && st.current == nil {
			st.loaded, st.holds = "", 0 // its generator is gone, and the model with it
		}
		st.paused = l.s.isPaused(st.Device.ID)
		var reading *gpu.Reading
		if st.present {
			reading = readingOf(snapshot, st.Device)
		}
		st.measured(reading, now)
	}
}

// seat puts a slot into the list, with what is known of it.
func (l *loop) seat(slot Slot) {
	key := slot.Device.ID + "/" + slot.Backend.Name()
	st, known := l.byKey[key]
	if !known {
		st = &slotState{key: key, share: 1}
		l.byKey[key] = st
	}
	if st.present {
		return // the same device and backend twice: one image at a time
	}
	st.Slot, st.present = slot, true
	l.slots = append(l.slots, st)
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

// reconcile ends attempts whose job has gone on without them, and forgets what belongs to jobs that are gone.
func (l *loop) reconcile(active []job.Job, now time.Time) {
	alive := make(map[string]int, len(active)) // by job: running attempt, 0 when queued
	for i := range active {
		alive[active[i].ID] = 0
		if active[i].State == job.Running {
			alive[active[i].ID] = active[i].Attempt
		}
	}
	for id, a := range l.attempts {
		if a.number > 0 && alive[id] != a.number {
			l.end(a, errCancelled, now)
		}
	}
	gone := func(id string) bool { _, ok := alive[id]; return !ok }
	maps.DeleteFunc(l.avoid, func(id string, _ map[string]bool) bool { return gone(id) })
	maps.DeleteFunc(l.bound, func(id string, _ string) bool { return gone(id) })
}

// adopt gives jobs back that run by nobody: their start was committed after the attempt had stopped waiting for it.
func (l *loop) adopt(ctx context.Context, active []job.Job) {
	for _, j := range active {
		if j.State != job.Running || l.attempts[j.ID] != nil || l.returns[j.ID] {
			continue
		}
		l.returns[j.ID] = true
		go func() {
			defer l.s.tell(event{job: j, phase: returned})
			l.s.record(ctx, j.ID, func(ctx context.Context) error {
				_, err := l.s.config.Queue.Requeue(ctx, j.ID, j.Attempt, "its start was recorded too late", false)
				return err
			})
		}()
	}
}

func (l *loop) end(a *attempt, cause error, now time.Time) {
	if a.cancelled.IsZero() {
		a.cancelled = now
		a.cancel(cause)
	}
}

// watch gives up attempts whose device died or whose backend hangs.
func (l *loop) watch(now time.Time) {
	for _, st := range l.byKey {
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
			l.end(a, &deviceError{why}, now)
		case now.Sub(a.moved()) >= limit:
			l.end(a, &deviceError{fmt.Sprintf("%s made no progress for %s", a.where.Backend, limit.Round(time.Second))}, now)
		}
	}
}

// refuse fails a job whose model no slot has had for a while.
func (l *loop) refuse(ctx context.Context, j job.Job) {
	l.failing[j.ID] = true
	go func() {
		defer l.s.tell(event{job: j, phase: refused})
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		why := fmt.Sprintf("no device here has a generator for model %q: choose another model", j.Model)
		if _, err := l.s.config.Queue.Fail(ctx, j.ID, j.Attempt, why); err != nil && !fenced(err) {
			l.s.log.Error("job could not be failed", "job", j.ID, "error", err)
		}
	}()
}

// next is the time until something may change by itself.
func (l *loop) next(waiting bool, now time.Time) time.Duration {
	next := idleEvery
	if waiting {
		next = replanEvery
	}
	at := func(t time.Time) {
		if t.After(now) {
			next = min(next, t.Sub(now))
		}
	}
	at(l.diskUntil)
	for _, st := range l.byKey {
		at(st.restUntil)
		if a := st.current; a != nil {
			if !st.badSince.IsZero() {
				at(st.badSince.Add(deadAfter))
			}
			if !a.cancelled.IsZero() {
				at(a.cancelled.Add(finishingAfter))
			}
		}
	}
	return next
}
