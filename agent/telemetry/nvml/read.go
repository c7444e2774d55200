//go:build cgo

package nvml

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

var errReconnecting = errors.New("the NVIDIA driver is being connected anew: this ends by itself")

// reconnectWait is how long connecting anew may take before the devices are stuck.
const reconnectWait = time.Second

// reconnecting says why no call can be made.
func reconnecting(lib *library) error {
	if lib.busy(time.Now()) < reconnectWait {
		return errReconnecting
	}
	return fmt.Errorf("%w; it takes long: %w", errReconnecting, context.DeadlineExceeded)
}

// read measures one device by the steps that it has.
func (d *driver) read(ctx context.Context, r *Reader, id string) (gpu.Reading, error) {
	lib, dev, leave, err := d.visit(ctx, r, id)
	if errors.Is(err, errReconnecting) {
		if last, ok := d.whileAway(id); ok {
			return last, nil
		}
	}
	if err != nil {
		return gpu.Reading{MemoryTotalBytes: dev.totalBytes()}, err
	}
	defer leave()
	s := &sample{reader: r, lib: lib, dev: dev}
	if err := s.run(ctx, d, id, &dev.cheap, tickSteps); err != nil {
		return gpu.Reading{}, err
	}
	if err := s.err(d); err != nil {
		return gpu.Reading{}, err
	}
	d.measured(id, s)
	return s.reading, nil
}

// visit enters the library for a device that may be asked now, alone: so a device that hangs holds one thread, and the others
// who want something of it wait for their deadline without one. With an error there is nothing to leave, and the device may be
// nil.
func (d *driver) visit(ctx context.Context, r *Reader, id string) (lib *library, dev *device, leave func(), err error) {
	d.mu.Lock()
	lib, dev = d.lib, d.devices[id]
	refused := d.refused[id]
	d.mu.Unlock()
	switch {
	case dev == nil && refused == nil:
		return nil, nil, nil, telemetry.ErrLost
	case dev == nil:
		return nil, nil, nil, refused
	case r.asleep(dev.statusFile):
		return nil, dev, nil, telemetry.ErrSuspended
	}
	select {
	case dev.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, dev, nil, fmt.Errorf("a driver call for it has not returned: %w", ctx.Err())
	}
	v := lib.enter()
	leave = func() {
		lib.leave(v)
		<-dev.turn
	}
	if v == 0 || dev.epoch != lib.current() {
		leave()
		return nil, dev, nil, reconnecting(lib)
	}
	return lib, dev, leave, nil
}

// sample is one Read or Details under way.
type sample struct {
	reader   *Reader
	lib      *library
	dev      *device
	reading  gpu.Reading
	details  gpu.Details
	answered bool
	failed   status // the last getter's that neither gave a value nor said that there is none
	fatal    status // the device's or driver's, not a getter's
	absent   map[string]gpu.Absence
}

// measure takes one step, and notes how it went and why fields have no value.
func (s *sample) measure(step *step) status {
	result := step.take(s)
	if result == success {
		s.answered = true
		return result
	}
	switch {
	case result.fatal():
		s.fatal = result
	case result == nonsense:
		s.answered = true
	case !result.absent():
		s.failed = result
	}
	if s.absent == nil {
		s.absent = map[string]gpu.Absence{}
	}
	for _, field := range step.fields {
		s.absent[field] = result.why()
	}
	return result
}

func (s *sample) err(d *driver) error {
	switch s.fatal {
	case success:
	case uninitialized, driverNotLoaded, versionMismatch:
		d.lose()
		fallthrough
	default:
		return fmt.Errorf("%s: %w", s.fatal, s.fatal.state())
	}
	switch {
	case s.answered:
		return nil
	case s.failed == unknown: // as in a container that lost its devices: only a new connection can help
		d.lose()
		return errors.New(whyNot(s.failed))
	case s.failed == noPermission:
		return telemetry.ErrNoPermission
	case s.failed != success:
		return errors.New(s.failed.String())
	default:
		return telemetry.ErrUnsupported
	}
}

// measured remembers what a Read gave.
func (d *driver) measured(id string, s *sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.track(id)
	t.last, t.measured = s.reading, true
	t.idle = s.reading.UtilizationPercent != nil && *s.reading.UtilizationPercent == 0
	t.absent = s.absent
}

// absences gives why fields have no value: for good, or in the last Reading.
func (d *driver) absences(id string) map[string]gpu.Absence {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.track(id)
	absent := map[string]gpu.Absence{}
	maps.Copy(absent, t.lacks)
	maps.Copy(absent, t.absent)
	return absent
}
