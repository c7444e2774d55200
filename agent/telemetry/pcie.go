package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"muster/shared/gpu"
)

// pcieDeadline is how long a measurement of a device's bus may take; a device whose driver takes longer is stuck.
const pcieDeadline = 2 * time.Second

// Errors of PCIeThroughput beside those of Read.
var (
	ErrUnknownDevice = fmt.Errorf("no device has this number: %w", fs.ErrNotExist)
	ErrNoThroughput  = fmt.Errorf("nothing that reads the device can measure it: %w", errors.ErrUnsupported)
)

// measurements is the part of a worker that measures what moves over the bus. All fields belong to the sampler's loop.
type measurements struct {
	errand
	waiting []chan<- measurement // capacity 1 each; all get the result of one call
}

type measurement struct {
	throughput gpu.PCIeThroughput
	err        error
	final      bool // nobody else can be asked
}

func (s *Sampler) newMeasurements(w *worker, reader PCIeReader, id string) *measurements {
	return &measurements{errand: errand{pcieDeadline, func(ctx context.Context) func() {
		throughput, err := guard(func() (gpu.PCIeThroughput, error) { return reader.PCIeThroughput(ctx, id) })
		return func() {
			w.aside = false
			w.throughput.answer(measurement{throughput: throughput, err: err})
			s.proceed(w)
		}
	}}}
}

func (m *measurements) answer(with measurement) {
	for _, waiting := range m.waiting {
		waiting <- with
	}
	m.waiting = nil
}

// PCIeThroughput measures what moves over the bus of a device, which takes tens of milliseconds. There is one measurement at a
// time of a device: who asks meanwhile gets its result. Errors wrap ErrUnknownDevice, ErrNoThroughput when no reader of the device
// can, ErrSuspended when it would have to be woken, ErrLost, and context.DeadlineExceeded when the driver does not answer.
func (s *Sampler) PCIeThroughput(ctx context.Context, ref gpu.Ref) (gpu.PCIeThroughput, error) {
	ctx, cancel := context.WithTimeout(ctx, pcieDeadline)
	defer cancel()
	m := measurement{err: ErrUnsupported}
	for candidate := 0; !m.final && errors.Is(m.err, ErrUnsupported); candidate++ {
		m = s.measure(ctx, ref, candidate)
	}
	if errors.Is(m.err, ErrUnsupported) {
		m.err = ErrNoThroughput
	}
	if m.err != nil {
		return gpu.PCIeThroughput{}, fmt.Errorf("PCIe throughput of device %s: %w", ref, m.err)
	}
	return m.throughput, nil
}

// measure asks the reader of that rank among those of the device.
func (s *Sampler) measure(ctx context.Context, ref gpu.Ref, candidate int) measurement {
	answer := make(chan measurement, 1)
	asked := s.arrived
	for {
		select {
		case asked <- func() { s.queueMeasurement(ref, candidate, answer) }:
			asked = nil
		case m := <-answer:
			return m
		case <-s.ended:
			return measurement{err: context.Canceled}
		case <-ctx.Done():
			return measurement{err: ctx.Err()}
		}
	}
}

// queueMeasurement runs on the loop.
func (s *Sampler) queueMeasurement(ref gpu.Ref, candidate int, answer chan<- measurement) {
	if ref < 0 || int(ref) >= len(s.devices) {
		answer <- measurement{err: ErrUnknownDevice}
		return
	}
	able := slices.DeleteFunc(slices.Clone(s.devices[ref]), func(w *worker) bool { return w.throughput == nil })
	if candidate >= len(able) {
		answer <- measurement{err: ErrUnsupported, final: true}
		return
	}
	w := able[candidate]
	if err := w.refusal(time.Now()); err != nil {
		answer <- measurement{err: err}
		return
	}
	w.throughput.waiting = append(w.throughput.waiting, answer)
	s.proceed(w)
}

// refusal says why the device can't be asked now; nil when it can.
func (w *worker) refusal(now time.Time) error {
	switch {
	case w.late(now):
		return context.DeadlineExceeded
	case w.missing:
		return ErrLost
	}
	for _, known := range stateOf {
		if w.state == known.state {
			return known.err
		}
	}
	return nil
}
