package scheduler

import (
	"time"

	"muster/agent/queue"
	"muster/shared/job"
)

// launch makes the attempt that gives a job to an idle slot.
func (c *Core) launch(j job.Job, st *slotState, reason string, now time.Time) *Attempt {
	model, _ := st.model(j.Model)
	at := pace{st.key, j.Model, j.Width * j.Height}
	a := &Attempt{
		Job: j, Target: st.Slot, slot: st.key, model: model, cold: st.loaded != j.Model, begun: now, share: st.share,
		step:  c.estimates.step(at, st.Speed) / st.share,
		total: c.estimates.work(at, st.Speed, j.Steps) / st.share,
		cost:  c.wholeMachine(j),
		Where: queue.Placement{Device: st.Device.Index, DeviceKey: st.Device.ID, Backend: st.Backend.Name(), Simulated: st.Device.Simulated, Reason: reason},
	}
	if a.cold {
		a.loads = c.estimates.load(st.key, model)
		a.total += a.loads
	}
	a.promised, a.decided = a.total, now
	st.current = a
	st.used = true
	st.loaded = j.Model // being loaded; taken back when it fails
	st.holds = needs(model, j.Width*j.Height)
	st.foreignAt = st.foreign
	c.attempts[j.ID] = a
	return a
}

// wholeMachine is the seconds that the image takes when all devices that can make it share it.
func (c *Core) wholeMachine(j job.Job) float64 {
	rate := 0.0
	for _, st := range c.slots {
		if _, ok := st.model(j.Model); ok {
			rate += 1 / c.estimates.work(pace{st.key, j.Model, j.Width * j.Height}, st.Speed, j.Steps)
		}
	}
	if rate <= 0 {
		return 0
	}
	return 1 / rate
}
