package live

import (
	"context"
	"sync/atomic"
	"time"

	"muster/webapp/state"
)

// A socket can stay open for minutes while nothing comes through it: a sleeping laptop, a dead tunnel. watch notices.
const (
	leastStale = 3 * time.Second
	leastDead  = 15 * time.Second
)

type watch struct {
	report func(state.Link)
	drop   func()
	last   atomic.Int64 // of the last frame, monotonic nanoseconds since start
	period atomic.Int64 // between frames, nanoseconds
	start  time.Time
}

func newWatch(report func(state.Link), drop func()) *watch {
	return &watch{report: report, drop: drop, start: time.Now()}
}

func (w *watch) every(period time.Duration) { w.period.Store(int64(period)) }
func (w *watch) frame()                     { w.last.Store(int64(time.Since(w.start))) }

// silence says how long nothing came, and after how long that counts as stale and as dead.
func (w *watch) silence() (silent, stale, dead time.Duration) {
	period := time.Duration(w.period.Load())
	silent = time.Since(w.start) - time.Duration(w.last.Load())
	return silent, max(leastStale, 4*period), max(leastDead, 10*period)
}

func (w *watch) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch silent, stale, dead := w.silence(); {
		case silent > dead:
			w.drop()
			return
		case silent > stale:
			w.report(state.Stale)
		}
	}
}
