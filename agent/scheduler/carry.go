package scheduler

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"muster/agent/backend"
	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/job"
)

// Waiting for what may never come.
const (
	returnGrace   = 5 * time.Second  // for Generate to return after its context ended, before the job goes on without it
	recordTimeout = 20 * time.Second // one try to record an outcome
	recordRetry   = time.Second      // first pause between tries; doubles
	recordRetries = 10 * time.Second // longest pause
)

// event is what an attempt's goroutine tells the loop.
type event struct {
	a       *Attempt
	phase   phase
	number  int
	outcome Outcome
	then    func(*Core) // of a chore
}

type phase int

const (
	started  phase = iota // the queue has it as running
	settled               // the queue knows how it ended
	freed                 // Generate has returned: the slot can be used again
	troubled              // its end can't be stored or recorded, and is tried again
	done                  // a chore has ended
)

// attempt runs one image from queue.Start to its recorded end. It has its own goroutine.
func (s *Scheduler) attempt(ctx context.Context, a *Attempt) {
	defer s.tell(event{a: a, phase: freed})
	running, err := s.start(ctx, a)
	if err != nil {
		s.tell(event{a: a, phase: settled, outcome: startOutcome(err)})
		return
	}
	s.tell(event{a: a, phase: started, number: running.Attempt})
	s.log.Info("image started", "job", running.ID, "device", a.Where.Device.Label(), "attempt", running.Attempt,
		"backend", a.Where.Backend, "model", running.Model, "reason", a.Where.Reason)

	results := make(chan result, 1)
	go func() { results <- s.generate(ctx, a, running) }()
	r, back := await(ctx, results)
	s.dropPreview(a)
	s.tell(event{a: a, phase: settled, outcome: s.settle(ctx, a, running.Attempt, r)})
	if !back {
		<-results // the slot is held, whatever comes is too late
		s.dropPreview(a)
	}
}

func (s *Scheduler) start(ctx context.Context, a *Attempt) (job.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return s.config.Queue.Start(ctx, a.Job.ID, a.Job.Attempt, a.Where)
}

// startOutcome tells a disk that can't be written from a job that is no longer queued.
func startOutcome(err error) Outcome {
	if fenced(err) || errors.Is(err, context.Canceled) {
		return Outcome{}
	}
	return Outcome{DiskFault: err.Error()}
}

// fenced says whether the queue refused because the job has gone on without this attempt.
func fenced(err error) bool {
	return errors.Is(err, job.ErrTransition) || errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrClosed)
}

type result struct {
	image backend.Image
	err   error
	took  time.Duration
}

// await gives the result, or after the context's end and a grace an error instead; then back is false.
func await(ctx context.Context, results <-chan result) (r result, back bool) {
	select {
	case r := <-results:
		return r, true
	case <-ctx.Done():
	}
	grace := time.NewTimer(returnGrace)
	defer grace.Stop()
	select {
	case r := <-results:
		return r, true
	case <-grace.C:
		return result{err: context.Cause(ctx)}, false
	}
}

// generate calls the backend. A panic there is the backend's death, not the agent's.
func (s *Scheduler) generate(ctx context.Context, a *Attempt, j job.Job) (r result) {
	begun := time.Now()
	a.Begin(begun)
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("generator panicked", "job", j.ID, "backend", a.Where.Backend, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r = result{err: fmt.Errorf("%s failed inside (see the agent's log): %w", a.Where.Backend, backend.ErrUnavailable)}
		}
		r.took = time.Since(begun)
	}()
	image, err := a.Target.Backend.Generate(ctx, a.Target.Device, backend.Request{
		JobID: j.ID, Attempt: j.Attempt, Prompt: j.Prompt, NegativePrompt: j.NegativePrompt, Model: j.Model, Sampler: j.Sampler,
		Seed: j.Seed, Width: j.Width, Height: j.Height, Steps: j.Steps, Guidance: j.Guidance, Preview: s.previewer(a, j),
	}, func(p job.Progress) { s.config.Queue.Progress(j.ID, j.Attempt, a.Report(p, time.Now())) })
	return result{image: image, err: err}
}

// dropPreview tells that there will be no further picture.
func (s *Scheduler) dropPreview(a *Attempt) {
	if s.config.Preview != nil {
		s.config.Preview(a.Job.ID, backend.Preview{})
	}
}

// previewer takes the pictures of an attempt; nil when nobody wants them.
func (s *Scheduler) previewer(a *Attempt, j job.Job) func(backend.Preview) {
	if s.config.Preview == nil {
		return nil
	}
	return func(p backend.Preview) {
		if len(p.Data) == 0 || len(p.Data) > backend.MaxPreviewBytes {
			return
		}
		s.config.Preview(j.ID, p)
		s.config.Queue.Progress(j.ID, j.Attempt, a.Previewed())
	}
}

