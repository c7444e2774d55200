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
	"muster/shared/gpu"
	"muster/shared/wire"
)

// program is what a package knows of its child.
type program struct{ *Child }

var device = gpu.Device{ID: "GPU-1", Index: 1}

// occupied gives a slot with a child that sleeps, and whose connections are counted when they are closed.
func occupied(t *testing.T, f *Fleet) (s *Slot[*program], closed *int) {
	t.Helper()
	s, closed = NewSlot[*program](f, device), new(int)
	err := s.Launch(t.Context(), "model", func() (*program, error) {
		return &program{&Child{Process: sleeper(t, f), Port: 4711, Close: func() { *closed++ }}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, closed
}

func (s *Slot[C]) describe() wire.Generator {
	g := wire.Generator{State: wire.GeneratorIdle}
	s.Describe(&g, time.Now())
	return g
}

func TestSlotTellsOfItsChild(t *testing.T) {
	t.Parallel()
	f, _ := newFleet(t, nil)
	s, closed := occupied(t, f)
	child := s.Child
	if got := s.describe(); got.State != wire.GeneratorStarting || got.Loaded != "model" || got.Address != "127.0.0.1:4711" {
		t.Errorf("while it starts: %+v", got)
	}
	s.Tell(wire.GeneratorReady, "other")
	if got := s.describe(); got.State != wire.GeneratorReady || got.Loaded != "other" || got.Address != "127.0.0.1:4711" {
		t.Errorf("when it is ready: %+v", got)
	}
	if err := s.Stop("nobody wants it"); !errors.Is(err, backend.ErrUnavailable) || !strings.HasPrefix(err.Error(), "nobody wants it: ") || errors.Is(err, process.ErrStuck) {
		t.Errorf("got %v", err)
	}
	if got := s.describe(); got.State != wire.GeneratorIdle || got.Loaded != "" || got.Address != "" || got.Failures != 0 {
		t.Errorf("when it is stopped: %+v", got)
	}
	if exists(child.Process.PID()) || !s.empty() || *closed != 1 || len(*f.children.Load()) != 0 {
		t.Errorf("the child exists: %v, is held: %v, was closed %d times; %d are remembered", exists(child.Process.PID()), !s.empty(), *closed, len(*f.children.Load()))
	}
	if err := s.Drop("nobody wants it"); err != nil {
		t.Errorf("dropping what is not there: %v", err)
	}
}

// Failures open the breaker, with words; a success closes it.
func TestSlotRestsAfterFailures(t *testing.T) {
	t.Parallel()
	fails := func(s *Slot[*program]) { _ = s.Failed(errors.New("it crashed")) }
	breaks := func(s *Slot[*program]) { _ = s.Broken(errors.New("it can't be run")) }
	hangs := func(s *Slot[*program]) { _ = s.Failed(fmt.Errorf("process 1 %w", process.ErrStuck)) }
	succeeds := func(s *Slot[*program]) { s.Succeeded() }
	waits := func(*Slot[*program]) { <-time.After(time.Hour) }
	for name, tt := range map[string]struct {
		does     []func(*Slot[*program])
		failures int
		problem  string // "": none
	}{
		"nothing":                       {},
		"a failure":                     {[]func(*Slot[*program]){fails}, 1, ""},
		"two failures":                  {[]func(*Slot[*program]){fails, fails}, 2, "it crashed"},
		"a success between":             {[]func(*Slot[*program]){fails, succeeds, fails}, 1, ""},
		"what can't be mended":          {[]func(*Slot[*program]){breaks}, 1, "it can't be run"},
		"a child that does not end":     {[]func(*Slot[*program]){hangs}, 1, "does not end"},
		"a rest that is over":           {[]func(*Slot[*program]){breaks, waits}, 1, ""},
		"a try after the rest":          {[]func(*Slot[*program]){breaks, waits, fails}, 2, "it crashed"},
		"a success after the rest":      {[]func(*Slot[*program]){breaks, waits, succeeds, fails}, 1, ""},
		"failures that are far between": {[]func(*Slot[*program]){fails, waits, fails}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewSlot[*program](New(Config{Name: "program", Breaker: process.Breaker{Failures: 2, Window: 30 * time.Minute, Rest: 10 * time.Minute}}), device)
				for _, do := range tt.does {
					do(s)
				}
				err, got := s.Problem(time.Now()), s.describe()
				if got.Failures != tt.failures {
					t.Errorf("%d failures; want %d", got.Failures, tt.failures)
				}
				if tt.problem == "" {
					if err != nil || got.State != wire.GeneratorIdle || got.RetryAt != nil {
						t.Errorf("it rests: %v, %+v", err, got)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), "program on Device 1 is given a rest") || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("got %v", err)
				}
				if got.State != wire.GeneratorResting || !strings.Contains(err.Error(), got.RetryAt.Local().Format("15:04:05")) {
					t.Errorf("%+v, and in words %v", got, err)
				}
				<-time.After(time.Second)
				if later := s.Problem(time.Now()); later.Error() != err.Error() {
					t.Errorf("the words change with every second: %v, %v", err, later)
				}
			})
		})
	}
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	started := &program{&Child{Port: 4711}}
	for name, tt := range map[string]struct {
		before []func(*Slot[*program])
		start  error
		want   error // nil: it is started
		after  time.Duration
		fails  int
	}{
		"at once":             {},
		"after a failure":     {before: []func(*Slot[*program]){func(s *Slot[*program]) { _ = s.Failed(errTest) }}, after: 2 * time.Second, fails: 1},
		"after two":           {before: []func(*Slot[*program]){func(s *Slot[*program]) { _ = s.Failed(errTest); _ = s.Failed(errTest) }}, after: 4 * time.Second, fails: 2},
		"after a success":     {before: []func(*Slot[*program]){func(s *Slot[*program]) { _ = s.Failed(errTest); s.Succeeded(); _ = s.Failed(errTest) }}, after: 2 * time.Second, fails: 1},
		"during a rest":       {before: []func(*Slot[*program]){func(s *Slot[*program]) { _ = s.Broken(errTest) }}, want: backend.ErrUnavailable, fails: 1},
		"it can't be started": {start: errTest, want: backend.ErrUnavailable, fails: 1},
		"the fleet is ending": {start: calls.ErrStopping, want: calls.ErrStopping},
		"longer than the call": {before: []func(*Slot[*program]){func(s *Slot[*program]) {
			for range 3 {
				_ = s.Failed(errTest)
			}
		}}, want: errTest, after: 5 * time.Second, fails: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewSlot[*program](New(Config{Name: "program", Backoff: process.Backoff{First: 2 * time.Second, Longest: time.Minute}, Breaker: process.Breaker{Failures: 100}}), device)
				for _, do := range tt.before {
					do(s)
				}
				ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errTest)
				defer cancel()
				begun := time.Now()
				err := s.Launch(ctx, "model", func() (*program, error) {
					if tt.start != nil {
						return nil, tt.start
					}
					return started, nil
				})
				if took := time.Since(begun); !errors.Is(err, tt.want) || took != tt.after {
					t.Errorf("got %v after %v; want %v after %v", err, took, tt.want, tt.after)
				}
				if s.empty() != (tt.want != nil) || s.describe().Failures != tt.fails {
					t.Errorf("a child is held: %v; %d failures, want %d", !s.empty(), s.describe().Failures, tt.fails)
				}
			})
		})
	}
}
