package scheduler

import (
	"reflect"
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// telling is what was last explained about a job.
type telling struct {
	text    string
	seconds float64
}

// explain tells the queue why images wait, where that has changed.
func (l *loop) explain(in input, plan Plan) {
	told := make(map[string]telling, len(plan.Waits))
	changed := map[string]job.Outlook{}
	for _, w := range plan.Waits {
		id := in.jobs[w.Job].ID
		old, known := l.told[id]
		now := telling{w.Words(in.Stations), w.Seconds}
		if known && now.text != old.text && nearly(old.seconds, w.Seconds) {
			steady := w
			steady.Seconds = old.seconds
			if steady.Words(in.Stations) == old.text {
				now = old // only a prediction that wavers
			}
		}
		if !known || now.text != old.text {
			changed[id] = job.Outlook{Reason: now.text}
		}
		told[id] = now
	}
	l.told = told
	if len(changed) > 0 {
		l.s.config.Queue.Explain(changed)
	}
}

// nearly says whether a wait grew by no more than one coarse step: not worth another text.
func nearly(old, now float64) bool {
	step := func(v float64) int {
		at, _ := slices.BinarySearch(coarse, v)
		return at
	}
	return step(now)-step(old) == 1
}

// publish tells what can generate, when that has changed.
func (l *loop) publish(now time.Time) {
	capacity := l.capacity(now)
	s := l.s
	s.mu.Lock()
	same := reflect.DeepEqual(capacity, s.capacity)
	s.capacity = capacity
	s.mu.Unlock()
	if !same && s.config.Publish != nil {
		s.config.Publish(capacity)
	}
}

func (l *loop) capacity(now time.Time) wire.Capacity {
	c := wire.Capacity{Policy: string(l.s.config.Policy), Models: []wire.Model{}, Slots: []wire.Slot{}}
	for _, st := range l.slots {
		slot := wire.Slot{
			Device: st.Device.Index, Backend: st.Backend.Name(), Models: []string{}, Loaded: st.loaded,
			Paused: st.paused, Simulated: st.Device.Simulated, Problem: st.problem(now),
		}
		for _, m := range st.Models {
			slot.Models = append(slot.Models, m.Name)
			if !slices.ContainsFunc(c.Models, func(known wire.Model) bool { return known.Name == m.Name }) {
				c.Models = append(c.Models, wire.Model{Name: m.Name, Title: m.Title, Bytes: m.Bytes})
			}
		}
		c.Slots = append(c.Slots, slot)
	}
	c.DefaultModel = l.defaultModel()
	return c
}

// sketcher is the name of the backend that needs no model: the default only where there is no other.
const sketcher = "builtin"

// defaultModel is the first model of the first GPU that has a real generator, else the first of any slot; "" when there is none.
func (l *loop) defaultModel() string {
	fallback := ""
	for _, st := range l.slots {
		switch {
		case len(st.Models) == 0 || st.Problem != "":
		case st.Device.Index != gpu.CPU && st.Backend.Name() != sketcher:
			return st.Models[0].Name
		case fallback == "":
			fallback = st.Models[0].Name
		}
	}
	return fallback
}
