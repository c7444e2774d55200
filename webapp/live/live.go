// Package live keeps the app connected to its agent: the socket, the few HTTP calls of pairing, and the outbox of commands
// made while offline. It knows nothing of views; a view calls Take when Ready says so, from any goroutine.
//
// The same code runs natively, where the tests drive it against a real server; what only a browser has stands in *_js.go.
package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"muster/shared/wire"
	"muster/webapp/state"
)

// HistorySeconds is how much past the app asks for when it connects: what a trend on a card shows.
const HistorySeconds = 600

// Access says whether the agent lets this browser in.
type Access int

// What GET /api/v1/session can mean.
const (
	Unreachable Access = iota // no answer, or not from an agent
	Refused                   // 401: pair first
	Granted
)

// Conn is one open socket to the agent: the browser's own in the app, the library's in tests.
type Conn interface {
	// Read waits for the next frame; it may be called by one goroutine.
	Read(ctx context.Context) ([]byte, error)
	// Write sends one text frame.
	Write(ctx context.Context, text []byte) error
	// Format is what was negotiated.
	Format() wire.Format
	// Close ends the connection without waiting for the other side; it may be called several times, from any goroutine.
	Close()
}

// Config is what a Link needs. URL, Dial and Session are required.
type Config struct {
	// URL of the events, "ws://127.0.0.1:8000/api/v1/events".
	URL string
	// Dial opens a socket and asks for wire.SubprotocolBinary.
	Dial func(ctx context.Context, address string) (Conn, error)
	// Session asks the agent whether this browser is paired.
	Session func(context.Context) Access
	// Store keeps the outbox over restarts of the app; nil keeps it in memory only.
	Store Store
	// Random gives 0 to 1, for jitter; nil is no jitter.
	Random func() float64
}

// Link is the one connection of the app. Make it with New and give it one Run.
type Link struct {
	config Config
	box    mailbox
	outbox *Outbox
	retry  chan struct{} // size 1: try now
	submit chan struct{} // size 1: the outbox has something to send

	// Owned by the goroutine of Run.
	failures int    // attempts in a row without a hello
	greeted  bool   // whether the last attempt got one
	resume   uint64 // job events up to here have arrived for good; 0: ask for all
	resumes  bool   // whether to ask for a resumption at all
}

// New makes a link that is not connected yet; what the store kept of the outbox is pending.
func New(c Config) *Link {
	return &Link{
		config: c, outbox: OpenOutbox(c.Store), retry: make(chan struct{}, 1), submit: make(chan struct{}, 1),
		box: mailbox{ready: make(chan struct{}, 1)},
	}
}

// Ready gets a value when Take has something new. It is never closed.
func (l *Link) Ready() <-chan struct{} { return l.box.ready }

// Take gives what came since the last call; of several snapshots only the newest.
func (l *Link) Take() News { return l.box.take() }

// Outbox gives the commands that the agent has not answered yet, oldest first.
func (l *Link) Outbox() []wire.Command { return l.outbox.Pending() }

// Send hands a command over: now when connected, else when the connection is back. Sending the same id twice does nothing.
func (l *Link) Send(c wire.Command) error {
	if err := l.outbox.Add(c); err != nil {
		return err
	}
	signal(l.submit)
	return nil
}

// Withdraw forgets a command that was not answered yet. One that was sent may be carried out all the same.
func (l *Link) Withdraw(id string) { l.outbox.Drop(id) }

// Retry ends the wait for the next attempt: the network is back, the page is visible again, or the browser was paired.
func (l *Link) Retry() { signal(l.retry) }

// Run connects, and connects again, for ever; it returns the context's cause when ctx ends.
func (l *Link) Run(ctx context.Context) error {
	// A browser does not say why a socket was refused. So access is supposed until a socket failed, then asked for.
	access := Granted
	for ctx.Err() == nil {
		if access != Granted {
			access = l.config.Session(ctx)
		}
		if access == Granted {
			if err := l.connect(ctx); err != nil && !l.greeted && ctx.Err() == nil {
				access = l.config.Session(ctx)
			}
		}
		l.failures++
		l.box.link(map[Access]state.Link{Refused: state.Unpaired, Unreachable: state.Offline, Granted: state.Offline}[access])
		l.pause(ctx, backoff(l.failures, l.random()))
	}
	return context.Cause(ctx)
}

func (l *Link) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.retry:
		l.failures = 0
	case <-ctx.Done():
	}
}

func (l *Link) random() float64 {
	if l.config.Random == nil {
		return 1
	}
	return l.config.Random()
}

// connect holds one connection until it breaks.
func (l *Link) connect(ctx context.Context) error {
	l.greeted = false
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dialing, dialed := context.WithTimeout(ctx, 10*time.Second)
	conn, err := l.config.Dial(dialing, l.address())
	dialed()
	if err != nil {
		return err
	}
	defer conn.Close()
	watch := newWatch(func(s state.Link) { l.box.link(s) }, conn.Close)
	watched := make(chan struct{})
	go func() { defer close(watched); watch.run(ctx) }()
	wrote := make(chan struct{})
	go func() { defer close(wrote); l.write(ctx, conn) }()
	err = l.read(ctx, conn, watch)
	cancel()
	<-watched
	<-wrote
	return err
}

func (l *Link) address() string {
	address := l.config.URL + "?history=" + strconv.Itoa(HistorySeconds)
	if l.resumes {
		address += "&after=" + strconv.FormatUint(l.resume, 10)
	}
	return address
}

// read passes frames on until the connection breaks. The point of resumption moves only when the connection lived long enough
// for its replay to be whole: one that breaks in the middle of it is replayed from where it began.
func (l *Link) read(ctx context.Context, conn Conn, watch *watch) error {
	var greeted time.Time
	seen := l.resume
	defer func() {
		if !greeted.IsZero() && time.Since(greeted) > replayTime {
			l.resume, l.resumes = seen, true
		}
	}()
	for {
		frame, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		event, err := wire.Decode(conn.Format(), frame)
		if err != nil {
			return fmt.Errorf("event: %w", err)
		}
		if event.Hello != nil {
			greeted = time.Now()
			l.failures, l.greeted = 0, true
			if event.Hello.Complete {
				seen = 0
			}
			watch.every(time.Duration(event.Hello.IntervalMilliseconds) * time.Millisecond)
			signal(l.submit)
		}
		if event.Job != nil {
			seen = max(seen, event.Job.Seq)
		}
		watch.frame()
		l.outbox.Settle(event)
		l.box.event(event)
	}
}

// replayTime is how long a connection must have lived for its replay to count as whole.
const replayTime = 5 * time.Second

// write sends what the outbox holds: everything after a hello, then what is added. Commands are idempotent by their id.
func (l *Link) write(ctx context.Context, conn Conn) {
	sent := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.submit:
		}
		for _, c := range l.outbox.Pending() {
			if id := commandID(c); !sent[id] {
				if err := sendCommand(ctx, conn, c); err != nil {
					return // the read side sees the same break
				}
				sent[id] = true
			}
		}
	}
}

func sendCommand(ctx context.Context, conn Conn, c wire.Command) error {
	frame, err := json.Marshal(c)
	if err != nil {
		return errors.New("command can't be written")
	}
	return conn.Write(ctx, frame)
}

// signal wakes the one who waits on a channel of size 1; who looks already is woken once more at most.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
