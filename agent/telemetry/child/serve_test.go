package child

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }

// still is a reader that has nothing.
type still struct{}

func (still) Name() string { return "still" }

func (still) Inventory(context.Context) (telemetry.Found, error) { return telemetry.Found{}, nil }

func (still) Read(context.Context, string) (gpu.Reading, error) {
	return gpu.Reading{}, telemetry.ErrUnsupported
}

// slow is a reader whose calls for device "slow" return when it is told to, and that panics for device "panic".
type slow struct {
	still
	begun  chan string
	finish chan struct{}
	closed chan struct{}
}

func newSlow() *slow {
	return &slow{begun: make(chan string, 10), finish: make(chan struct{}), closed: make(chan struct{})}
}

func (s *slow) Read(ctx context.Context, id string) (gpu.Reading, error) {
	s.begun <- id
	switch id {
	case "slow":
		<-s.finish
	case "panic":
		panic("no such card")
	case "patient":
		<-ctx.Done()
		return gpu.Reading{}, ctx.Err()
	}
	return gpu.Reading{State: gpu.StateOK}, nil
}

func (s *slow) Wedged() bool { return true }

func (s *slow) Close() { close(s.closed) }

// line is a collector in this process.
type line struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *bufio.Scanner
	ended chan error
}

func serve(t *testing.T, ctx context.Context, reader telemetry.Reader) *line {
	t.Helper()
	in, requests := io.Pipe()
	answers, out := io.Pipe()
	l := &line{t, requests, bufio.NewScanner(answers), make(chan error, 1)}
	go func() {
		l.ended <- Serve(ctx, "v1", reader, in, out)
		out.Close()
	}()
	t.Cleanup(func() { requests.Close(); answers.Close() })
	if a := l.next(); a.Hello == nil || *a.Hello != (hello{Version, "v1"}) {
		t.Fatalf("the first line is %+v", a)
	}
	return l
}

func (l *line) ask(r request) {
	l.t.Helper()
	if err := json.NewEncoder(l.in).Encode(r); err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) next() answer {
	l.t.Helper()
	if !l.out.Scan() {
		l.t.Fatalf("no answer: %v", l.out.Err())
	}
	a, err := decodeAnswer(l.out.Bytes())
	if err != nil {
		l.t.Fatalf("%q: %v", l.out.Text(), err)
	}
	return a
}

func TestOneCallPerDeviceAndOthersBesideIt(t *testing.T) {
	t.Parallel()
	reader := newSlow()
	l := serve(t, t.Context(), reader)
	l.ask(request{Number: 1, Kind: askRead, ID: "slow"})
	<-reader.begun
	for i, kind := range []kind{askRead, askDetails, askPCIe} {
		l.ask(request{Number: uint64(2 + i), Kind: kind, ID: "slow"})
		if a := l.next(); a.Number != uint64(2+i) || a.Failure == nil || a.Failure.State != gpu.StateStuck {
			t.Errorf("%s beside a call that hangs: %+v", kind, a)
		}
	}
	l.ask(request{Number: 5, Kind: askRead, ID: "other"})
	if a := l.next(); a.Number != 5 || a.Failure != nil || a.Reading.State != gpu.StateOK {
		t.Errorf("another device: %+v", a)
	}
	l.ask(request{Number: 6, Kind: askInventory})
	if a := l.next(); a.Number != 6 || a.Found == nil || !a.Wedged {
		t.Errorf("the inventory: %+v", a)
	}
	close(reader.finish)
	if a := l.next(); a.Number != 1 || a.Failure != nil {
		t.Errorf("the late answer: %+v", a)
	}
	l.ask(request{Number: 7, Kind: askRead, ID: "slow"})
	if a := l.next(); a.Number != 7 || a.Failure != nil {
		t.Errorf("asked again: %+v", a)
	}
}

func TestWhatAReaderLacksIsUnsupported(t *testing.T) {
	t.Parallel()
	l := serve(t, t.Context(), still{})
	for i, kind := range []kind{askDetails, askPCIe, "of a later version"} {
		l.ask(request{Number: uint64(i + 1), Kind: kind, ID: "a"})
		if a := l.next(); a.Failure == nil || a.Failure.State != gpu.StateUnsupported || !strings.Contains(a.Failure.Text, "still") {
			t.Errorf("%s: %+v", kind, a)
		}
	}
	l.ask(request{Number: 9, Kind: askExamine})
	if a := l.next(); a.Findings == nil || len(*a.Findings) != 0 {
		t.Errorf("examine: %+v", a)
	}
}

func TestPanicFailsOneRequest(t *testing.T) {
	t.Parallel()
	reader := newSlow()
	l := serve(t, t.Context(), reader)
	l.ask(request{Number: 1, Kind: askRead, ID: "panic"})
	if a := l.next(); a.Number != 1 || a.Failure == nil || !strings.Contains(a.Failure.Text, "no such card") {
		t.Errorf("%+v", a)
	}
	l.ask(request{Number: 2, Kind: askRead, ID: "other"})
	if a := l.next(); a.Number != 2 || a.Failure != nil {
		t.Errorf("%+v", a)
	}
}

func TestCallsGetTheTimeOfTheirCaller(t *testing.T) {
	t.Parallel()
	l := serve(t, t.Context(), newSlow())
	l.ask(request{Number: 1, Kind: askRead, ID: "patient", Milliseconds: 1})
	if a := l.next(); a.Failure == nil || a.Failure.State != gpu.StateStuck {
		t.Errorf("%+v", a)
	}
}

// At its end a collector waits for what is inside the driver, lets go of it, and only then returns.
func TestServeEndsPolitely(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*line, context.CancelFunc){
		"end of stdin":    func(l *line, _ context.CancelFunc) { l.in.Close() },
		"half a request":  func(l *line, _ context.CancelFunc) { fmt.Fprint(l.in, `{"n":2,"do":"re`); l.in.Close() },
		"SIGTERM's place": func(_ *line, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reader := newSlow()
			l := serve(t, ctx, reader)
			l.ask(request{Number: 1, Kind: askRead, ID: "slow"})
			<-reader.begun
			end(l, cancel)
			select {
			case err := <-l.ended:
				t.Fatalf("it returned beside a call: %v", err)
			case <-reader.closed:
				t.Fatal("the driver was closed beside a call")
			case <-time.After(20 * time.Millisecond):
			}
			close(reader.finish)
			if a := l.next(); a.Number != 1 {
				t.Errorf("the last answer: %+v", a)
			}
			if err := <-l.ended; err != nil {
				t.Error(err)
			}
			<-reader.closed
		})
	}
}
