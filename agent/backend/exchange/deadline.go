package exchange

import (
	"context"
	"time"
)

// deadline ends a context with ErrSlow, and can be moved: the answer's beginning and its body have each their own.
type deadline struct {
	end   context.CancelCauseFunc
	timer *time.Timer // nil before the first
}

func newDeadline(ctx context.Context) (context.Context, *deadline) {
	ctx, end := context.WithCancelCause(ctx)
	return ctx, &deadline{end: end}
}

// allow gives so long from now on.
func (d *deadline) allow(limit time.Duration) {
	if d.timer == nil {
		d.timer = time.AfterFunc(limit, func() { d.end(ErrSlow) })
		return
	}
	d.timer.Reset(limit)
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.end(context.Canceled)
}
