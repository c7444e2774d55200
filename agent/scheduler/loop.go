package scheduler

import (
	"context"
	"errors"
	"reflect"
	"time"

	"muster/shared/job"
	"muster/shared/wire"
)

// loop is what Run's goroutine owns: the Core, and what its orders are carried out with.
type loop struct {
	s       *Scheduler
	core    *Core
	cancels map[*Attempt]context.CancelCauseFunc // of those whose backend's call has not returned
	chores  int                                  // refusals, returns, loads and unloads on their way
}

func newLoop(s *Scheduler) *loop {
	return &loop{s: s, core: NewCore(s.config.Policy), cancels: map[*Attempt]context.CancelCauseFunc{}}
}

// busy counts what has not ended.
func (l *loop) busy() int { return len(l.cancels) + l.chores }

// step shows the Core the world and carries out its orders. It gives the time after which to do so again.
func (l *loop) step(ctx context.Context) time.Duration {
	view := l.s.view()
	orders := l.core.Plan(view)
	for _, end := range orders.Ends {
		if cancel := l.cancels[end.Attempt]; cancel != nil {
			cancel(end.Cause)
		}
	}
	for _, a := range orders.Starts {
		work, cancel := context.WithCancelCause(ctx)
		l.cancels[a] = cancel
		go l.s.attempt(work, a)
	}
	for _, j := range orders.Return {
		l.chore(func() error { return l.s.giveBack(ctx, j) }, func(c *Core, _ error) { c.Returned(j.ID) })
	}
	for _, r := range orders.Refuse {
		l.chore(func() error { return l.s.refuse(ctx, r) }, func(c *Core, _ error) { c.Refused(r.Job.ID) })
	}
	for _, u := range orders.Unloads {
		l.chore(func() error { return u.do(ctx) }, func(c *Core, err error) {
			if err != nil {
				l.s.log.Warn("memory could not be freed", "device", u.Slot.Device.Index.Label(), "error", err)
			}
			c.Unloaded(u, err, time.Now())
		})
	}
	for _, load := range orders.Loads {
		l.chore(func() error { return load.do(ctx) }, func(c *Core, err error) {
			if err != nil {
				l.s.log.Warn("model could not be loaded", "device", load.Slot.Device.Index.Label(), "model", load.Model.Name, "error", err)
			}
			c.Loaded(load, err, time.Now())
		})
	}
	if len(orders.Outlooks) > 0 {
		l.s.config.Queue.Explain(orders.Outlooks)
	}
	l.s.publish(orders.Capacity, view.Slots, view.Awaited)
	return orders.Next
}

// chore does something that may block, and tells the Core when it has ended.
func (l *loop) chore(do func() error, then func(*Core, error)) {
	l.chores++
	go func() {
		err := do()
		l.s.tell(event{phase: done, then: func(c *Core) { then(c, err) }})
	}()
}

// handle takes in what happened.
func (l *loop) handle(e event) {
	switch now := time.Now(); e.phase {
	case started:
		l.core.Started(e.a, e.number)
	case settled:
		l.core.Settled(e.a, e.outcome, now)
	case freed:
		l.cancels[e.a](nil)
		delete(l.cancels, e.a)
		l.core.Freed(e.a, now)
	case troubled:
		l.core.DiskTrouble(e.outcome.DiskFault, now)
	case done:
		l.chores--
		e.then(l.core)
	}
}

// view gathers the world for the Core.
func (s *Scheduler) view() View {
	v := View{Now: time.Now(), Inventory: s.config.Inventory(), Snapshot: s.config.Snapshot(), Jobs: s.config.Queue.Active()}
	if v.Inventory != nil {
		v.Slots = s.config.Slots(*v.Inventory)
	}
	if s.config.Report != nil {
		v.Report = s.config.Report()
	}
	if s.config.Steering != nil {
		v.Steering = s.config.Steering()
	}
	if s.config.Generators != nil {
		v.Generators = s.config.Generators()
	}
	if s.config.Awaited != nil {
		v.Awaited = s.config.Awaited()
	}
	return v
}

// publish tells what can generate, when that has changed.
func (s *Scheduler) publish(capacity wire.Capacity, slots []Slot, awaited []Awaited) {
	s.mu.Lock()
	same := reflect.DeepEqual(capacity, s.capacity)
	s.capacity, s.slots, s.awaited = capacity, slots, awaited
	s.mu.Unlock()
	if !same && s.config.Publish != nil {
		s.config.Publish(capacity)
	}
}

// giveBack queues a job again that runs by nobody.
func (s *Scheduler) giveBack(ctx context.Context, j job.Job) error {
	s.record(ctx, nil, j.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Requeue(ctx, j.ID, j.Attempt, "its start was recorded too late", false)
		return err
	})
	return nil
}

// refuse fails a job that nothing here can make.
func (s *Scheduler) refuse(ctx context.Context, r Refusal) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	_, err := s.config.Queue.Fail(ctx, r.Job.ID, r.Job.Attempt, r.Why)
	if err != nil && !fenced(err) && !errors.Is(err, context.Canceled) {
		s.log.Error("job could not be failed", "job", r.Job.ID, "error", err)
	}
	return err
}
