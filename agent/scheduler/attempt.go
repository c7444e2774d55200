package scheduler

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"muster/agent/backend"
	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/job"
)

// Causes for which an attempt's context ends.
var (
	errShutdown  = errors.New("the agent stops")
	errCancelled = errors.New("the job was cancelled")
)

// deviceError is the cause when a device or generator was given up during an attempt.
type deviceError struct{ why string }

func (e *deviceError) Error() string { return e.why }

// Waiting for what may never come.
const (
	returnGrace   = 5 * time.Second  // for Generate to return after its context ended, before the job goes on without it
	recordTimeout = 20 * time.Second // one try to record an outcome
	recordRetry   = time.Second      // first pause between tries; doubles
	recordRetries = 10 * time.Second // longest pause
)

// attempt is one start of a job on a slot.
type attempt struct {
	// Set before it starts, never changed.
	job    job.Job
	slot   string // its key
	where  queue.Placement
	target Slot
	model  backend.Model
	cold   bool    // the model has to be loaded
	step   float64 // expected seconds a step, with what other programs leave
	total  float64 // expected seconds, loading included
	share  float64
	cancel context.CancelCauseFunc

	// The loop's.
	number    int // of the attempt; 0 until the queue has started it
	cancelled time.Time
	settled   bool

	// The backend's goroutine writes, under mu.
	mu       sync.Mutex
	begun    time.Time // of Generate; before, when the loop decided
	progress job.Progress
	first    mark // first report of a step
	last     mark // newest report
}

type mark struct {
	step int
	at   time.Time
}

// event is what an attempt's goroutine tells the loop.
type event struct {
	a       *attempt
	job     job.Job // for those without attempt
	phase   phase
	number  int
	outcome outcome
}

type phase int

const (
	started  phase = iota // the queue has it as running
	settled               // the queue knows how it ended
	freed                 // Generate has returned: the slot can be used again
	refused               // a job that no slot can make was failed
	returned              // a job that nobody ran was given back
)

// outcome is what the loop learns from an attempt.
type outcome struct {
	succeeded bool
	slotFault string // what the slot did wrong; "" when nothing
	memory    bool   // the fault was lack of memory: the generator is still alive
	diskFault string // why no result can be stored; "" when it can
	observed  observation
	measured  bool
}

// attempt runs one image from queue.Start to its recorded end. It has its own goroutine.
func (s *Scheduler) attempt(ctx context.Context, a *attempt) {
	defer s.tell(event{a: a, phase: freed})
	running, err := s.start(ctx, a)
	if err != nil {
		s.tell(event{a: a, phase: settled, outcome: startOutcome(err)})
		return
	}
	s.tell(event{a: a, phase: started, number: running.Attempt})
	s.log.Info("image started", "job", running.ID, "device", a.where.Device.Label(), "attempt", running.Attempt,
		"backend", a.where.Backend, "model", running.Model, "reason", a.where.Reason)

	result := make(chan result, 1)
	go func() { result <- s.generate(ctx, a, running) }()
	r, back := await(ctx, result)
	s.tell(event{a: a, phase: settled, outcome: s.settle(ctx, a, running.Attempt, r)})
	if !back {
		<-result // the slot is held, whatever comes is too late
	}
}

func (s *Scheduler) start(ctx context.Context, a *attempt) (job.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return s.config.Queue.Start(ctx, a.job.ID, a.job.Attempt, a.where)
}

