package child

import (
	"context"
	"fmt"
	"time"

	"muster/agent/process"
)

const (
	// helloPatience is how long a new collector may take to say hello.
	helloPatience = 10 * time.Second
	// goodbye is how long a collector that was asked to end is waited for.
	goodbye = 2 * time.Second
	// lookEvery is how often Run looks whether the collector is hopeless.
	lookEvery = 5 * time.Second
	// calm is how long a collector must have run for its end to be no part of a loop.
	calm = time.Minute
)

// Run keeps a collector running while there is something to read, until ctx ends. One that ends is started again: at once the
// first time, then with growing pauses. Run returns nil; it leaves a collector behind that hangs.
func (r *Reader) Run(ctx context.Context) error {
	s := newSupervisor(r)
	var pause time.Duration
	for s.await(ctx, pause) {
		pause = s.live(ctx)
	}
	s.end()
	return nil
}

// supervisor is what Run alone knows.
type supervisor struct {
	*Reader
	backoff process.Backoff
	breaker process.Breaker
	failed  bool  // since it was last calm
	behind  *conn // was asked to end and may not have; nil when none was
}

func newSupervisor(r *Reader) *supervisor {
	return &supervisor{Reader: r, backoff: process.Backoff{First: 250 * time.Millisecond, Longest: 30 * time.Second},
		breaker: process.Breaker{Failures: 8, Rest: 30 * time.Second, Longest: time.Minute}}
}

// await waits for the pause, and until a collector is wanted. It says whether one is to be started.
func (s *supervisor) await(ctx context.Context, pause time.Duration) bool {
	s.mu.Lock()
	s.again = time.Now().Add(pause)
	s.mu.Unlock()
	if pause > 0 && sleep(ctx, pause, nil) != nil {
		return false
	}
	for {
		s.mu.Lock()
		wanted := s.wanted
		s.mu.Unlock()
		if wanted {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-s.wake:
		}
	}
}

// live runs one collector until it ends or is let go, and gives the pause before the next.
func (s *supervisor) live(ctx context.Context) time.Duration {
	c, err := launch(s.config, s.caution.crashed)
	if err != nil {
		return s.failure(fmt.Sprintf("the collector of %s can't be started: %v%s", s.config.Title, err, startHint(err)), 0)
	}
	if fault := s.greet(ctx, c); fault != "" {
		s.leave(c, goodbye)
		if ctx.Err() != nil {
			return 0
		}
		return s.failure(fault, 0)
	}
	s.mu.Lock()
	s.refresh(c)
	s.mu.Unlock()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-c.gone:
			return s.ended(c)
		case <-ctx.Done():
			s.leave(c, goodbye)
			return 0
		case <-look.C:
		case <-s.wake:
		}
		if s.retire(c) {
			return 0
		}
	}
}

// greet waits for the collector's hello and says what is wrong with it; "" when nothing is.
func (s *supervisor) greet(ctx context.Context, c *conn) string {
	patience := time.NewTimer(helloPatience)
	defer patience.Stop()
	select {
	case h := <-c.hello:
		if h.Version != Version {
			s.breaker.Trip(time.Now()) // only a restart of the agent helps
			return fmt.Sprintf("muster was upgraded from %s to %s while it ran: restart it to read through %s again", s.config.Build, h.Build, s.config.Title)
		}
		s.config.Log.Info("a collector runs", "collector", s.config.Name, "pid", c.child.PID(), "build", h.Build)
	case <-c.gone:
		return s.obituary(c)
	case <-patience.C:
		return fmt.Sprintf("the collector of %s has not begun to work within %s", s.config.Title, helloPatience)
	case <-ctx.Done():
		return "muster ends"
	}
	return ""
}

// retire lets the collector go when nobody wants it, or when it is hopeless and no other one is left behind: processes that
// hang must not become many. Calls that are inside go on inside, but nobody waits for them any more.
func (s *supervisor) retire(c *conn) bool {
	s.mu.Lock()
	wanted := s.wanted
	s.mu.Unlock()
	why := c.hopeless(time.Now())
	if wanted && (why == "" || s.hasBehind()) {
		return false
	}
	if wanted {
		s.config.Log.Warn("a collector is replaced", "collector", s.config.Name, "pid", c.child.PID(), "why", why)
	}
	s.withdraw(c, "the collector of "+s.config.Title+" is replaced: "+why)
	c.release()
	s.behind = c
	go func() {
		if !c.child.Close(goodbye) {
			s.config.Log.Warn("a collector hangs in its driver; it is left behind until it returns", "collector", s.config.Name, "pid", c.child.PID())
		}
	}()
	return true
}

// hasBehind says whether a collector that was let go still runs.
func (s *supervisor) hasBehind() bool {
	if s.behind == nil {
		return false
	}
	select {
	case <-s.behind.gone:
		s.behind = nil
		return false
	default:
		return true
	}
}

// withdraw takes the collector from those who ask.
func (s *supervisor) withdraw(c *conn, trouble string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.retired = true
	s.conn, s.trouble = nil, trouble
	if s.down.IsZero() {
		s.down = time.Now()
	}
	s.tell()
}

// ended deals with a collector that ended without being asked.
func (s *supervisor) ended(c *conn) time.Duration {
	trouble := s.obituary(c)
	if c.explained {
		s.config.Log.Warn("a collector ended; the call that ended it is left alone for a while", "collector", s.config.Name, "why", trouble)
		s.withdraw(c, trouble)
		return 0
	}
	s.withdraw(c, trouble)
	return s.failure(trouble, c.child.Exit().Ran)
}

func (s *supervisor) obituary(c *conn) string {
	<-c.gone
	exit := c.child.Exit()
	return fmt.Sprintf("the process that reads through %s ended (%s): %s", s.config.Title, exit, c.words.explain(exit))
}

// failure counts one, and gives the pause before the next start.
func (s *supervisor) failure(trouble string, ran time.Duration) time.Duration {
	now := time.Now()
	if ran >= calm {
		s.failed = false
		s.breaker.Succeed()
	}
	var pause time.Duration
	if s.failed {
		pause = s.backoff.Next()
	} else {
		s.backoff.Reset()
	}
	s.failed = true
	if s.breaker.Open(now) == 0 {
		s.breaker.Fail(now)
	}
	if rest := s.breaker.Open(now); rest > pause {
		pause = rest
		trouble += fmt.Sprintf("; it is tried again after %s: update the driver, or report this with the agent's log", rest.Round(time.Second))
	}
	s.config.Log.Warn("a collector ended", "collector", s.config.Name, "why", trouble, "again_in", pause)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.again = trouble, now.Add(pause)
	if s.down.IsZero() {
		s.down = now
	}
	s.tell()
	return pause
}

// leave ends a collector for good, when Run ends or it never began to work.
func (s *supervisor) leave(c *conn, wait time.Duration) {
	s.withdraw(c, "muster ends")
	if c.child.Close(wait) {
		return
	}
	if !s.config.Kill {
		s.config.Log.Warn("a collector hangs in its driver and is left behind; it ends when the driver call returns, and kill -9 may hang the device for good", "collector", s.config.Name, "pid", c.child.PID())
		return
	}
	s.config.Log.Warn("a collector hangs in its driver and is killed", "collector", s.config.Name, "pid", c.child.PID())
	go func() { _ = c.child.Kill() }()               // nothing helps where it does not die of that
	_ = sleep(context.Background(), goodbye, c.gone) // it returns nil without a context that ends
}

// end is for the collector that was let go earlier and has had its time.
func (s *supervisor) end() {
	if s.hasBehind() {
		s.leave(s.behind, 0)
	}
}
