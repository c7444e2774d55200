package scheduler

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// What was accepted while only the processor could draw is drawn there, however long after a device has got its generator; nobody is
// offered the processor then.
func TestWhatOnlyAFallbackCanMakeIsMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, Predicted)
		sketcher := &fakeBackend{name: "builtin", generate: steady(always(100))}
		served := false
		slots := r.config.Slots
		r.config.Slots = func(inventory gpu.Inventory) []Slot {
			cpu := Slot{Device: backend.CPU(), Backend: sketcher, Models: []backend.Model{{Name: "sketch"}}, Fallback: served}
			if !served {
				return []Slot{cpu}
			}
			return append(slots(inventory), cpu)
		}
		r.run()
		if c := r.Capacity(); c.DefaultModel != "sketch" || len(c.Slots) != 1 || c.Slots[0].Device != gpu.CPU {
			t.Errorf("while only the processor can: %+v", c)
		}
		ids := r.jobs.add(4, func(j *job.Job) { j.Model = "sketch" })
		pass(150 * time.Second) // the second is being made
		served = true
		ids = append(ids, r.jobs.add(2)...)
		pass(missingAfter + 3*time.Minute)
		c := r.Capacity()
		if c.DefaultModel != "sdxl" || slices.ContainsFunc(c.Models, func(m wire.Model) bool { return m.Name == "sketch" }) ||
			slices.ContainsFunc(c.Slots, func(s wire.Slot) bool { return s.Device == gpu.CPU }) {
			t.Errorf("while a device serves: %+v", c)
		}
		for _, id := range ids {
			j := r.jobs.get(id)
			if onCPU := j.DeviceID != nil && *j.DeviceID == gpu.CPU; j.State != job.Succeeded || onCPU != (j.Model == "sketch") || j.Attempt != 1 {
				t.Errorf("%s of %s is %s, on the processor: %v, attempt %d: %s", id, j.Model, j.State, onCPU, j.Attempt, j.Error)
			}
		}
		r.end()
	})
}
