package models

import (
	"context"
	"fmt"
	"time"
)

// Causes of an attempt that the watch ends.
type slowError struct{ words string }

func (e *slowError) Error() string { return e.words }

// watch reports the progress of an attempt, and ends one that stands still, creeps, or fills the disk.
func (t *transfer) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	limits := t.library.limits
	ticker := time.NewTicker(limits.progress)
	defer ticker.Stop()
	var m meter
	last, moved := t.here.Load(), time.Now()
	m.add(moved, last)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			here := t.here.Load()
			if here != last {
				last, moved = here, now
			}
			m.add(now, here)
			t.library.progress(t.record, here, m.speed(speedWindow))
			switch came, whole := m.over(limits.idle); {
			case now.Sub(moved) >= limits.idle:
				cancel(&slowError{fmt.Sprintf("nothing came from %s for %s", t.host, limits.idle)})
			case whole && came < limits.slow:
				cancel(&slowError{fmt.Sprintf("%s sends less than %d bytes a second", t.host, limits.slow/int64(limits.idle/time.Second))})
			default:
				if err := t.library.room(0); err != nil {
					cancel(err)
				}
			}
		}
	}
}

// speedWindow is over how long the speed is told.
const speedWindow = 5 * time.Second

// meter remembers how much was here when.
type meter struct{ samples []sample }

type sample struct {
	at   time.Time
	here int64
}

// maxSamples covers a minute at two a second.
const maxSamples = 150

func (m *meter) add(at time.Time, here int64) {
	m.samples = append(m.samples, sample{at, here})
	if len(m.samples) > maxSamples {
		m.samples = m.samples[1:]
	}
}

// over gives how many bytes came in the last so long; whole is false when it has not been so long yet.
func (m *meter) over(span time.Duration) (bytes int64, whole bool) {
	newest := m.samples[len(m.samples)-1]
	for i := len(m.samples) - 1; i >= 0; i-- {
		if newest.at.Sub(m.samples[i].at) >= span {
			return newest.here - m.samples[i].here, true
		}
	}
	return newest.here - m.samples[0].here, false
}

// speed is in bytes a second.
func (m *meter) speed(span time.Duration) int64 {
	newest, oldest := m.samples[len(m.samples)-1], m.samples[0]
	for i := len(m.samples) - 1; i >= 0; i-- {
		if newest.at.Sub(m.samples[i].at) >= span {
			oldest = m.samples[i]
			break
		}
	}
	took := newest.at.Sub(oldest.at)
	if took <= 0 {
		return 0
	}
	return int64(float64(newest.here-oldest.here) / took.Seconds())
}
