package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

func TestListensAndAlive(t *testing.T) {
	t.Parallel()
	f, _ := newFleet(t, nil)
	c := listening(t, f)
	if c.Listens() != nil || c.Alive() != nil {
		t.Errorf("it listens: %v, it lives: %v", c.Listens(), c.Alive())
	}
	foreign, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	taken := &Child{Process: c.Process, Port: foreign.Addr().(*net.TCPAddr).Port}
	if !errors.Is(taken.Listens(), ErrPort) || !errors.Is(taken.Alive(), ErrPort) {
		t.Errorf("on another's port: %v, %v", taken.Listens(), taken.Alive())
	}
	_ = c.Process.Kill()
	if err := c.Listens(); err == nil || errors.Is(err, ErrPort) {
		t.Errorf("nobody listens: %v; want that it does not listen yet", err)
	}
	if !errors.Is(c.Alive(), ErrEnded) {
		t.Errorf("it has ended: %v", c.Alive())
	}
}

func TestAwait(t *testing.T) {
	t.Parallel()
	errOther, errFinal := errors.New("not yet"), errors.New("never")
	for name, tt := range map[string]struct {
		limit  time.Duration
		checks []error // one after the other; the last stays
		during func(*Child, context.CancelCauseFunc)
		want   error
		times  int // it is checked; 0 does not matter
	}{
		"at once":        {limit: time.Minute, checks: []error{nil}, times: 1},
		"later":          {limit: time.Minute, checks: []error{errOther, errOther, nil}, times: 3},
		"another's port": {limit: time.Minute, checks: []error{errOther, fmt.Errorf("it is gone: %w", ErrPort)}, want: ErrPort, times: 2},
		"final":          {limit: time.Minute, checks: []error{errOther, fmt.Errorf("it is wrong: %w", errFinal)}, want: errFinal, times: 2},
		"never":          {limit: 50 * time.Millisecond, checks: []error{errOther}, want: ErrSlow},
		"it ends":        {limit: time.Minute, checks: []error{errOther}, during: func(c *Child, _ context.CancelCauseFunc) { _ = c.Process.Kill() }, want: ErrEnded},
		"given up":       {limit: time.Minute, checks: []error{errOther}, during: func(_ *Child, cancel context.CancelCauseFunc) { cancel(errTest) }, want: errTest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _ := newFleet(t, nil)
			c := &Child{Process: sleeper(t, f)}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			times := 0
			err := c.Await(ctx, tt.limit, 50*time.Millisecond, func(context.Context) error {
				if tt.during != nil {
					tt.during(c, cancel)
				}
				times++
				return tt.checks[min(times, len(tt.checks))-1]
			}, errFinal)
			if !errors.Is(err, tt.want) || c.Ready != (tt.want == nil) || tt.times > 0 && times != tt.times {
				t.Errorf("got %v after %d checks, ready %v; want %v after %d", err, times, c.Ready, tt.want, tt.times)
			}
			if tt.want == nil {
				if err := c.Await(ctx, 0, 0, func(context.Context) error { return errOther }); err != nil {
					t.Errorf("one that is ready is awaited: %v", err)
				}
			}
		})
	}
}

// listening gives a child that listens. Somebody else may take a free port before it is used: another one will do.
func listening(t *testing.T, f *Fleet) *Child {
	t.Helper()
	line := ""
	for range 5 {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		process, said := start(t, f, os.Args[0], "listen", fmt.Sprint(port))
		if said == "<nil>" {
			return &Child{Process: process, Port: port}
		}
		line = said
	}
	t.Fatalf("no port could be listened on: %s", line)
	return nil
}
