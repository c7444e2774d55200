package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// Wedger is a Reader that can tell that nothing but another process gets further: it would have to connect to the driver anew
// and can't, because a call that never returned is still inside.
type Wedger interface {
	Wedged() bool
}

// Careful is a Reader whose Inventory can go step by step, in a process that replaces one which a device has ended: it asks one
// device after the other, calls begin with the place of each in its driver's order before, and does not touch those in skip.
// known are the devices as they were last listed, with what tells them apart: they stand for those that are not asked or do not
// answer. Found lists the devices in skip too, with an Error, and Read answers for them with context.DeadlineExceeded.
type Careful interface {
	InventoryCarefully(ctx context.Context, known []gpu.Device, skip []int, begin func(place int)) (telemetry.Found, error)
}

// Closer is a Reader that can let go of its driver. Close is called once, when no other call is inside.
type Closer interface {
	Close()
}

// Serve is the collector's half: it answers the requests that come from in, one line each, by asking the reader, and returns
// when in ends or ctx does: after every call has returned and the reader was closed. So a call that never returns keeps the
// process, and that is meant: ending it could hang the device for good. The error is of in or out; the end of in is none.
func Serve(ctx context.Context, build string, reader telemetry.Reader, in io.ReadCloser, out io.Writer) error {
	s := &server{reader: reader, inside: map[string]bool{}, out: out}
	s.sent.L = &s.saying
	s.say(answer{Hello: &hello{Version, build}})
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { _ = in.Close() })()
	err := s.take(ctx, in)
	cancel()
	s.calls.Wait()
	s.senders.Wait()
	if closer, ok := reader.(Closer); ok {
		closer.Close()
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("requests: %w", err)
	}
	return s.failed
}

type server struct {
	reader telemetry.Reader
	calls  sync.WaitGroup

	mu     sync.Mutex
	inside map[string]bool // what a call is inside for: a device's ID, or a kind without device

	senders sync.WaitGroup // is zero when nothing is left to write
	out     io.Writer
	saying  sync.Mutex
	unsent  []byte    // answers
	sending bool      // send runs
	sent    sync.Cond // on saying: send has ended
	failed  error     // of the first line that could not be written
}

// take starts a call for each request until in ends, which is an error too.
func (s *server) take(ctx context.Context, in io.Reader) error {
	lines := bufio.NewReaderSize(in, maxRequest)
	for {
		line, err := readLine(lines)
		if err != nil {
			return err
		}
		r, err := decodeRequest(line)
		if err != nil {
			fmt.Fprintf(os.Stderr, "not a request: %.80q: %v\n", line, err)
			continue
		}
		s.begin(ctx, r)
	}
}

// readLine gives the next line without its end; one that is longer than the reader's buffer, or was cut off by the end, is
// skipped.
func readLine(lines *bufio.Reader) ([]byte, error) {
	for {
		line, err := lines.ReadSlice('\n')
		if err == nil {
			return line[:len(line)-1], nil
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil {
			return nil, err
		}
	}
}

// begin makes the call in a goroutine of its own, unless one for the same device is inside already: a device that hangs holds
// one thread, whatever is asked of it.
func (s *server) begin(ctx context.Context, r request) {
	place := "device " + r.ID
	if r.ID == "" {
		place = string(r.Kind)
	}
	s.mu.Lock()
	busy := s.inside[place]
	s.inside[place] = true
	s.mu.Unlock()
	if busy {
		s.say(answer{Number: r.Number, Failure: newFailure(fmt.Errorf("an earlier call has not returned: %w", context.DeadlineExceeded))})
		return
	}
	s.calls.Go(func() {
		a := s.call(ctx, r)
		s.mu.Lock()
		delete(s.inside, place)
		s.mu.Unlock()
		a.Number = r.Number
		s.say(a)
	})
}

// call asks the reader. A panic is a failure of that request alone; its stack goes to stderr.
func (s *server) call(ctx context.Context, r request) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "a reader panicked: %v\n%s", p, debug.Stack())
			a = answer{Failure: newFailure(fmt.Errorf("the reader panicked: %v; please report this", p))}
		}
	}()
	if r.Milliseconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Milliseconds)*time.Millisecond)
		defer cancel()
	}
	switch r.Kind {
	case askInventory:
		found, err := s.inventory(ctx, r)
		a.Found, a.Failure = &found, newFailure(err)
		if w, ok := s.reader.(Wedger); ok {
			a.Wedged = w.Wedged()
		}
	case askRead:
		reading, err := s.reader.Read(ctx, r.ID)
		a.Reading, a.Failure = &reading, newFailure(err)
	case askDetails:
		if reader, ok := s.reader.(telemetry.DetailReader); ok {
			a.Details, a.Failure = valued(reader.Details(ctx, r.ID))
			return a
		}
		a.Failure = s.without(r)
	case askPCIe:
		if reader, ok := s.reader.(telemetry.PCIeReader); ok {
			a.PCIe, a.Failure = valued(reader.PCIeThroughput(ctx, r.ID))
			return a
		}
		a.Failure = s.without(r)
	case askExamine:
		findings := []telemetry.Finding{}
		if reader, ok := s.reader.(telemetry.Examiner); ok {
			findings = append(findings, reader.Examine(ctx)...)
		}
		a.Findings = &findings
	default:
		a.Failure = s.without(r)
	}
	return a
}

func (s *server) inventory(ctx context.Context, r request) (telemetry.Found, error) {
	reader, ok := s.reader.(Careful)
	if !ok || !r.Careful {
		return s.reader.Inventory(ctx)
	}
	return reader.InventoryCarefully(ctx, r.Known, r.Skip, func(place int) {
		s.say(answer{Number: r.Number, Asking: &place})
		s.flush() // it must be out before the call that may end the process
	})
}

func valued[T gpu.Details | gpu.PCIeThroughput](v T, err error) (*T, *failure) {
	if err != nil {
		return nil, newFailure(err)
	}
	return &v, nil
}

func (s *server) without(r request) *failure {
	return newFailure(fmt.Errorf("%s has no %q: %w", s.reader.Name(), r.Kind, telemetry.ErrUnsupported))
}

// say has a line written.
func (s *server) say(a answer) {
	line := a.line()
	s.saying.Lock()
	defer s.saying.Unlock()
	s.unsent = append(s.unsent, line...)
	if !s.sending {
		s.sending = true
		s.senders.Go(s.send)
	}
}

// send writes lines until there are none. Answers of one tick go as one: each write would wake the agent.
func (s *server) send() {
	runtime.Gosched()
	s.saying.Lock()
	defer s.saying.Unlock()
	for len(s.unsent) > 0 {
		lines := s.unsent
		s.unsent = nil
		s.saying.Unlock()
		_, err := s.out.Write(lines)
		s.saying.Lock()
		if err != nil && s.failed == nil {
			s.failed = fmt.Errorf("answers: %w", err)
		}
	}
	s.sending = false
	s.sent.Broadcast()
}

// flush waits until everything said is written.
func (s *server) flush() {
	s.saying.Lock()
	defer s.saying.Unlock()
	for s.sending {
		s.sent.Wait()
	}
}
