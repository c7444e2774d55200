package server

import (
	"bufio"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"muster/shared/wire"
)

// maxHistory is the longest past that a socket may ask for.
const maxHistory = 10 * time.Minute

// eventsAsk is the query of GET /api/v1/events.
type eventsAsk struct {
	after   uint64        // the last job event that the client saw; 0 asks for all
	history time.Duration // 0 asks for none
}

// events answers GET /api/v1/events: it makes a socket of the request and returns, so that net/http's own memory for the
// request is free while the socket lives.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	ask, err := parseEventsAsk(r)
	if err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		return &refusal{status: http.StatusUpgradeRequired, code: "upgrade_required", message: "this is a WebSocket: connect with ws:// and the subprotocol " + wire.SubprotocolJSON + " or " + wire.SubprotocolBinary}
	}
	who := callerOf(r)
	if err := s.sockets.reserve(who); err != nil {
		return err
	}
	kept := &hijacked{ResponseWriter: w}
	conn, err := websocket.Accept(kept, r, &websocket.AcceptOptions{
		Subprotocols: []string{wire.SubprotocolBinary, wire.SubprotocolJSON},
		// The guard has checked Host, Origin and credentials already, and more strictly: the library lets an absent Origin pass,
		// and any Origin that equals the Host, which DNS rebinding makes so.
		InsecureSkipVerify: true,
	})
	if err != nil {
		s.sockets.release(who)
		return errAnswered
	}
	conn.SetReadLimit(maxCommandBytes)
	if tcp, ok := kept.conn.(*net.TCPConn); ok {
		// A client that does not read holds this much of the kernel's memory, and no more. It works without, too.
		_ = tcp.SetWriteBuffer(sendBufferBytes)
	}
	k := newSocket(conn, kept.conn, who)
	s.sockets.add(k)
	go func() {
		defer s.sockets.release(who)
		defer s.sockets.remove(k)
		s.runSocket(k, ask)
	}()
	return nil
}

// sendBufferBytes is the kernel's buffer for each socket.
const sendBufferBytes = 64 << 10

func parseEventsAsk(r *http.Request) (eventsAsk, error) {
	values, err := query(r, "after", "history")
	if err != nil {
		return eventsAsk{}, err
	}
	after, err := parseAfter(values)
	if err != nil {
		return eventsAsk{}, err
	}
	seconds, err := number(values, "history", 0, 0, int(maxHistory/time.Second))
	if err != nil {
		return eventsAsk{}, err
	}
	return eventsAsk{after: after, history: time.Duration(seconds) * time.Second}, nil
}

func parseAfter(values url.Values) (uint64, error) {
	text := values.Get("after")
	if text == "" {
		return 0, nil
	}
	after, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, invalid("after", "is %q; allowed is the seq of a job event, a whole number", cut(text))
	}
	return after, nil
}

// hijacked keeps the connection under a socket: the library does not give it away, and deadlines set on it cost a tenth of
// contexts with a timeout, at thousands of frames a second.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack is what websocket.Accept calls.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, buffers, err
}
