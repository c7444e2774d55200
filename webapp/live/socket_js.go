package live

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall/js"

	"muster/shared/wire"
)

// socket is the browser's WebSocket. It is used directly because the library's js build is 150 KB of program more.
type socket struct {
	js      js.Value
	release []js.Func
	ready   chan struct{} // size 1: there is something in frames
	open    chan struct{} // closed when the socket has opened
	closed  chan struct{} // closed when the socket is gone

	mu     sync.Mutex
	frames []js.Value
	why    error
}

// maxFrameBytes bounds one frame from the agent: a history of 64 devices is a few hundred kilobytes.
const maxFrameBytes = 8 << 20

// dial opens the browser's WebSocket and waits until it is open. A browser does not tell why it was refused.
func dial(ctx context.Context, address string) (Conn, error) {
	s := &socket{ready: make(chan struct{}, 1), open: make(chan struct{}), closed: make(chan struct{})}
	s.js = js.Global().Get("WebSocket").New(address, wire.SubprotocolBinary)
	s.js.Set("binaryType", "arraybuffer")
	s.on("open", func(js.Value) { close(s.open) })
	s.on("message", s.message)
	s.on("close", func(e js.Value) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.why == nil {
			s.why = fmt.Errorf("socket closed: %d %s", e.Get("code").Int(), e.Get("reason").String())
			close(s.closed)
			for _, f := range s.release {
				f.Release()
			}
		}
	})
	select {
	case <-s.open:
		return s, nil
	case <-s.closed:
		return nil, s.why
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
}

func (s *socket) on(event string, do func(js.Value)) {
	f := js.FuncOf(func(_ js.Value, args []js.Value) any { do(args[0]); return nil })
	s.release = append(s.release, f)
	s.js.Call("addEventListener", event, f)
}

func (s *socket) message(e js.Value) {
	s.mu.Lock()
	s.frames = append(s.frames, e.Get("data"))
	s.mu.Unlock()
	signal(s.ready)
}

// Format is what the agent chose to speak.
func (s *socket) Format() wire.Format { return wire.FormatOf(s.js.Get("protocol").String()) }

// Read waits for the next frame.
func (s *socket) Read(ctx context.Context) ([]byte, error) {
	for {
		if frame, ok := s.next(); ok {
			return bytesOf(frame)
		}
		select {
		case <-s.ready:
		case <-s.closed:
			return nil, s.why
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *socket) next() (js.Value, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.frames) == 0 {
		return js.Value{}, false
	}
	frame := s.frames[0]
	s.frames = s.frames[1:]
	return frame, true
}

func bytesOf(frame js.Value) ([]byte, error) {
	if frame.Type() == js.TypeString {
		return []byte(frame.String()), nil
	}
	array := js.Global().Get("Uint8Array").New(frame)
	if array.Length() > maxFrameBytes {
		return nil, errors.New("frame is too large")
	}
	b := make([]byte, array.Length())
	js.CopyBytesToGo(b, array)
	return b, nil
}

// Write sends one text frame; the browser keeps it until it can go out.
func (s *socket) Write(_ context.Context, text []byte) error {
	select {
	case <-s.closed:
		return s.why
	default:
		s.js.Call("send", string(text))
		return nil
	}
}

// Close ends the connection without waiting for the other side.
func (s *socket) Close() { s.js.Call("close") }
