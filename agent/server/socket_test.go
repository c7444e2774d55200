package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"muster/agent/feed"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// pipes is a listener without a network: both ends are in memory and hold nothing, so a client that does not read blocks its
// writer at once, and time is the test's.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipes) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8000} }

// servePipes is serveAgent on pipes, for use in a synctest bubble.
func servePipes(t *testing.T) *served {
	l := pipes{make(chan net.Conn), make(chan struct{})}
	a := serveOn(t, l)
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		select {
		case l.conns <- server:
			return client, nil
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}}
	t.Cleanup(transport.CloseIdleConnections)
	a.http = &http.Client{Transport: transport}
	return a
}

func (s *served) sockets() int {
	s.server.sockets.mu.Lock()
	defer s.server.sockets.mu.Unlock()
	return s.server.sockets.total
}

// One client reads, one has stopped reading: the first gets every snapshot at its instant, the other is cut in 10 s.
func TestSlowReaderDelaysNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := servePipes(t)
		stalled, healthy := a.connect(wire.Binary, ""), a.connect(wire.Binary, "")
		const ticks = 30
		type arrival struct {
			seq uint64
			at  time.Time
		}
		arrivals := make(chan arrival, ticks)
		go func() {
			for {
				e, err := healthy.read()
				if err != nil {
					return
				}
				if e.Snapshot != nil {
					arrivals <- arrival{e.Snapshot.Seq, time.Now()}
				}
			}
		}()
		synctest.Wait()
		for tick := range uint64(ticks) {
			began := time.Now()
			a.feed.Snapshot(&gpu.Snapshot{Seq: tick + 1})
			synctest.Wait()
			select {
			case got := <-arrivals:
				if got.seq != tick+1 || !got.at.Equal(began) {
					t.Fatalf("snapshot %d after %s, want %d at once", got.seq, got.at.Sub(began), tick+1)
				}
			default:
				t.Fatalf("snapshot %d did not come", tick+1)
			}
			if want := 2; tick < 9 && a.sockets() != want {
				t.Fatalf("%d sockets at %d s, want %d", a.sockets(), tick, want)
			}
			time.Sleep(time.Second)
		}
		if a.sockets() != 1 {
			t.Errorf("%d sockets after 30 s, want the one that reads", a.sockets())
		}
		if _, err := stalled.read(); err == nil {
			_, err = stalled.read()
			if err == nil {
				t.Error("the stalled one is still served")
			}
		}
	})
}

// A client that pauses for some seconds gets the newest when it reads again, not what it missed.
func TestPausedReaderGetsTheNewest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := servePipes(t)
		c := a.connect(wire.JSON, "")
		c.next() // hello
		synctest.Wait()
		for seq := range uint64(80) {
			a.feed.Snapshot(&gpu.Snapshot{Seq: seq + 1})
			time.Sleep(100 * time.Millisecond)
		}
		first, second := c.next().Snapshot, c.next().Snapshot
		if first.Seq > 2 || second.Seq != 80 {
			t.Errorf("snapshots %d and %d: want the one that was being written, then the newest", first.Seq, second.Seq)
		}
	})
}

// Details follow the inventory that they belong to, when a socket opens and when they are new.
func TestDetailsFollowTheirInventory(t *testing.T) {
	t.Parallel()
	for _, format := range wire.Formats {
		synctest.Test(t, func(t *testing.T) {
			a := servePipes(t)
			report := func(revision uint64, pid int) *gpu.Report {
				return &gpu.Report{Revision: revision, Devices: []gpu.Details{{Processes: []gpu.Process{{PID: pid}}}}}
			}
			a.feed.Inventory(&gpu.Inventory{Revision: 7})
			a.feed.Details(report(7, 1))
			c := a.connect(format, "")
			c.next() // hello
			if inventory, details := c.next().Inventory, c.next().Details; inventory == nil || details == nil || details.Devices[0].Processes[0].PID != 1 {
				t.Fatalf("%v, then %v: want inventory, then details", inventory, details)
			}
			synctest.Wait()
			a.feed.Details(report(7, 2))
			if details := c.next().Details; details == nil || details.Devices[0].Processes[0].PID != 2 {
				t.Errorf("%+v: want the new details", details)
			}
			synctest.Wait()
			a.feed.Inventory(&gpu.Inventory{Revision: 8})
			a.feed.Snapshot(&gpu.Snapshot{Seq: 1, Revision: 8})
			if e := c.next(); e.Inventory == nil || e.Inventory.Revision != 8 {
				t.Fatalf("%+v: want the new inventory", e)
			}
			if e := c.next(); e.Snapshot == nil {
				t.Errorf("%+v: want the snapshot, for the details are of the old inventory", e)
			}
		})
	}
}

