package child

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/agent/process"
)

// place is one thing that can be asked of one device. It is what can be blamed for the end of a collector: a device whose
// details end it can be read all the same.
type place struct {
	kind kind
	id   string
}

// turn is leave to ask.
type turn struct {
	place
	alone bool // a suspect's: no other call was begun beside it
	since time.Time
	// touches is the place, in the driver's order, of the device that a careful inventory is asking; nil before the first. It is
	// the conn's until that has ended.
	touches *int
}

// fresh says whether others must still wait for it. A call that hangs is not the one that crashes; it must not hold them up.
func (t *turn) fresh(now time.Time) bool { return now.Sub(t.since) < patience }

// patience is how long calls wait for one that must be alone, and it for them.
const patience = 500 * time.Millisecond

// caution finds out which call ends collectors. All that were inside when one ended without being asked are suspects: each is
// made alone until it has been answered once. One that is inside alone at such an end is to blame, and left alone for a while.
type caution struct {
	mu       sync.Mutex
	turns    map[*turn]bool
	queued   int           // suspects that wait for their turn; others wait for them
	changed  chan struct{} // closed and renewed when a wait may be over
	suspects map[place]bool
	blamed   map[place]*blame // an inventory's place has the device's place in the driver's order for an id
	careful  bool             // the next inventory goes step by step
}

type blame struct {
	backoff process.Backoff
	until   time.Time
	times   int
}

func newCaution() *caution {
	return &caution{turns: map[*turn]bool{}, changed: make(chan struct{}), suspects: map[place]bool{}, blamed: map[place]*blame{}}
}

// begin waits for a turn. Its errors wrap context.DeadlineExceeded.
func (c *caution) begin(ctx context.Context, p place) (*turn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.blamed[p]; b != nil && time.Now().Before(b.until) {
		return nil, fmt.Errorf("this call ended the process that makes it, %d time(s); it is made again in %s: %w",
			b.times, time.Until(b.until).Round(time.Second), context.DeadlineExceeded)
	}
	alone := c.suspects[p]
	if alone {
		c.queued++
		defer func() {
			c.queued--
			c.wake()
		}()
	}
	for {
		wait := c.wait(alone, time.Now())
		if wait <= 0 {
			t := &turn{place: p, alone: alone, since: time.Now()}
			c.turns[t] = true
			return t, nil
		}
		changed := c.changed
		c.mu.Unlock()
		err := sleep(ctx, wait, changed)
		c.mu.Lock()
		if err != nil {
			return nil, fmt.Errorf("waiting for other calls to return: %w", context.DeadlineExceeded)
		}
	}
}

// wait says how long to wait at most before looking again; 0 is not at all.
func (c *caution) wait(alone bool, now time.Time) (longest time.Duration) {
	if !alone && c.queued > 0 {
		longest = patience
	}
	for t := range c.turns {
		if (alone || t.alone) && t.fresh(now) {
			longest = max(longest, patience-now.Sub(t.since))
		}
	}
	return longest
}

// sleep waits that long, or until changed is closed, or until ctx ends, which is its error.
func sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// end gives the turn back. A call that was answered is above suspicion.
func (c *caution) end(t *turn, answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.turns, t)
	if answered {
		delete(c.suspects, t.place)
		delete(c.blamed, t.place)
	}
	c.wake()
}

func (c *caution) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// crashed is told what was inside a collector that ended without being asked. It says whether it knows which call it was.
func (c *caution) crashed(inside []*turn) (explained bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.careful = true
	for _, t := range inside {
		switch {
		case t.touches != nil:
			c.blame(place{askInventory, strconv.Itoa(*t.touches)})
			explained = true
		case t.alone:
			c.blame(t.place)
			explained = true
		}
	}
	if explained {
		return true
	}
	for _, t := range inside {
		if t.kind != askInventory { // without it nothing can be asked: the next one goes step by step
			c.suspects[t.place] = true
		}
	}
	return false
}

// inventory says how the next one is to be made: step by step or not, and past which places.
func (c *caution) inventory() (careful bool, skip []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	careful = c.careful
	for p, b := range c.blamed {
		if p.kind != askInventory {
			continue
		}
		careful = true
		if at, err := strconv.Atoi(p.id); err == nil && time.Now().Before(b.until) {
			skip = append(skip, at)
		}
	}
	slices.Sort(skip)
	return careful, skip
}

// listed is told that an inventory past those places was answered: what else was blamed for the end of one is well again.
func (c *caution) listed(skip []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.careful = false
	for p := range c.blamed {
		if at, err := strconv.Atoi(p.id); p.kind == askInventory && err == nil && !slices.Contains(skip, at) {
			delete(c.blamed, p)
		}
	}
}

func (c *caution) blame(p place) {
	b := c.blamed[p]
	if b == nil {
		b = &blame{backoff: process.Backoff{First: time.Second, Longest: time.Minute}}
		c.blamed[p] = b
	}
	b.times++
	b.until = time.Now().Add(b.backoff.Next())
}

// problems names what is left alone, for people. title is what they call the library.
func (c *caution) problems(title string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for p := range c.blamed {
		of := ""
		switch {
		case p.kind == askInventory:
			of = " of its device number " + p.id
		case p.id != "":
			of = " of device " + p.id
		}
		list = append(list, fmt.Sprintf("%s crashes when it is asked for %s%s; that is tried again every minute at most, and the other devices are read: update the driver, or report this with the agent's log",
			title, p.kind.noun(), of))
	}
	slices.SortFunc(list, strings.Compare)
	return list
}

// noun is for people.
func (k kind) noun() string {
	switch k {
	case askRead:
		return "the values"
	case askDetails:
		return "the details"
	case askPCIe:
		return "the PCIe throughput"
	case askExamine:
		return "what the driver needs"
	default:
		return "the name and size"
	}
}
