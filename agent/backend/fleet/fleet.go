// Package fleet is what generators have in common that muster starts itself, one child for each device: the life of the children
// (Fleet), and of each device the turn of its calls, how often its child failed, and what is done for a call that was given up (Slot).
//
// What a program is started with, when it is ready, how it is spoken to, and what its faults mean is its own package's.
package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"muster/agent/backend/calls"
	"muster/agent/process"
)

// Config is how the children of a fleet are treated. Name and Log are required.
type Config struct {
	Name string // of the program, for people: "sd-server"
	// Backoff and Breaker are those of every device; zero values are process's own.
	Backoff process.Backoff
	Breaker process.Breaker
	Log     *slog.Logger
}

// Fleet owns every child of one program. Make it with New; its methods may be called from any goroutine.
type Fleet struct {
	cfg     Config
	life    *calls.Life   // ends with Run's context
	running chan struct{} // closed when Run begins

	children atomic.Pointer[children] // changed under mu

	mu      sync.Mutex
	started bool // by Run
	closed  bool // nothing may be started any more
}

// New makes a fleet without children.
func New(cfg Config) *Fleet {
	f := &Fleet{cfg: cfg, life: calls.NewLife(), running: make(chan struct{})}
	f.children.Store(&children{})
	return f
}

// Run owns the children: none is started before it begins, and all are gone when it returns, after ctx ended. Its error then wraps
// process.ErrStuck when a child could not be killed. Meanwhile it does what else it is given, which ends with ctx.
func (f *Fleet) Run(ctx context.Context, meanwhile ...func(context.Context)) error {
	f.mu.Lock()
	again := f.started
	f.started = true
	f.mu.Unlock()
	if again {
		return fmt.Errorf("%s fleet: Run was called twice", f.cfg.Name)
	}
	close(f.running)
	var others sync.WaitGroup
	for _, do := range meanwhile {
		others.Go(func() { do(ctx) })
	}
	<-ctx.Done()

	f.mu.Lock()
	f.closed = true
	last := slices.Collect(maps.Values(*f.children.Load()))
	f.mu.Unlock()
	f.life.End()
	err := stopAll(last)
	<-f.life.Idle()
	others.Wait()
	return err
}

// Enter waits until Run has begun, and gives the context of a call: it ends with ctx, or with Run and the cause calls.ErrStopping.
func (f *Fleet) Enter(ctx context.Context) (context.Context, context.CancelFunc, error) {
	select {
	case <-f.running:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	ctx, cancel := f.life.Within(ctx)
	return ctx, cancel, nil
}

// Start starts a child that Run will end. Its error is calls.ErrStopping when Run has ended.
func (f *Fleet) Start(c process.Command) (*process.Child, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, calls.ErrStopping
	}
	child, err := process.Start(c)
	if err != nil {
		return nil, err
	}
	f.publish(func(all children) { all[child.PID()] = child })
	return child, nil
}

// forget takes a child that is gone from the list.
func (f *Fleet) forget(child *process.Child) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publish(func(all children) { delete(all, child.PID()) })
}

// Settle runs what is left of a call that has returned already; false when the fleet is ending and nothing needs to be settled.
func (f *Fleet) Settle(rest func()) bool { return f.life.Settle(rest) }