// More jobs change than the feed remembers while a client pauses: it is told as one that comes back, and misses nothing.
func TestReaderThatIsFarBehindStartsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := servePipes(t)
		c := a.connect(wire.Binary, "")
		c.next()
		synctest.Wait()
		a.feed.Snapshot(&gpu.Snapshot{Seq: 1}) // what the writer waits with
		synctest.Wait()
		var last []job.Job
		for range 70 {
			last = a.submitJobs(16)
		}
		a.published(last)
		if e := c.next(); e.Snapshot == nil {
			t.Fatalf("%+v", e)
		}
		hello := c.next().Hello
		if hello == nil || hello.Resume != last[15].Seq {
			t.Fatalf("hello: %+v", hello)
		}
		seen := map[string]bool{}
		for len(seen) < 70*16 {
			seen[c.next().Job.ID] = true
		}
	})
}

func TestClientWithoutPongIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := servePipes(t)
		good := a.connect(wire.Binary, "")
		deaf, _, err := a.dialWith(&websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool { return false }}, wire.Binary, "")
		if err != nil {
			t.Fatal(err)
		}
		cut := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			for {
				if _, err := deaf.read(); err != nil {
					cut <- time.Since(began)
					return
				}
			}
		}()
		go func() {
			for {
				if _, err := good.read(); err != nil {
					return
				}
			}
		}()
		if after := <-cut; after > minPingWait+pongTimeout {
			t.Errorf("cut after %s", after)
		}
		time.Sleep(time.Hour) // without any traffic but pings
		if a.sockets() != 1 {
			t.Errorf("%d sockets after an hour, want the good one", a.sockets())
		}
	})
}

func TestSocketOfARevokedSessionEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := servePipes(t)
		cookie := a.pairAt()
		c := a.connect(wire.JSON, "", "Cookie", cookie, "Origin", "http://"+a.addr)
		ended := make(chan error, 1)
		go func() {
			for {
				if _, err := c.read(); err != nil {
					ended <- err
					return
				}
			}
		}()
		time.Sleep(10 * time.Minute)
		if a.sockets() != 1 {
			t.Fatal("a good session's socket ended")
		}
		_, value, _ := strings.Cut(cookie, "=")
		if err := a.queue.DeleteSession(t.Context(), sha256.Sum256([]byte(value))); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-ended; websocket.CloseStatus(err) != statusSessionEnded {
			t.Errorf("%v", err)
		}
		if after := time.Since(began); after > sessionCheck+checkLife+minPingWait {
			t.Errorf("after %s", after)
		}
	})
}

func TestCommandsAreReadAtAPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := servePipes(t)
		c := a.connect(wire.JSON, "")
		go func() {
			for range 5 * commandsPerSecond {
				if c.conn.Write(t.Context(), websocket.MessageText, []byte(`{}`)) != nil {
					return
				}
			}
		}()
		began := time.Now()
		for range 5 * commandsPerSecond {
			c.until(func(e wire.Event) bool { return e.Error != nil })
		}
		if took := time.Since(began); took < 3900*time.Millisecond || took > 4100*time.Millisecond {
			t.Errorf("%d commands took %s, want 4 s: the first %d at once", 5*commandsPerSecond, took, commandsPerSecond)
		}
	})
}

func TestRateLimitReachesSockets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := servePipes(t)
		c := a.connect(wire.JSON, "", "Cookie", a.pairAt(), "Origin", "http://"+a.addr)
		go func() {
			for i := range submissionsPerMinute + 1 {
				if c.conn.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"submit":{"id":"k%d","spec":{"prompt":"x"}}}`, i)) != nil {
					return
				}
			}
		}()
		if e := c.until(func(e wire.Event) bool { return e.Error != nil }).Error; e.Code != "rate_limited" || e.ID != "k60" {
			t.Errorf("%+v", e)
		}
	})
}

// What the feed still holds of a job in an older version than the beginning told is not sent.
func TestFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		k := &socket{raw: near}
		k.fenceIn([]job.Job{{ID: "told", Seq: 9}, {ID: "published", Seq: 3}}, 5)
		if len(k.fence) != 1 || k.fence["told"] != 9 || k.fenceTo != 9 {
			t.Fatalf("fence %v to %d", k.fence, k.fenceTo)
		}
		a := newAgent(t)
		// Without a connection, sending would panic: nothing of this batch may be sent.
		if err := a.server.sendBatch(k, feed.Batch{Jobs: []feed.JobFrame{{ID: "told", Seq: 8, Bytes: []byte("old")}}}); err != nil || k.lastSeq != 0 {
			t.Errorf("%v, last %d", err, k.lastSeq)
		}
	})
}

// 5,000 sockets are asked for a sign of life less often than a few.
func TestPingsHaveABudget(t *testing.T) {
	t.Parallel()
	for total, want := range map[int]time.Duration{1: 5 * time.Second, 256: 5 * time.Second, 1000: 10 * time.Second, 5000: 30 * time.Second} {
		s := newSockets(0, 0)
		s.total = total
		if got := s.pingWait(); got != want {
			t.Errorf("%d sockets: %s, want %s", total, got, want)
		}
	}
}
