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

// worker asks one reader about one device, one call at a time. All fields belong to the sampler's loop.
type worker struct {
	*call
	read       errand
	details    *detailing    // nil when the reader has none
	throughput *measurements // nil when the reader can't measure it
	reader     string        // its name
	position   int           // of the device, in Sampler.devices
	roster     *roster       // that lists it
	sources    map[string]string
	reading    gpu.Reading // the last one taken
	measured   time.Time   // when reading was; zero for never
	valued     bool        // reading was measured, and is not just what came with an error
	born       time.Time
	state      gpu.State // of the last Read that returned; "" before the first
	failures   int       // unexplained errors in a row
	missing    bool      // the reader's newest inventory does not list the device: nothing is asked of it
	aside      bool      // the call in flight is no Read
	owed       bool      // a slow call kept the device from its tick: Read follows at once
	overdue    bool      // the Read in flight is such a one
	shown      gpu.State // the state that was last logged
	err        error     // of the last Read that returned
}

func (s *Sampler) newWorker(ctx context.Context, reader Reader, id string) *worker {
	w := &worker{call: s.newCall(ctx), reader: reader.Name(), born: time.Now(), shown: gpu.StateOK}
	w.read = errand{s.deadline, func(ctx context.Context) func() {
		reading, err := guard(func() (gpu.Reading, error) { return reader.Read(ctx, id) })
		at := time.Now()
		return func() {
			w.take(reading, err, at)
			s.caughtUp = s.caughtUp || w.overdue && !s.collecting
			w.overdue = false
			s.proceed(w)
		}
	}}
	if r, ok := reader.(DetailReader); ok {
		w.details = s.newDetailing(w, r, id)
	}
	if r, ok := reader.(PCIeReader); ok {
		w.throughput = s.newMeasurements(w, r, id)
	}
	return w
}

// proceed makes the next call for an idle worker: the Read that a slow call kept from its tick, then what somebody waits for,
// then Details that are due. While a tick collects its readings, only the first: nothing dear delays a tick.
//
// Details begin right after a tick, so that as much of the interval as there is lies before the next Read. What takes longer makes
// that Read late, not missed: it is made as soon as the call has returned, and published at once. And it makes the next Details
// rarer (see nextDetails), so that most ticks are kept even then.
func (s *Sampler) proceed(w *worker) {
	now := time.Now()
	switch {
	case w.busy || w.missing:
	case w.owed:
		w.owed = false
		w.overdue = w.begin(now, w.read)
	case s.collecting:
	case w.throughput != nil && len(w.throughput.waiting) > 0:
		w.aside = w.begin(now, w.throughput.errand)
	case w.details != nil && w.wantsDetails() && !now.Before(w.details.due):
		w.aside = w.begin(now, w.details.errand)
	}
}

// stateOf maps errors of Read to the state of the device. partial says that the Reading which comes with the error is what is
// known of a device that was never measured.
var stateOf = []struct {
	err     error
	state   gpu.State
	partial bool
}{
	{ErrLost, gpu.StateLost, false},
	{ErrDriverMismatch, gpu.StateDriverMismatch, false},
	{context.DeadlineExceeded, gpu.StateStuck, false},
	{ErrSuspended, gpu.StateSuspended, true},
	{ErrNoPermission, gpu.StateNoPermission, true},
	{ErrNoDriver, gpu.StateNoDriver, true},
	{ErrUnsupported, gpu.StateUnsupported, true},
}

// take keeps the last values of a device in trouble, with their age. A sleeping one is in none: what it measured while awake says
// nothing of it now.
func (w *worker) take(reading gpu.Reading, err error, at time.Time) {
	w.err = err
	if err == nil {
		w.reading, w.measured, w.failures, w.valued = reading, at, 0, true
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
		if asleep := s.state == gpu.StateSuspended; asleep || s.partial && !w.valued {
			w.reading, w.measured, w.valued = reading, at, false
		}
		return
	}
	w.failures++
	if w.failures >= failuresUntilUnsupported || w.measured.IsZero() {
		w.state = gpu.StateUnsupported
	}
}

// view is what the worker has to say at that time: values at most as old as since have age 0.
func (w *worker) view(now, since time.Time) gpu.Reading {
	r := w.reading
	r.State = w.state
	switch {
	case w.missing:
		r.State = gpu.StateLost
	case w.state == "" || w.late(now):
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
	return r
}
