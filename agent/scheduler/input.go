package scheduler

import (
	"context"
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

// input is a planner's Input and the jobs that its images stand for.
type input struct {
	Input
	jobs []*job.Job
}

// demand is what equal images have in common.
type demand struct {
	model         string
	pixels, steps int
}

// input gathers what the plan depends on.
func (l *loop) input(ctx context.Context, active []job.Job, now time.Time) input {
	in := input{Input: Input{Policy: l.s.config.Policy, Hold: l.hold(now), Stations: l.stations(now)}}
	in.Pending, in.jobs = make([]Pending, 0, len(active)), make([]*job.Job, 0, len(active)) // they can be thousands
	kinds := map[demand]int{}
	for i := range active {
		j := &active[i]
		if j.State != job.Queued || l.attempts[j.ID] != nil || l.failing[j.ID] {
			continue
		}
		d := demand{j.Model, j.Width * j.Height, j.Steps}
		kind, known := kinds[d]
		if !known {
			kind = len(in.Kinds)
			kinds[d] = kind
			in.Kinds = append(in.Kinds, l.kind(d))
		}
		if l.hopeless(in.Kinds[kind], now) {
			l.refuse(ctx, *j)
			continue
		}
		in.Pending = append(in.Pending, Pending{
			ID: j.ID, Set: j.SetID, Ordinal: j.Ordinal, Kind: kind, Priority: j.Priority,
			Waited: max(0, now.Sub(j.Created).Seconds()), Pin: j.PinnedTo, Avoid: l.avoided(j.ID), Bound: l.boundTo(j.ID),
		})
		in.jobs = append(in.jobs, j)
	}
	l.forgetMissing(in.Kinds)
	return in
}

// hold says why nothing may start.
func (l *loop) hold(now time.Time) string {
	switch {
	case l.inventory == nil:
		return "the devices are not known yet"
	case now.Before(l.diskUntil):
		return "results can't be stored (" + l.diskFault + "): starting again in a while"
	}
	return ""
}

func (l *loop) stations(now time.Time) []Station {
	promised := map[string]uint64{} // by Device.ID
	for _, st := range l.byKey {
		promised[st.Device.ID] += st.holds
	}
	stations := make([]Station, len(l.slots))
	for i, st := range l.slots {
		blocked, gone := st.blocked(now)
		stations[i] = Station{
			Ref: st.Device.Index, Name: st.Device.Index.Label(), Blocked: blocked, Gone: gone,
			Idle: st.current == nil, Available: st.available(now), Loaded: st.loaded, Share: st.share, Memory: st.memory(),
			Room: st.room(promised[st.Device.ID] - st.holds),
		}
		if st.current != nil {
			stations[i].Set = st.current.job.SetID
		}
	}
	return stations
}

func (l *loop) kind(d demand) Kind {
	kind := Kind{Model: d.model, Costs: make([]Cost, len(l.slots))}
	for i, st := range l.slots {
		model, ok := st.model(d.model)
		if !ok {
			continue
		}
		at := pace{st.key, d.model, d.pixels}
		kind.Costs[i] = Cost{Serves: true, Work: l.estimates.work(at, st.Speed, d.steps), Load: l.estimates.load(st.key, model), Guess: !l.estimates.measured(d.model)}
		if st.Device.Index != gpu.CPU {
			kind.Costs[i].Needs = needs(model, d.pixels)
		}
	}
	return kind
}

// hopeless says whether no slot has had the model for a while although the devices are known.
func (l *loop) hopeless(kind Kind, now time.Time) bool {
	served := slices.ContainsFunc(kind.Costs, func(c Cost) bool { return c.Serves })
	if served || l.inventory == nil {
		delete(l.missing, kind.Model)
		return false
	}
	since, known := l.missing[kind.Model]
	if !known {
		l.missing[kind.Model] = now
		return false
	}
	return now.Sub(since) >= missingAfter
}

func (l *loop) forgetMissing(kinds []Kind) {
	for model := range l.missing {
		if !slices.ContainsFunc(kinds, func(k Kind) bool { return k.Model == model }) {
			delete(l.missing, model)
		}
	}
}

// avoided gives the positions of the slots on which the job failed.
func (l *loop) avoided(id string) []int {
	slots := l.avoid[id]
	if len(slots) == 0 {
		return nil
	}
	var at []int
	for i, st := range l.slots {
		if slots[st.key] {
			at = append(at, i)
		}
	}
	return at
}

// boundTo gives the position of the slot that the job was dealt to; −1 for none.
func (l *loop) boundTo(id string) int {
	key, ok := l.bound[id]
	if !ok {
		return -1
	}
	return slices.IndexFunc(l.slots, func(st *slotState) bool { return st.key == key })
}
