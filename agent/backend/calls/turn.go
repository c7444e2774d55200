// Package calls is what the calls of every generator have in common: they use it one after the other, and end with its Run, after
// which nothing of theirs is left on it. It is a leaf of the backends.
package calls

import (
	"context"
	"time"
)

// Turn is the right to use a generator, or one device of it. A call has it, or what is left of a call that was given up, to which it
// passes without being given back. Make it with NewTurn.
type Turn chan struct{} // holds a token while somebody has it

// NewTurn gives one that nobody has.
func NewTurn() Turn { return make(Turn, 1) }

// Take waits for the turn. Its error is the context's cause.
func (t Turn) Take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TakeTelling waits as Take does, and calls tell each time that so long has passed.
func (t Turn) TakeTelling(ctx context.Context, every time.Duration, tell func()) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case t <- struct{}{}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			tell()
		}
	}
}

// Release gives it back. Whoever has it calls it once.
func (t Turn) Release() { <-t }
