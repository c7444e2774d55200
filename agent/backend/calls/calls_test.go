package calls

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
)

var errTest = errors.New("the test gave it up")

func TestTurnIsOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn := NewTurn()
		if err := turn.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, name := range []string{"first", "second"} {
			go func() {
				if err := turn.Take(t.Context()); err != nil {
					t.Error(err)
				}
				order = append(order, name) // the turn guards it
				turn.Release()
			}()
			synctest.Wait()
		}
		if len(order) != 0 {
			t.Errorf("%q have the turn beside its holder", order)
		}
		turn.Release()
		synctest.Wait()
		if !slices.Equal(order, []string{"first", "second"}) {
			t.Errorf("got %q", order)
		}
	})
}

func TestTurnIsWaitedForUntilTheCallEnds(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(Turn, context.Context, func()) error{
		"silent": func(turn Turn, ctx context.Context, _ func()) error { return turn.Take(ctx) },
		"telling": func(turn Turn, ctx context.Context, tell func()) error {
			return turn.TakeTelling(ctx, time.Second, tell)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				turn := NewTurn()
				_ = turn.Take(t.Context())
				ctx, cancel := context.WithTimeoutCause(t.Context(), 3500*time.Millisecond, errTest)
				defer cancel()
				told := 0
				if err := take(turn, ctx, func() { told++ }); !errors.Is(err, errTest) {
					t.Errorf("got %v; want the cause", err)
				}
				if want := map[string]int{"silent": 0, "telling": 3}[name]; told != want {
					t.Errorf("told %d times; want %d", told, want)
				}
				turn.Release()
				if err := take(turn, t.Context(), nil); err != nil {
					t.Errorf("a free turn: %v", err)
				}
			})
		})
	}
}

func TestContextsEndWithTheLife(t *testing.T) {
	t.Parallel()
	const after = 2 * time.Second
	for name, tt := range map[string]struct {
		make  func(*Life, context.Context) (context.Context, context.CancelFunc)
		cause error
		lasts time.Duration // after the life
	}{
		"of a call":       {func(l *Life, ctx context.Context) (context.Context, context.CancelFunc) { return l.Within(ctx) }, ErrStopping, 0},
		"of what is left": {func(l *Life, _ context.Context) (context.Context, context.CancelFunc) { return l.Context() }, context.Canceled, 0},
		"of what lingers": {func(l *Life, _ context.Context) (context.Context, context.CancelFunc) { return l.Linger(after) }, ErrStopping, after},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := NewLife()
				ctx, cancel := tt.make(l, t.Context())
				defer cancel()
				<-time.After(time.Hour)
				if ctx.Err() != nil || l.Over() {
					t.Fatal("it ended before the life")
				}
				l.End()
				l.End()
				begun := time.Now()
				<-ctx.Done()
				if took := time.Since(begun); took != tt.lasts || !errors.Is(context.Cause(ctx), tt.cause) || !l.Over() {
					t.Errorf("it ended %v after the life with %v", took, context.Cause(ctx))
				}
				late, end := tt.make(l, t.Context())
				if ended := late.Err() != nil; ended != (tt.lasts == 0) {
					t.Errorf("a context made after the life has ended: %v", ended)
				}
				end()
				if late.Err() == nil {
					t.Error("its own end does not end it")
				}
			})
		})
	}
}

func TestContextOfACallEndsWithTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outer, cancel := context.WithCancelCause(t.Context())
		ctx, end := NewLife().Within(outer)
		defer end()
		cancel(errTest)
		if err := context.Cause(ctx); !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
		if !errors.Is(ErrStopping, backend.ErrUnavailable) {
			t.Error("a call that ends with the agent is not tried elsewhere")
		}
	})
}

func TestNoLifeNeverEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l *Life
		ctx, end := l.Context()
		lingering, leave := l.Linger(time.Second)
		<-time.After(24 * time.Hour)
		if ctx.Err() != nil || lingering.Err() != nil || l.Over() {
			t.Error("it ended")
		}
		end()
		leave()
	})
}

func TestIdleWaitsForWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLife()
		idle := func() bool {
			synctest.Wait()
			select {
			case <-l.Idle():
				return true
			default:
				return false
			}
		}
		if !idle() {
			t.Error("a new life is not idle")
		}
		leave, ok := l.Enter()
		rest, more := make(chan struct{}), make(chan struct{})
		if !ok || !l.Settle(func() { <-rest }) || idle() {
			t.Error("a call is refused, or not waited for")
		}
		before := l.Idle()
		l.End()
		if _, ok := l.Enter(); ok || l.Settle(func() { t.Error("it runs") }) {
			t.Error("something begins when it is over")
		}
		l.Go(func() { <-more })
		leave()
		close(rest)
		if idle() {
			t.Error("what began within a call is not waited for")
		}
		close(more)
		if <-before; !idle() {
			t.Error("it is not idle when all has ended")
		}
	})
}
