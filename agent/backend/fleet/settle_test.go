package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/calls"
	"muster/agent/process"
)

// idle is a slot with a turn that the test has, of a fleet whose Run the test ends.
func idle(t *testing.T) (s *Slot[*program], end context.CancelFunc) {
	t.Helper()
	f := New(Config{Name: "program"})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	s = NewSlot[*program](f, device)
	if err := s.Turn.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, cancel
}

// free says whether nobody has the turn.
func free[C holder](s *Slot[C]) bool {
	synctest.Wait()
	return len(s.Turn) == 0
}

func TestTurnIsHandedOnToWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, end := idle(t)
		defer end()
		done := make(chan struct{})
		if !s.HandOn(func(ctx context.Context) {
			<-done
			if ctx.Err() != nil {
				t.Errorf("it ended with %v", context.Cause(ctx))
			}
		}) {
			t.Fatal("nothing is handed on")
		}
		<-time.After(time.Hour)
		if free(s) {
			t.Error("somebody could have the turn meanwhile")
		}
		close(done)
		if !free(s) {
			t.Error("the turn is not given back")
		}
	})
}

// What is left ends with the fleet, and when the device is wanted empty.
func TestWhatIsLeftEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		by    func(s *Slot[*program], end context.CancelFunc) error
		cause error
		gives error // by
	}{
		"with the fleet":    {func(_ *Slot[*program], end context.CancelFunc) error { end(); return nil }, calls.ErrStopping, nil},
		"with an unloading": {func(s *Slot[*program], _ context.CancelFunc) error { return s.Unload(context.Background(), nil) }, ErrUnload, nil},
		"with an unloading that is given up": {func(s *Slot[*program], _ context.CancelFunc) error {
			ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errTest)
			defer cancel()
			return s.Unload(ctx, nil)
		}, ErrUnload, errTest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, end := idle(t)
				defer end()
				var cause error
				s.HandOn(func(ctx context.Context) {
					<-ctx.Done()
					cause = context.Cause(ctx)
					if tt.gives != nil {
						<-time.After(time.Minute)
					}
				})
				if err := tt.by(s, end); !errors.Is(err, tt.gives) {
					t.Errorf("got %v; want %v", err, tt.gives)
				}
				<-time.After(2 * time.Minute)
				if !free(s) || !errors.Is(cause, tt.cause) {
					t.Errorf("the turn is free: %v; what is left ended with %v", free(s), cause)
				}
			})
		})
	}
}

func TestNothingIsHandedOnAfterRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, end := idle(t)
		end()
		synctest.Wait()
		if s.HandOn(func(context.Context) { t.Error("it runs") }) || free(s) {
			t.Error("the turn was handed on")
		}
		s.Turn.Release()
		if err := s.Unload(t.Context(), nil); !errors.Is(err, calls.ErrStopping) || !free(s) {
			t.Errorf("unloading gives %v; the turn is free: %v", err, free(s))
		}
	})
}

func TestChildThatStartsIsLeftUnlessTheDeviceIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cause error
		ends  bool
	}{
		"a person cancels":    {errTest, false},
		"no cause":            {nil, false},
		"the device is taken": {fmt.Errorf("reserved: %w", backend.ErrUnavailable), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _ := newFleet(t, nil)
			s, _ := occupied(t, f)
			pid := s.Child.Process.PID()
			_ = s.Turn.Take(t.Context())
			if got := s.LeaveStarting(tt.cause); got != tt.ends {
				t.Fatalf("the turn was handed on: %v", got)
			}
			if !tt.ends {
				s.Turn.Release()
			}
			if err := s.Turn.Take(t.Context()); err != nil { // comes after what is left
				t.Fatal(err)
			}
			if exists(pid) == tt.ends || s.empty() != tt.ends {
				t.Errorf("the child exists: %v", exists(pid))
			}
			if tt.ends && s.LeaveStarting(tt.cause) {
				t.Error("the turn is handed on for no child")
			}
		})
	}
}

func TestUnload(t *testing.T) {
	t.Parallel()
	for name, dies := range map[string]bool{"a child that lives": false, "a child that has ended": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _ := newFleet(t, nil)
			s, _ := occupied(t, f)
			pid := s.Child.Process.PID()
			if dies {
				_ = s.Child.Process.Kill()
			}
			explained := false
			for range 2 { // nothing is there the second time
				err := s.Unload(t.Context(), func() error {
					explained = true
					return s.Failed(s.Stop("it ended"))
				})
				if err != nil {
					t.Error(err)
				}
			}
			if explained != dies || exists(pid) || !s.empty() || f.Owns(pid) {
				t.Errorf("its end was explained: %v; it exists: %v", explained, exists(pid))
			}
		})
	}
}

// One that was killed in vain is told of until it has gone.
func TestUnloadTellsOfAChildThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	f, _ := newFleet(t, nil)
	s := NewSlot[*program](f, device)
	s.stuck = sleeper(t, f)
	want := fmt.Sprintf("the memory of Device 1 is still held: process %d does not end", s.stuck.PID())
	for range 2 {
		if err := s.Unload(t.Context(), nil); !errors.Is(err, process.ErrStuck) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
	_ = s.stuck.Kill()
	if err := s.Unload(t.Context(), nil); err != nil || s.stuck != nil {
		t.Errorf("when it has gone: %v", err)
	}
}