// startOutcome tells a disk that can't be written from a job that is no longer queued.
func startOutcome(err error) outcome {
	if fenced(err) || errors.Is(err, context.Canceled) {
		return outcome{}
	}
	return outcome{diskFault: err.Error()}
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
func (s *Scheduler) generate(ctx context.Context, a *attempt, j job.Job) (r result) {
	begun := time.Now()
	a.begin(begun)
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("generator panicked", "job", j.ID, "backend", a.where.Backend, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r = result{err: fmt.Errorf("%s failed inside (see the agent's log): %w", a.where.Backend, backend.ErrUnavailable)}
		}
		r.took = time.Since(begun)
	}()
	image, err := a.target.Backend.Generate(ctx, a.target.Device, backend.Request{
		JobID: j.ID, Attempt: j.Attempt, Prompt: j.Prompt, NegativePrompt: j.NegativePrompt, Model: j.Model, Sampler: j.Sampler,
		Seed: j.Seed, Width: j.Width, Height: j.Height, Steps: j.Steps, Guidance: j.Guidance,
	}, func(p job.Progress) { s.config.Queue.Progress(j.ID, j.Attempt, a.report(p, time.Now())) })
	return result{image: image, err: err}
}

// settle records how the attempt ended.
func (s *Scheduler) settle(ctx context.Context, a *attempt, number int, r result) outcome {
	cause := context.Cause(ctx)
	var device *deviceError
	switch {
	case errors.Is(cause, errCancelled):
		return outcome{}
	case r.err == nil:
		return s.store(ctx, a, number, r)
	case errors.Is(cause, errShutdown):
		return outcome{} // stays running in the database: queued again at the next start
	case errors.As(cause, &device):
		return s.giveUp(ctx, a, number, outcome{slotFault: device.why})
	case errors.Is(r.err, backend.ErrOutOfMemory):
		return s.giveUp(ctx, a, number, outcome{slotFault: r.err.Error(), memory: true})
	case errors.Is(r.err, backend.ErrUnavailable):
		return s.giveUp(ctx, a, number, outcome{slotFault: r.err.Error()})
	}
	s.log.Warn("image failed", "job", a.job.ID, "device", a.where.Device.Label(), "error", r.err)
	s.record(ctx, a.job.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Fail(ctx, a.job.ID, number, r.err.Error())
		return err
	})
	return outcome{}
}

// giveUp queues the job again after its slot's fault.
func (s *Scheduler) giveUp(ctx context.Context, a *attempt, number int, o outcome) outcome {
	why := a.where.Device.Label() + ": " + o.slotFault
	s.log.Warn("image is queued again", "job", a.job.ID, "attempt", number, "why", why)
	s.record(ctx, a.job.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Requeue(ctx, a.job.ID, number, why, true)
		return err
	})
	return o
}

// store makes the image durable, then the job's success.
func (s *Scheduler) store(ctx context.Context, a *attempt, number int, r result) outcome {
	observed, measured := a.observe(r.took)
	put, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	id, err := s.config.Images.Put(put, r.image.PNG)
	switch {
	case errors.Is(err, images.ErrInvalid), errors.Is(err, images.ErrTooLarge):
		return s.giveUp(ctx, a, number, outcome{slotFault: fmt.Sprintf("%s returned a bad image: %v", a.where.Backend, err)})
	case err != nil:
		why := fmt.Sprintf("the image could not be stored: %v", err)
		s.log.Error("image could not be stored", "job", a.job.ID, "error", err)
		s.record(ctx, a.job.ID, func(ctx context.Context) error {
			_, err := s.config.Queue.Requeue(ctx, a.job.ID, number, why, false)
			return err
		})
		return outcome{diskFault: why, observed: observed, measured: measured}
	}
	s.record(ctx, a.job.ID, func(ctx context.Context) error {
		_, err := s.config.Queue.Succeed(ctx, a.job.ID, number, id)
		return err
	})
	return outcome{succeeded: true, observed: observed, measured: measured}
}

// record changes the queue, again and again while the disk refuses, until it is done, the job has gone on without this attempt,
// or the agent stops.
func (s *Scheduler) record(ctx context.Context, id string, change func(context.Context) error) {
	for pause := recordRetry; ; pause = min(2*pause, recordRetries) {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		err := change(try)
		cancel()
		if err == nil {
			return
		}
		if fenced(err) {
			s.log.Info("a late result was dropped", "job", id, "why", err)
			return
		}
		s.log.Error("outcome of an image could not be recorded", "job", id, "error", err, "again_in", pause)
		select {
		case <-time.After(pause):
		case <-s.gone:
			return
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
