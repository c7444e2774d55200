package live

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/state"
)

// wsConn is the library's socket as a Conn.
type wsConn struct{ conn *websocket.Conn }

func (c wsConn) Read(ctx context.Context) ([]byte, error) {
	_, b, err := c.conn.Read(ctx)
	return b, err
}
func (c wsConn) Write(ctx context.Context, text []byte) error {
	return c.conn.Write(ctx, websocket.MessageText, text)
}
func (c wsConn) Format() wire.Format { return wire.FormatOf(c.conn.Subprotocol()) }
func (c wsConn) Close()              { _ = c.conn.CloseNow() }

// agent is a real server of the socket. Each connection is handed to the test.
type agent struct {
	*httptest.Server
	conns chan *side
}

// side is the agent's end of one connection.
type side struct {
	t     *testing.T
	conn  *websocket.Conn
	query string
	over  chan struct{}
}

func newAgent(t *testing.T) *agent {
	a := &agent{conns: make(chan *side, 8)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.SubprotocolBinary}})
		if err != nil {
			return
		}
		s := &side{t: t, conn: conn, query: r.URL.RawQuery, over: make(chan struct{})}
		a.conns <- s
		<-s.over
		_ = conn.CloseNow()
	}))
	t.Cleanup(a.Close)
	return a
}

func (s *side) send(events ...wire.Event) {
	s.t.Helper()
	for _, e := range events {
		b, err := wire.Binary.Encode(e)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := s.conn.Write(s.t.Context(), websocket.MessageBinary, b); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *side) command() wire.Command {
	s.t.Helper()
	_, b, err := s.conn.Read(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := wire.DecodeCommand(b)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// connect runs a link to the agent until the test ends.
func connect(t *testing.T, a *agent, store Store, access func() Access) *Link {
	t.Helper()
	link := New(Config{
		URL: strings.Replace(a.URL, "http", "ws", 1), Store: store,
		Session: func(context.Context) Access { return access() },
		Dial: func(ctx context.Context, address string) (Conn, error) {
			if access() != Granted {
				return nil, errors.New("refused")
			}
			conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{wire.SubprotocolBinary}})
			if err != nil {
				return nil, err
			}
			return wsConn{conn}, nil
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := link.Run(ctx); err != context.Canceled {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return link
}

func granted() Access { return Granted }

// await looks at what comes until it is what the test waits for.
func until(t *testing.T, l *Link, reached func(News) bool) News {
	t.Helper()
	for {
		select {
		case <-l.Ready():
			if news := l.Take(); reached(news) {
				return news
			}
		case <-t.Context().Done():
			t.Fatal("it never came")
		}
	}
}

var hello = wire.Event{Hello: &wire.Hello{Version: wire.Version, IntervalMilliseconds: 1000, Complete: true}}

func TestLinkDeliversAndSaysConnected(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	link := connect(t, a, nil, granted)
	s := <-a.conns
	defer close(s.over)
	if s.query != "history=600" {
		t.Errorf("asked for %q, want history=600 and no resumption", s.query)
	}
	s.send(hello, wire.Event{Snapshot: &gpu.Snapshot{Seq: 1}})
	seen := map[string]bool{}
	until(t, link, func(n News) bool {
		for _, e := range n.Events {
			seen["hello"] = seen["hello"] || e.Hello != nil
			seen["snapshot"] = seen["snapshot"] || e.Snapshot != nil
		}
		return n.Link == state.Connected && seen["hello"] && seen["snapshot"]
	})
}

func TestCommandsSurviveTheLossOfTheConnection(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	store := &memory{}
	if err := OpenOutbox(store).Add(submit("made offline")); err != nil {
		t.Fatal(err)
	}
	link := connect(t, a, store, granted)
	first := <-a.conns
	first.send(hello)
	if c := first.command(); commandID(c) != "made offline" {
		t.Fatalf("first command %+v", c)
	}
	close(first.over) // before any answer
	link.Retry()
	second := <-a.conns
	defer close(second.over)
	second.send(hello)
	if c := second.command(); commandID(c) != "made offline" {
		t.Fatalf("after the break %+v, want the same id again", c)
	}
	if err := link.Send(cancel("c1", "J1")); err != nil {
		t.Fatal(err)
	}
	if c := second.command(); commandID(c) != "c1" {
		t.Fatalf("then %+v, want the cancel, and nothing twice", c)
	}
	second.send(wire.Event{Job: &job.Job{ID: "J1", Key: "made offline", State: job.Cancelled}})
	until(t, link, func(News) bool { return len(link.Outbox()) == 0 })
	if kept := store.All(outboxPrefix); len(kept) != 0 {
		b, _ := json.Marshal(kept)
		t.Errorf("still stored: %s", b)
	}
}

func TestLinkSaysUnpairedAndOffline(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var mu sync.Mutex
	access := Refused
	link := connect(t, a, nil, func() Access { mu.Lock(); defer mu.Unlock(); return access })
	set := func(to Access) { mu.Lock(); access = to; mu.Unlock(); link.Retry() }
	until(t, link, func(n News) bool { return n.Link == state.Unpaired })
	set(Unreachable)
	until(t, link, func(n News) bool { return n.Link == state.Offline })
	set(Granted)
	s := <-a.conns
	defer close(s.over)
	s.send(hello)
	until(t, link, func(n News) bool { return n.Link == state.Connected })
}

func TestLinkEndsAConnectionThatSpeaksNonsense(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	link := connect(t, a, nil, granted)
	s := <-a.conns
	s.send(hello)
	if err := s.conn.Write(t.Context(), websocket.MessageBinary, []byte{99, 99, 99}); err != nil {
		t.Fatal(err)
	}
	until(t, link, func(n News) bool { return n.Link == state.Offline })
	close(s.over)
	again := <-a.conns
	close(again.over)
}
