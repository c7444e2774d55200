package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"muster/agent/scheduler"
	"muster/shared/job"
)

// A decision of this size must not take long.
const (
	manyDevices    = 64
	manyQueued     = 1000
	decisionLimit  = time.Millisecond
	decisionRounds = 200
)

// decider is a Core with many devices, all of them busy but one, and many images queued.
type decider struct {
	core *scheduler.Core
	view scheduler.View
	runs []*scheduler.Attempt
	turn int
}

func newDecider() *decider {
	w := &World{Models: Models, PriorError: 1, Warm: none, Seed: 1}
	for d := range manyDevices {
		w.Box.Devices = append(w.Box.Devices, device(1/float64(1+d%4), 24))
	}
	p := newPredicted(w)
	shapes := w.shapes()
	for i := range manyQueued + manyDevices {
		m := i % len(Models)
		s := shapes[m]
		p.view.Jobs = append(p.view.Jobs, job.Job{
			ID: fmt.Sprintf("%08d", i), SetID: fmt.Sprintf("%08d", i/4), Ordinal: i % 4, State: job.Queued, Model: Models[m].Name, Width: s.width, Height: s.height,
			Steps: s.steps, Created: clock(float64(i) / 100), ClientID: fmt.Sprintf("client %d", i%7),
		})
	}
	d := &decider{core: p.core, view: p.view}
	d.view.Now = clock(60)
	d.decide()
	return d
}

// decide plans once and carries the plan out.
func (d *decider) decide() {
	orders := d.core.Plan(d.view)
	for _, a := range orders.Starts {
		at, _ := slices.BinarySearchFunc(d.view.Jobs, a.Job.ID, func(j job.Job, id string) int { return compareText(j.ID, id) })
		d.view.Jobs[at].State, d.view.Jobs[at].Attempt = job.Running, 1
		d.core.Started(a, 1)
		a.Begin(d.view.Now)
		d.runs = append(d.runs, a)
	}
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// next ends one image, and queues another in its place.
func (d *decider) next() {
	a := d.runs[0]
	d.runs = d.runs[1:]
	d.turn++
	d.view.Now = d.view.Now.Add(time.Second)
	d.core.Settled(a, scheduler.Outcome{Succeeded: true, Took: 10 * time.Second}, d.view.Now)
	d.core.Freed(a, d.view.Now)
	at, _ := slices.BinarySearchFunc(d.view.Jobs, a.Job.ID, func(j job.Job, id string) int { return compareText(j.ID, id) })
	again := d.view.Jobs[at]
	d.view.Jobs = slices.Delete(d.view.Jobs, at, at+1)
	again.ID, again.SetID, again.State, again.Attempt = fmt.Sprintf("%08d", manyQueued+manyDevices+d.turn), fmt.Sprintf("%08d", manyQueued+d.turn), job.Queued, 0
	again.Created = d.view.Now
	d.view.Jobs = append(d.view.Jobs, again)
}

// decisionGoals measures how long a decision takes, by the real clock.
func decisionGoals(context.Context, Seeds) ([]Goal, error) {
	d := newDecider()
	took := make([]float64, 0, decisionRounds)
	for range decisionRounds {
		if len(d.runs) == 0 {
			return nil, fmt.Errorf("nothing was started on %d idle devices", manyDevices)
		}
		d.next()
		began := time.Now()
		d.decide()
		took = append(took, time.Since(began).Seconds())
	}
	median, tail := quantile(took, .5), quantile(took, .99)
	return []Goal{{
		What: fmt.Sprintf("one decision, %d devices, %d queued", manyDevices, manyQueued), Goal: "≤ 1 ms", Met: median <= decisionLimit.Seconds(),
		Measured: fmt.Sprintf("%.2f ms (p99 %.2f ms)", 1e3*median, 1e3*tail),
	}}, nil
}
