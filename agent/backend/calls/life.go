package calls

import (
	"context"
	"fmt"
	"sync"
	"time"

	"muster/agent/backend"
)

// ErrStopping is the cause when Run ends during a call.
var ErrStopping = fmt.Errorf("the agent stops: %w", backend.ErrUnavailable)

// Life lasts until the end of a generator's Run: calls, and what is left of them, end with it. Make it with NewLife; a nil one never
// ends. Its methods may be called from any goroutine.
type Life struct {
	over chan struct{} // closed when it ends

	mu    sync.Mutex
	ended bool
	busy  int           // of what Idle waits for
	idle  chan struct{} // closed when busy is 0; nil while nobody waits for that
}

// NewLife gives one that has not ended.
func NewLife() *Life { return &Life{over: make(chan struct{})} }

// End ends it. It may be called again.
func (l *Life) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.over)
	}
}

// Over says whether it has ended.
func (l *Life) Over() bool {
	select {
	case <-l.done():
		return true
	default:
		return false
	}
}

func (l *Life) done() <-chan struct{} {
	if l == nil {
		return nil
	}
	return l.over
}

// Enter has Idle wait until leave is called; false when the life is over, and nothing begins any more.
func (l *Life) Enter() (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, false
	}
	l.busy++
	return l.leave, true
}

func (l *Life) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy--; l.busy == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// Settle runs what is left of a call by a goroutine that Idle waits for; false when the life is over, and nothing needs to be settled.
func (l *Life) Settle(rest func()) bool {
	leave, ok := l.Enter()
	if ok {
		go func() {
			defer leave()
			rest()
		}()
	}
	return ok
}

// Go is Settle for what must be done also when the life is over. Idle is sure to wait for it then only if what calls Go is waited for.
func (l *Life) Go(rest func()) {
	l.mu.Lock()
	l.busy++
	l.mu.Unlock()
	go func() {
		defer l.leave()
		rest()
	}()
}

// Idle gives a channel that is closed once nothing is under way.
func (l *Life) Idle() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	if l.busy == 0 {
		close(idle)
		l.idle = nil
	}
	return idle
}

// Within gives a call's context: it ends with ctx, or with the life and the cause ErrStopping.
func (l *Life) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	return l.bound(ctx, 0, ErrStopping)
}

// Context gives a context that ends with the life alone.
func (l *Life) Context() (context.Context, context.CancelFunc) {
	return l.bound(context.Background(), 0, context.Canceled)
}

// Linger gives a context that ends so long after the life, with the cause ErrStopping.
func (l *Life) Linger(after time.Duration) (context.Context, context.CancelFunc) {
	return l.bound(context.Background(), after, ErrStopping)
}

// bound gives a context that ends with ctx, or so long after the life.
func (l *Life) bound(ctx context.Context, after time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if after == 0 && l.Over() { // at once, or who asks it may go on for a moment
		cancel(cause)
	}
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-l.done():
		}
		late := time.NewTimer(after)
		defer late.Stop()
		select {
		case <-ctx.Done():
		case <-late.C:
			cancel(cause)
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
