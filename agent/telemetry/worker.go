package telemetry

import (
	"context"
	"errors"
	"time"

	"muster/shared/gpu"
)

// failuresUntilUnsupported is how many unexplained errors in a row a device may answer with (EBUSY during a reset, say) before
// its state says that it can't be read. Until then its last values stay, with their age.
const failuresUntilUnsupported = 3

// worker reads one device through one reader. All fields belong to the sampler's loop.
type worker struct {
	*call
	reading  gpu.Reading // the last one taken
	measured time.Time   // when reading was; zero for never
	born     time.Time
	state    gpu.State // of the last call that returned; "" before the first
	failures int       // unexplained errors in a row
	missing  bool      // the reader's newest inventory does not list the device
	recorded time.Time // the newest measurement that the history has
	shown    gpu.State // the state that was last logged
	err      error     // of the last call that returned
}

func (s *Sampler) newWorker(ctx context.Context, reader Reader, id string) *worker {
	w := &worker{born: time.Now(), shown: gpu.StateOK}
	w.call = s.newCall(ctx, s.deadline, func(ctx context.Context) func() {
		reading, err := guard(func() (gpu.Reading, error) { return reader.Read(ctx, id) })
		at := time.Now()
		return func() { w.take(reading, err, at) }
	})
	return w
}

// stateOf maps errors of Read to the state of the device. keep says that the last values stay.
var stateOf = []struct {
	err   error
	state gpu.State
	keep  bool
}{
	{ErrLost, gpu.StateLost, true},
	{ErrDriverMismatch, gpu.StateDriverMismatch, true},
	{context.DeadlineExceeded, gpu.StateStuck, true},
	{ErrSuspended, gpu.StateSuspended, false},
	{ErrNoPermission, gpu.StateNoPermission, false},
	{ErrNoDriver, gpu.StateNoDriver, false},
	{ErrUnsupported, gpu.StateUnsupported, false},
}

func (w *worker) take(reading gpu.Reading, err error, at time.Time) {
	w.err = err
	if err == nil {
		w.reading, w.measured, w.failures = reading, at, 0
		w.state = reading.State
		if w.state == "" {
			w.state = gpu.StateOK
		}
		return
	}
	for _, s := range stateOf {
		if !errors.Is(err, s.err) {
			continue
		}
		w.state, w.failures = s.state, 0
		if !s.keep {
			w.reading, w.measured = reading, at
		}
		return
	}
	w.failures++
	if w.failures >= failuresUntilUnsupported || w.measured.IsZero() {
		w.state = gpu.StateUnsupported
	}
}

// view is what the worker has to say at that time: values at most as old as since have age 0.
func (w *worker) view(now, since time.Time, deadline time.Duration) (gpu.Reading, time.Time) {
	r := w.reading
	r.State = w.state
	switch {
	case w.missing:
		r.State = gpu.StateLost
	case w.state == "" || w.late(now, deadline):
		// A first call that has not returned is what "stuck" says, though nobody should worry yet.
		r.State = gpu.StateStuck
	}
	measured := w.measured
	if measured.IsZero() {
		measured = w.born
	}
	r.AgeMilliseconds = 0
	if measured.Before(since) {
		r.AgeMilliseconds = now.Sub(measured).Milliseconds()
	}
	return r, w.measured
}
