package child

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"muster/agent/process"
)

// conn is one running collector.
type conn struct {
	child *process.Child
	log   *slog.Logger
	words lastWords
	hello chan hello    // gets the first line
	gone  chan struct{} // closed when the collector has ended and nobody waits for it any more

	retired   bool // behind Reader.mu: it takes no more requests
	explained bool // once gone: it is known which call ended it
	wedged    atomic.Bool
	begun     time.Time
	listing   atomic.Int64 // how long after begun the inventory in flight was asked for, in nanoseconds; 0 when none is
	garbage   atomic.Int64 // lines that were no answers

	mu      sync.Mutex
	last    uint64 // number given
	sent    uint64 // the last number that was written
	pending map[uint64]*call
	unsent  []byte // requests
	sending bool   // send runs
	deaf    bool   // it takes no requests any more: it has ended, or its stdin was closed
}

// call is a request that has not been answered.
type call struct {
	turn   *turn
	answer chan answer // capacity 1; closed when the collector ended
}

// launch starts a collector. crashed is told what was inside when it ended without being asked.
func launch(c Config, crashed func(inside []*turn) (explained bool)) (*conn, error) {
	conn := &conn{log: c.Log, begun: time.Now(), hello: make(chan hello, 1), gone: make(chan struct{}), pending: map[uint64]*call{}}
	child, err := process.Start(process.Command{
		Path: c.Path, Name: "muster", Args: c.Args, Env: environment(c.Env), Dir: "/", MaxLine: maxAnswer,
		Stdin: true, Outlive: true, Stdout: conn.take, Stderr: func(line string) {
			conn.words.take(line)
			c.Log.Debug("a collector says", "collector", c.Name, "line", line)
		},
	})
	if err != nil {
		return nil, err
	}
	conn.child = child
	go func() {
		<-child.Done()
		conn.end(crashed)
	}()
	return conn, nil
}

// environment adds what keeps the collector small. Of what is given twice the last counts.
func environment(env []string) []string {
	return append(append([]string{}, env...), "GOMAXPROCS=1", "GOGC=50", "GOMEMLIMIT=64MiB", "GOTRACEBACK=single")
}

// ask sends a request and waits until it is answered, however long that takes, or the collector has ended.
func (c *conn) ask(r request, t *turn) (answer, error) {
	waiting := &call{t, make(chan answer, 1)}
	if err := c.enqueue(r, waiting); err != nil {
		return answer{}, err
	}
	a, ok := <-waiting.answer
	if !ok {
		return answer{}, errEnded
	}
	return a, nil
}

var errEnded = fmt.Errorf("the process that makes the call has ended, or was replaced: %w", context.DeadlineExceeded)

// enqueue numbers a request and has it sent.
func (c *conn) enqueue(r request, waiting *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf {
		return errEnded
	}
	r.Number = c.last + 1
	line, err := json.Marshal(r)
	if err == nil && len(line) >= maxRequest {
		err = fmt.Errorf("a request of %d bytes is too long", len(line))
	}
	if err != nil {
		return fmt.Errorf("ask the collector: %w", err)
	}
	c.last++
	c.pending[r.Number] = waiting
	c.unsent = append(append(c.unsent, line...), '\n')
	if !c.sending {
		c.sending = true
		go c.send()
	}
	return nil
}

// send writes requests until there are none. Those of one tick go as one: each write would wake the collector.
func (c *conn) send() {
	runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.unsent) > 0 {
		lines, last := c.unsent, c.last
		c.unsent = nil
		c.mu.Unlock()
		_, err := c.child.Write(lines)
		c.mu.Lock()
		if err != nil {
			c.refuse()
			return
		}
		c.sent = last
	}
	c.sending = false
}

// refuse fails the calls that did not reach the collector. c.mu is held.
func (c *conn) refuse() {
	c.deaf = true
	for number, waiting := range c.pending {
		if number > c.sent {
			delete(c.pending, number)
			close(waiting.answer)
		}
	}
}

// forget gives the call of that number, which is no longer pending; nil when it is not.
func (c *conn) forget(number uint64) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.pending[number]
	delete(c.pending, number)
	return waiting
}

// asking notes which device a careful inventory touches.
func (c *conn) asking(number uint64, place int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiting := c.pending[number]; waiting != nil {
		waiting.turn.touches = &place
	}
}

// take gets every line that the collector prints.
func (c *conn) take(line string) {
	a, err := decodeAnswer([]byte(line))
	if err != nil {
		c.garbage.Add(1)
		c.log.Debug("a collector printed a line that is no answer", "line", fmt.Sprintf("%.80q", line), "error", err)
		return
	}
	if a.Hello != nil {
		select {
		case c.hello <- *a.Hello:
		default:
		}
		return
	}
	if a.Asking != nil {
		c.asking(a.Number, *a.Asking)
		return
	}
	if waiting := c.forget(a.Number); waiting != nil {
		waiting.answer <- a
	}
}

// end lets everybody know who waits.
func (c *conn) end(crashed func([]*turn) bool) {
	c.mu.Lock()
	c.deaf = true
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	if !c.child.Exit().Asked {
		var inside []*turn
		for _, waiting := range pending {
			inside = append(inside, waiting.turn)
		}
		c.explained = crashed(inside)
	}
	for _, waiting := range pending {
		close(waiting.answer)
	}
	close(c.gone)
}

// release fails the calls that are inside, when the collector is replaced: whether one of them hangs, or all because of one,
// only the next collector can tell.
func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = true
	for number, waiting := range c.pending {
		delete(c.pending, number)
		close(waiting.answer)
	}
}

// lateAnswer is how long an answer may take of a collector that has printed lines which are no answers: one of them may have
// been it.
const lateAnswer = 10 * time.Second

// hopeless says why nothing but another collector gets further; "" when this one does.
func (c *conn) hopeless(now time.Time) string {
	if c.wedged.Load() {
		return "its driver has to be connected anew, and a call that never returned is in the way"
	}
	if since := c.listing.Load(); since != 0 && now.Sub(c.begun)-time.Duration(since) > listingPatience {
		return fmt.Sprintf("it has not listed its devices for %s; if this stays, see the kernel log, and reboot", listingPatience)
	}
	if c.garbage.Load() == 0 {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, waiting := range c.pending {
		if now.Sub(waiting.turn.since) > lateAnswer {
			return "it printed what is no answer, and owes one"
		}
	}
	return ""
}
