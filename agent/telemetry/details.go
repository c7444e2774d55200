package telemetry

import (
	"context"
	"errors"
	"time"

	"muster/shared/gpu"
)

const (
	// detailsPeriod is the time between two Details of a device while somebody watches, idlePeriod while nobody does.
	detailsPeriod = 5 * time.Second
	idlePeriod    = 30 * time.Second
	// detailsDeadline is when a device whose Details have not returned is stuck.
	detailsDeadline = 2 * time.Second
	// rarity bounds the share of a device's time that Details take: a call of 1 s is not repeated within 20 s.
	rarity = 20
)

// detailing is the part of a worker that asks for Details. All fields belong to the sampler's loop.
type detailing struct {
	errand
	due    time.Time // zero: at once
	last   gpu.Details
	faults []gpu.Fault // the newest MaxFaults, oldest first; they outlast the reader's own memory
	// Since the last report: whether a call returned, and whether it brought something.
	answered, fresh bool
}

func (s *Sampler) newDetailing(w *worker, reader DetailReader, id string) *detailing {
	return &detailing{errand: errand{detailsDeadline, func(ctx context.Context) func() {
		began := time.Now()
		details, err := guard(func() (gpu.Details, error) { return reader.Details(ctx, id) })
		if details.Time.IsZero() {
			details.Time = began.UTC()
		}
		took := time.Since(began)
		return func() {
			w.aside = false
			s.takeDetails(w, details, err)
			w.details.due = s.nextDetails(w.position, time.Now(), took)
			s.proceed(w)
		}
	}}}
}

// takeDetails keeps what came; the state of a device is Read's to say.
func (s *Sampler) takeDetails(w *worker, details gpu.Details, err error) {
	d := w.details
	d.answered = true
	s.addFaults(w, details.Faults)
	if err == nil {
		// What was not there when the last report was made is not kept back until the next.
		if d.last.Time.IsZero() {
			s.rounds.urgent = true
			w.roster.learn()
		}
		details.Faults = nil
		d.last, d.fresh = details, true
		return
	}
	for _, known := range stateOf {
		if errors.Is(err, known.err) {
			return
		}
	}
	_, id := s.identity(w)
	s.logFailure("details of a device", w.reader, id, err)
}

// wantsDetails says whether the device is in a state in which it may be asked for more than a Reading: not asleep, and with a
// driver that answers.
func (w *worker) wantsDetails() bool {
	switch w.state {
	case gpu.StateOK, gpu.StateLost, gpu.StateNoPermission, gpu.StateUnsupported:
		return true
	}
	return false
}

// askForDetails follows each tick: it lets every worker do what its device is not needed for meanwhile.
func (s *Sampler) askForDetails() {
	s.rounds.begin(s.tickAt)
	period := detailsPeriod
	if s.config.Viewers != nil && s.config.Viewers() == 0 {
		period = idlePeriod
	}
	hurry := period < s.rounds.period
	s.rounds.period = period
	if hurry {
		s.rounds.due = earlier(s.rounds.due, s.tickAt.Add(period))
	}
	for i, readers := range s.devices {
		for _, w := range readers {
			if hurry && w.details != nil {
				w.details.due = earlier(w.details.due, s.nextDetails(i, s.tickAt, 0))
			}
			s.proceed(w)
		}
	}
}

// nextDetails gives when the device at that position is asked again, after a call that took so long: each has its own phase of
// the period, so that the devices spread over the ticks in it.
func (s *Sampler) nextDetails(position int, now time.Time, took time.Duration) time.Time {
	period := s.rounds.period
	phase := period * time.Duration(position) / time.Duration(max(1, len(s.devices)))
	soonest := now.Add(max(period/2, min(rarity*took, idlePeriod)))
	rounds := max(0, soonest.Sub(s.rounds.epoch)-phase+period-1) / period
	return s.rounds.epoch.Add(rounds*period + phase)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
