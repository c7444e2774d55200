package server

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"

	"muster/agent/feed"
	"muster/shared/job"
	"muster/shared/wire"
)

// Limits of one socket.
const (
	maxCommandBytes = maxBodyBytes     // what HTTP takes, the socket takes
	writeTimeout    = 10 * time.Second // of one frame; a client that takes longer is cut
	pongTimeout     = 5 * time.Second
	sessionCheck    = time.Minute
	maxReplies      = 8 // answers to commands that wait to be written; then no more commands are read
	openTimeout     = 10 * time.Second
)

// Job events that a new socket gets.
const (
	jobsAtFirst  = 200  // newest jobs for a client that knows none, besides all active ones
	jobsToResume = 1000 // changed jobs for one that resumes; when there are more it gets the newest, and is told to drop the rest
)

// historyPoints is how many points of the past travel at most: one every 2 s for 10 minutes.
const historyPoints = 300

// statusSessionEnded closes the socket of a browser whose session is over: it must be paired again.
const (
	statusSessionEnded websocket.StatusCode = 4401
	sessionEndedReason                      = "the session has ended"
)

// socket is one connection of events. Two goroutines live as long as it: one reads commands, one writes everything.
type socket struct {
	conn   *websocket.Conn
	raw    net.Conn // under conn, for deadlines
	who    caller
	format wire.Format
	kind   websocket.MessageType

	replies chan wire.Event // answers to commands, for the writer

	endOnce sync.Once
	ended   chan struct{} // closed by end
	status  websocket.StatusCode
	reason  string

	// Owned by the writer.
	feed    *feed.Subscription
	lastSeq uint64            // of the job events sent: where to resume when the feed forgot some
	fence   map[string]uint64 // jobs of the backlog that the feed may still hold older versions of
	fenceTo uint64            // until it has published up to here
	pings   sync.WaitGroup
}

func newSocket(conn *websocket.Conn, raw net.Conn, who caller) *socket {
	k := &socket{conn: conn, raw: raw, who: who, format: wire.FormatOf(conn.Subprotocol()), kind: websocket.MessageText,
		replies: make(chan wire.Event, maxReplies), ended: make(chan struct{})}
	if k.format == wire.Binary {
		k.kind = websocket.MessageBinary
	}
	return k
}

// end makes the writer close the socket with that status; the first call counts. 0 says that the peer is gone, and nothing more is
// said to it.
func (k *socket) end(status websocket.StatusCode, reason string) {
	k.endOnce.Do(func() {
		k.status, k.reason = status, reason
		close(k.ended)
	})
}

// runSocket serves a socket until it ends, and returns when all that belongs to it is gone.
func (s *Server) runSocket(k *socket, ask eventsAsk) {
	k.feed = s.config.Feed.Subscribe(k.format)
	defer k.feed.Close()
	read := make(chan struct{})
	go func() { defer close(read); s.readCommands(k) }()
	if err := s.write(k, ask); err != nil {
		k.end(0, "")
	}
	<-k.ended
	if k.status == 0 {
		_ = k.conn.CloseNow()
	} else {
		_ = k.conn.Close(k.status, k.reason) // bounded by the library: 5 s to say it, 5 s for the answer
	}
	<-read
	k.pings.Wait()
}

// write sends the beginning, then whatever is new, until the socket ends or can't be written to.
func (s *Server) write(k *socket, ask eventsAsk) error {
	if err := s.begin(k, ask); err != nil {
		return err
	}
	heartbeat := time.NewTimer(s.heartbeat())
	defer heartbeat.Stop()
	checked := time.Now()
	for {
		var err error
		select {
		case <-k.ended:
			return nil
		case <-k.feed.Wake():
			err = s.pass(k)
		case answer := <-k.replies:
			err = k.sendEvent(answer)
		case <-heartbeat.C:
			heartbeat.Reset(s.heartbeat())
			k.fence = nil
			k.ping()
			if !k.who.bearer && time.Since(checked) >= sessionCheck {
				checked = time.Now()
				s.checkSession(k)
			}
		}
		if err != nil {
			return err
		}
	}
}

// heartbeat spreads the pings of sockets that were opened at once.
func (s *Server) heartbeat() time.Duration {
	wait := s.sockets.pingWait()
	return wait - time.Duration(rand.Int64N(int64(wait)/8))
}

