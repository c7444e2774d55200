package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/model"
)

// failedLoad is a wish that came to nothing.
type failedLoad struct {
	model  string
	device gpu.Device
	asked  time.Time
	why    string
	at     time.Time
}

// Failed loads are kept for those who look later: so long, and the newest of so many.
const (
	failedLoadKept  = 24 * time.Hour
	maxFailedLoads  = 16
	maxFailureBytes = 1 << 10 // of the words of one
)

// noteLoad keeps why a wish came to nothing.
func (c *Core) noteLoad(w *wish, err error, now time.Time) {
	c.forgetLoad(w.model, w.device.ID)
	c.failedLoads = append(c.failedLoads, failedLoad{w.model, w.device, w.asked, shortened(err.Error()), now})
	if over := len(c.failedLoads) - maxFailedLoads; over > 0 {
		c.failedLoads = slices.Delete(c.failedLoads, 0, over)
	}
}

// forgetLoad drops what failed of a model on a device: it is there now, or somebody has asked for it anew.
func (c *Core) forgetLoad(name, deviceID string) {
	c.failedLoads = slices.DeleteFunc(c.failedLoads, func(f failedLoad) bool { return f.model == name && f.device.ID == deviceID })
}

func (c *Core) expireLoads(now time.Time) {
	c.failedLoads = slices.DeleteFunc(c.failedLoads, func(f failedLoad) bool { return now.Sub(f.at) >= failedLoadKept })
}

// shortened bounds what a generator said.
func shortened(words string) string {
	if len(words) <= maxFailureBytes {
		return words
	}
	cut := maxFailureBytes
	for cut > 0 && words[cut]&0xC0 == 0x80 { // within a character of UTF-8
		cut--
	}
	return words[:cut] + "…"
}

// withAdvice says what a person can do about a generator that did not load a model.
func withAdvice(err error) error {
	switch {
	case errors.Is(err, backend.ErrOutOfMemory):
		return fmt.Errorf("%w; close what else uses its memory, or choose another device or a smaller model", err)
	case errors.Is(err, backend.ErrUnavailable):
		return fmt.Errorf("%w; see the agent's log and muster doctor, then load it again", err)
	}
	return fmt.Errorf("%w; see the agent's log", err)
}

// loads are the wishes as people see them: those that failed, those under way, those that wait.
func (c *Core) loads() (list []model.Load) {
	for _, f := range c.failedLoads {
		list = append(list, model.Load{Model: f.model, Device: c.refOf(f.device), State: model.LoadFailed, Asked: f.asked.UTC(), Words: f.why})
	}
	for _, st := range c.slots {
		if w := st.loading; w != nil {
			list = append(list, model.Load{Model: w.model, Device: st.Device.Index, State: model.LoadRuns, Asked: w.asked.UTC()})
		}
	}
	for _, w := range c.wishes {
		list = append(list, model.Load{Model: w.model, Device: c.refOf(w.device), State: model.LoadWaits, Asked: w.asked.UTC(), Words: c.waitsFor(w)})
	}
	slices.SortStableFunc(list, func(a, b model.Load) int { return a.Asked.Compare(b.Asked) })
	return list
}

// waitsFor says what a wish waits for, as "it " would continue.
func (c *Core) waitsFor(w *wish) string {
	st := c.slotOf(w.device.ID)
	switch {
	case c.inventory == nil || st == nil:
		return "waits until the devices are known"
	case st.current != nil:
		return "waits for the image that is being made there"
	case st.loading != nil:
		return "waits until " + st.loading.model + " is loaded there"
	}
	return "waits until the memory there is free"
}

// refOf is the number that a device has now.
func (c *Core) refOf(device gpu.Device) gpu.Ref {
	if c.inventory != nil {
		for _, d := range c.inventory.Devices {
			if d.ID == device.ID {
				return d.Index
			}
		}
	}
	return device.Index
}

func (c *Core) labelOf(device gpu.Device) string { return c.refOf(device).Label() }