// settle records how the attempt ended.
func (s *Scheduler) settle(ctx context.Context, a *Attempt, number int, r result) Outcome {
	cause := context.Cause(ctx)
	var device *deviceError
	var moved *movedError
	switch {
	case errors.Is(cause, errCancelled):
		return Outcome{}
	case r.err == nil:
		return s.store(ctx, a, number, r)
	case errors.Is(cause, errShutdown):
		return Outcome{} // stays running in the database: queued again at the next start
	case errors.As(cause, &moved):
		return s.move(ctx, a, number, moved.why)
	case errors.As(cause, &device):
		return s.giveUp(ctx, a, number, Outcome{Fault: device.why})
	case errors.Is(r.err, backend.ErrOutOfMemory):
		return s.giveUp(ctx, a, number, Outcome{Fault: faultWords(r.err), Memory: true})
	case errors.Is(r.err, backend.ErrUnavailable):
		return s.giveUp(ctx, a, number, Outcome{Fault: faultWords(r.err)})
	}
	s.log.Warn("image failed", "job", a.Job.ID, "device", a.Where.Device.Label(), "error", r.err)
	s.record(ctx, a, a.Job.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Fail(ctx, a.Job.ID, number, r.err.Error())
		return err
	})
	return Outcome{}
}

// faultWords is an error for people: without the words by which the scheduler knows what to make of it.
func faultWords(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+backend.ErrUnavailable.Error())
}

// giveUp queues the job again after its slot's fault.
func (s *Scheduler) giveUp(ctx context.Context, a *Attempt, number int, o Outcome) Outcome {
	why := a.Where.Device.Label() + ": " + o.Fault
	s.log.Warn("image is queued again", "job", a.Job.ID, "attempt", number, "why", why)
	s.record(ctx, a, a.Job.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Requeue(ctx, a.Job.ID, number, why, true)
		return err
	})
	return o
}

// move queues the job again because its device is wanted for something else.
func (s *Scheduler) move(ctx context.Context, a *Attempt, number int, why string) Outcome {
	s.log.Info("image goes elsewhere", "job", a.Job.ID, "attempt", number, "why", why)
	s.record(ctx, a, a.Job.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Requeue(ctx, a.Job.ID, number, why, false)
		return err
	})
	return Outcome{}
}

// store makes the image durable, then the job's success. A disk that refuses is asked again: a finished image is worth waiting for.
func (s *Scheduler) store(ctx context.Context, a *Attempt, number int, r result) Outcome {
	var id string
	var bad error
	stored := s.record(ctx, a, a.Job.ID, func(try context.Context) (err error) {
		if cause := context.Cause(ctx); errors.Is(cause, errCancelled) {
			return fmt.Errorf("%w: %w", cause, job.ErrTransition)
		}
		id, err = s.config.Images.Put(try, r.image.PNG)
		if errors.Is(err, images.ErrInvalid) || errors.Is(err, images.ErrTooLarge) {
			bad, err = err, nil
		}
		return err
	})
	switch {
	case !stored:
		return Outcome{}
	case bad != nil:
		return s.giveUp(ctx, a, number, Outcome{Fault: fmt.Sprintf("%s returned a bad image: %v", a.Where.Backend, bad)})
	}
	recorded := s.record(ctx, a, a.Job.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Succeed(ctx, a.Job.ID, number, id)
		return err
	})
	if !recorded {
		return Outcome{}
	}
	s.log.Info("image finished", "job", a.Job.ID, "device", a.Where.Device.Label(), "took", r.took.Round(time.Millisecond))
	return Outcome{Succeeded: true, Took: r.took}
}

// record changes the queue or the store, again and again while the disk refuses, until it is done. It gives false when the job has
// gone on without this attempt, or the agent stops. a is nil for jobs without attempt.
func (s *Scheduler) record(ctx context.Context, a *Attempt, id string, change func(context.Context) error) bool {
	for pause := recordRetry; ; pause = min(2*pause, recordRetries) {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		err := change(try)
		cancel()
		if err == nil {
			return true
		}
		if fenced(err) {
			s.log.Info("a late result was dropped", "job", id, "why", err)
			return false
		}
		s.log.Error("end of an image could not be recorded", "job", id, "error", err, "again_in", pause)
		s.tell(event{a: a, phase: troubled, outcome: Outcome{DiskFault: err.Error()}})
		select {
		case <-time.After(pause):
		case <-s.gone:
			return false
		}
	}
}

// tell hands an event to the loop; after Run has returned nobody listens.
func (s *Scheduler) tell(e event) {
	select {
	case s.events <- e:
	case <-s.gone:
	}
}