// begin sends what a client needs to start from: hello, inventory, capacity, library, details, history when it asked, jobs, and the newest snapshot.
// The subscription is older than the look at the queue, so no change falls between the two; one that comes by both ways is
// harmless, and an older version never follows a newer.
func (s *Server) begin(k *socket, ask eventsAsk) error {
	limit := jobsAtFirst
	if ask.after > 0 {
		limit = jobsToResume
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	jobs, newest, complete, err := s.config.Queue.Since(ctx, ask.after, limit)
	if err != nil {
		s.log.Warn("jobs for a new socket", "error", err)
		k.end(websocket.StatusInternalError, "jobs can't be read: see the agent's log")
		return nil
	}
	published := s.config.Feed.Published()
	first := k.feed.Take()
	k.fenceIn(jobs, published)
	hello := wire.Hello{Version: wire.Version, Build: s.config.Build, Instance: s.config.Instance, Resume: newest,
		IntervalMilliseconds: s.config.Interval.Milliseconds(), Complete: complete}
	if err := k.sendEvent(wire.Event{Hello: &hello}); err != nil {
		return err
	}
	if err := k.send(first.Inventory, first.Capacity, first.Library, first.Details); err != nil {
		return err
	}
	if ask.history > 0 {
		history := s.config.History(ask.history, historyPoints)
		if err := k.sendEvent(wire.Event{History: &history}); err != nil {
			return err
		}
	}
	if err := k.sendJobs(jobs); err != nil {
		return err
	}
	k.lastSeq = max(newest, k.lastSeq)
	return s.sendBatch(k, first)
}

// fenceIn remembers the jobs of the backlog that the feed had not published yet in the version that is sent: until it has, it may
// give older ones.
func (k *socket) fenceIn(jobs []job.Job, published uint64) {
	k.fence, k.fenceTo = nil, 0
	for i := range jobs {
		if jobs[i].Seq <= published {
			continue
		}
		if k.fence == nil {
			k.fence = map[string]uint64{}
		}
		k.fence[jobs[i].ID] = jobs[i].Seq
		k.fenceTo = max(k.fenceTo, jobs[i].Seq)
	}
}

// pass sends what is new in the feed.
func (s *Server) pass(k *socket) error {
	whole := k.fence != nil && s.config.Feed.Published() >= k.fenceTo
	batch := k.feed.Take()
	if whole {
		k.fence = nil // published was read before the batch was taken: the batch holds no older versions
	}
	if err := k.send(batch.Inventory, batch.Capacity, batch.Library, batch.Details); err != nil {
		return err
	}
	return s.sendBatch(k, batch)
}

// sendBatch sends jobs and snapshot of a batch. When the feed forgot jobs, the queue tells them as to a client that comes back.
func (s *Server) sendBatch(k *socket, batch feed.Batch) error {
	for _, j := range batch.Jobs {
		if j.Seq < k.fence[j.ID] {
			continue
		}
		if err := k.send(j.Bytes); err != nil {
			return err
		}
		k.lastSeq = max(k.lastSeq, j.Seq)
	}
	if err := k.send(batch.Snapshot); err != nil {
		return err
	}
	if batch.Missed {
		return s.begin(k, eventsAsk{after: k.lastSeq})
	}
	return nil
}

// send writes frames, each within writeTimeout; nil ones are left out.
func (k *socket) send(frames ...[]byte) error {
	wrote := false
	for _, frame := range frames {
		if frame == nil {
			continue
		}
		wrote = true
		if err := k.raw.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if err := k.conn.Write(context.Background(), k.kind, frame); err != nil {
			return err
		}
	}
	if !wrote {
		return nil
	}
	// The deadline is the connection's: the library's answers to pings must not meet an old one.
	return k.raw.SetWriteDeadline(time.Time{})
}

func (k *socket) sendEvent(e wire.Event) error {
	frame, err := k.format.Encode(e)
	if err != nil {
		return err
	}
	return k.send(frame)
}

func (k *socket) sendJobs(jobs []job.Job) error {
	for i := range jobs {
		if err := k.sendEvent(wire.Event{Job: &jobs[i]}); err != nil {
			return err
		}
	}
	return nil
}

// ping asks for a sign of life; without one the socket is cut.
func (k *socket) ping() {
	k.pings.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), pongTimeout)
		defer cancel()
		if k.conn.Ping(ctx) != nil {
			k.end(0, "")
			_ = k.conn.CloseNow()
		}
	})
}

// checkSession ends the socket when its session is over. While the database does not answer, the session counts as valid.
func (s *Server) checkSession(k *socket) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if ok, err := s.sessions.valid(ctx, k.who.session); err == nil && !ok {
		k.end(statusSessionEnded, sessionEndedReason)
	}
}
