package server

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// sockets are the open connections of events: how many there may be, and how all of them end.
type sockets struct {
	most, mostPerSession int
	running              *sync.WaitGroup // of the sockets' goroutines

	mu         sync.Mutex
	open       map[*socket]struct{} // added once their handshake is done
	total      int                  // with those in the handshake
	perSession map[[sha256.Size]byte]int
	stopped    bool
}

func newSockets(most, mostPerSession int) sockets {
	if most == 0 {
		most = DefaultMaxClients
	}
	if mostPerSession == 0 {
		mostPerSession = DefaultMaxClientsPerSession
	}
	return sockets{most: most, mostPerSession: mostPerSession, running: new(sync.WaitGroup), open: map[*socket]struct{}{}, perSession: map[[sha256.Size]byte]int{}}
}

// reserve takes a place for one socket before its handshake; release gives it back.
func (s *sockets) reserve(who caller) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := func(most int, of string) error {
		return &refusal{status: http.StatusServiceUnavailable, code: "too_many_clients", message: fmt.Sprintf("%d sockets are open%s already: close one", most, of), retry: 5 * time.Second}
	}
	switch {
	case s.stopped:
		return errStopping
	case s.total >= s.most:
		return full(s.most, "")
	case !who.bearer && s.perSession[who.session] >= s.mostPerSession:
		return full(s.mostPerSession, " in this browser")
	}
	s.total++
	if !who.bearer {
		s.perSession[who.session]++
	}
	s.running.Add(1)
	return nil
}

func (s *sockets) release(who caller) {
	s.mu.Lock()
	s.total--
	if !who.bearer {
		if s.perSession[who.session]--; s.perSession[who.session] == 0 {
			delete(s.perSession, who.session)
		}
	}
	s.mu.Unlock()
	s.running.Done()
}

// add makes a socket one of those that stop and endSession reach.
func (s *sockets) add(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[k] = struct{}{}
	if s.stopped {
		k.end(websocket.StatusGoingAway, stoppingReason)
	}
}

func (s *sockets) remove(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, k)
}

// Pings are what finds clients that are gone or never read. All together they are at most 100 a second: with few sockets each is
// asked every 5 s, with thousands every 30 s.
const (
	pingShare   = 10 * time.Millisecond
	minPingWait = 5 * time.Second
	maxPingWait = 30 * time.Second
)

func (s *sockets) pingWait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(maxPingWait, max(minPingWait, time.Duration(s.total)*pingShare))
}

const stoppingReason = "the agent is stopping"

// endSession closes the sockets of a session that was logged out.
func (s *sockets) endSession(sum [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.open {
		if !k.who.bearer && k.who.session == sum {
			k.end(statusSessionEnded, sessionEndedReason)
		}
	}
}

// stop ends every socket with 1001, and lets no new one in.
func (s *sockets) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for k := range s.open {
		k.end(websocket.StatusGoingAway, stoppingReason)
	}
}

// wait waits until every socket is gone; after grace it cuts those that do not answer.
func (s *sockets) wait(grace time.Duration) {
	gone := make(chan struct{})
	go func() { defer close(gone); s.running.Wait() }()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-gone:
		return
	case <-timer.C:
	}
	s.mu.Lock()
	for k := range s.open {
		_ = k.raw.Close() // whoever reads or writes it returns
	}
	s.mu.Unlock()
	<-gone
}
