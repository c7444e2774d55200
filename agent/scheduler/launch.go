package scheduler

import (
	"context"
	"time"

	"muster/agent/queue"
	"muster/shared/job"
)

// launch gives a job to an idle slot.
func (l *loop) launch(ctx context.Context, j job.Job, st *slotState, reason string, now time.Time) {
	model, _ := st.model(j.Model)
	ctx, cancel := context.WithCancelCause(ctx)
	at := pace{st.key, j.Model, j.Width * j.Height}
	a := &attempt{
		job: j, slot: st.key, target: st.Slot, model: model, cold: st.loaded != j.Model, cancel: cancel, begun: now, share: st.share,
		step:  l.estimates.step(at, st.Speed) / st.share,
		total: l.estimates.work(at, st.Speed, j.Steps) / st.share,
		where: queue.Placement{Device: st.Device.Index, DeviceKey: st.Device.ID, Backend: st.Backend.Name(), Simulated: st.Device.Simulated, Reason: reason},
	}
	if a.cold {
		a.total += l.estimates.load(st.key, model)
	}
	st.current = a
	st.loaded = j.Model // being loaded; taken back when it fails
	st.holds = needs(model, j.Width*j.Height)
	l.attempts[j.ID] = a
	go l.s.attempt(ctx, a)
}

// handle takes in what an attempt has to tell.
func (l *loop) handle(e event) {
	switch now := time.Now(); e.phase {
	case started:
		e.a.number = e.number
	case settled:
		e.a.settled = true
		delete(l.attempts, e.a.job.ID)
		l.learn(e.a, e.outcome, now)
	case freed:
		e.a.cancel(nil)
		if st := l.byKey[e.a.slot]; st != nil && st.current == e.a {
			st.current = nil
			st.idleSince = now
		}
	case refused:
		delete(l.failing, e.job.ID)
	case returned:
		delete(l.returns, e.job.ID)
	}
}

// learn draws the conclusions from an attempt's end.
func (l *loop) learn(a *attempt, o outcome, now time.Time) {
	st := l.byKey[a.slot]
	if o.diskFault != "" && !now.Before(l.diskUntil) { // during a pause it is the fault that is known already
		l.diskPause = min(max(firstDiskPause, 2*l.diskPause), longDiskPause)
		l.diskFault, l.diskUntil = o.diskFault, now.Add(l.diskPause)
	}
	if o.measured {
		l.estimates.learn(pace{a.slot, a.job.Model, a.job.Width * a.job.Height}, a.target.Speed, o.observed)
	}
	switch {
	case o.succeeded:
		l.diskPause = 0
		st.failures, st.fault = 0, ""
	case o.slotFault != "":
		st.failed(o.slotFault, now)
		st.loaded, st.holds = "", 0
		if l.avoid[a.job.ID] == nil {
			l.avoid[a.job.ID] = map[string]bool{}
		}
		l.avoid[a.job.ID][a.slot] = true
	case a.cold && !a.stepped():
		st.loaded, st.holds = "", 0 // it ended before the model was surely there
	}
}
