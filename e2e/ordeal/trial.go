package ordeal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"muster/e2e/disk"
	"muster/e2e/harness"
	"muster/shared/job"
	"muster/shared/pool"
)

// Trial is one data folder on which agents are started, put under load and ended, again and again.
type Trial struct {
	Agent  harness.Options // Data is the folder
	Ledger *Ledger
	// Disk is what the folder lies on: then an agent ends by a power cut. nil: it ends by kill -9.
	Disk *disk.Image
	// Program is that of the generators, of which none may outlive its agent; "" for none.
	Program string
	// Steer are the devices, as paths name them, about which something is decided during the load; none: nothing is.
	Steer []string
	// Side and Steps of the images: they should take some milliseconds.
	Side, Steps int
	// Load is how long an agent lives at most.
	Load time.Duration
	// Restarts are the times from the start of an agent to its link.
	Restarts []time.Duration

	random  *rand.Rand
	book    *book
	orphans []int // generators of agents that are dead, as they were seen right after
}

// NewTrial begins on an empty folder. The same seed gives the same moments of death, as far as a machine repeats itself.
func NewTrial(agent harness.Options, seed uint64) *Trial {
	return &Trial{Agent: agent, Ledger: NewLedger(), Side: 64, Steps: 2, Load: 300 * time.Millisecond, random: rand.New(rand.NewPCG(seed, 1)), book: newBook()}
}

// Moment is when an agent is ended: a delay after something has happened for the nth time since it started.
type Moment struct {
	After Happening
	Nth   int
	Delay time.Duration
}

// moment chooses one: half of them at random, half at a point where something is being written.
func (t *Trial) moment() Moment {
	points := []Happening{Starting, Accepted, Accepted, Running, Running, Finished, Finished, Cancelled, Deciding, Deciding, Decided, Fetching}
	if t.random.IntN(2) == 0 {
		return Moment{After: Anything, Delay: time.Duration(t.random.Int64N(int64(t.Load)))}
	}
	m := Moment{After: points[t.random.IntN(len(points))], Nth: 1 + t.random.IntN(12), Delay: time.Duration(t.random.IntN(1000)) * time.Microsecond}
	switch {
	case m.After == Starting:
		m.Delay *= 60 // a start takes so many milliseconds
	case t.random.IntN(2) == 0:
		m.Delay = 0
	}
	return m
}

// Death starts an agent, puts it under load, ends it, and looks at what is left on the disk. The next agent is started by the next
// call, or by Finish.
func (t *Trial) Death(ctx context.Context) error {
	m := t.moment()
	agent, err := t.start(ctx, m)
	if err != nil {
		return err
	}
	if m.After != Starting {
		t.load(ctx, agent, m)
	}
	if t.Disk != nil {
		if err := t.Disk.Restore(); err != nil {
			return err
		}
		t.book = newBook() // what was not acknowledged may be gone
	}
	return t.left(ctx)
}

// end ends an agent in the manner of the trial.
func (t *Trial) end(agent *harness.Agent) error {
	if t.Disk == nil {
		return agent.Kill()
	}
	err := agent.Freeze()
	if err == nil {
		err = t.Disk.Cut()
	}
	return errors.Join(err, agent.Kill())
}

// start gives an agent that answers, or for a death at the start one that is dead already.
func (t *Trial) start(ctx context.Context, m Moment) (*harness.Agent, error) {
	began := time.Now()
	agent, err := t.Agent.Launch()
	if err != nil {
		return nil, err
	}
	if m.After == Starting {
		time.Sleep(m.Delay)
		return agent, t.end(agent)
	}
	if err := agent.Await(); err != nil {
		return nil, err
	}
	t.Restarts = append(t.Restarts, time.Since(began))
	t.Ledger.restarted(agent.Token)
	t.gone(ctx)
	if t.random.IntN(3) == 0 {
		err = t.Ledger.checkControls(ctx, agent)
	}
	if err != nil {
		agent.Kill()
	}
	return agent, err
}

// load lets the clients work until the moment, then ends the agent and waits for the clients.
func (t *Trial) load(ctx context.Context, agent *harness.Agent, m Moment) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	due := make(chan struct{})
	reached := sync.OnceFunc(func() { close(due) })
	var mu sync.Mutex
	t.Ledger.await(func(h Happening) {
		mu.Lock()
		defer mu.Unlock()
		if h == m.After {
			if m.Nth--; m.Nth <= 0 {
				if m.Delay == 0 && t.Disk == nil {
					agent.Strike() // here and now: what it does next, it does not do
				}
				reached()
			}
		}
	})
	defer t.Ledger.await(nil)
	if m.After == Anything {
		reached()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.clients(ctx, working, agent)
	}()
	select {
	case <-due:
	case <-time.After(t.Load):
	}
	if m.Delay > 0 {
		time.Sleep(m.Delay)
	}
	if err := t.end(agent); err != nil {
		t.Ledger.breach("%v", err)
		agent.Kill()
	}
	stop()
	<-done
}

func (l *Ledger) await(happened func(Happening)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.happened = happened
}

// left looks at what an agent that was killed left: no generator, and a database that holds what was acknowledged.
func (t *Trial) left(ctx context.Context) error {
	t.orphans = append(t.orphans, Processes(t.Program)...)
	if err := t.book.read(ctx, t.Agent.Data, t.Ledger.breach); err != nil {
		return fmt.Errorf("database as the death left it: %w", err)
	}
	t.book.compare(t.Ledger)
	t.Ledger.mu.Lock()
	t.Ledger.totals.Deaths++
	t.Ledger.totals.Midway += t.book.midway
	t.Ledger.mu.Unlock()
	return nil
}

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// Finish starts an agent that is not disturbed, waits until everything has ended, and checks every promise; then a part of the
// images, at most remake, are made a second time. It stops the agent in order.
func (t *Trial) Finish(ctx context.Context, remake int) error {
	agent, err := t.start(ctx, Moment{})
	if err != nil {
		return err
	}
	return errors.Join(t.settle(ctx, agent, remake), agent.Stop())
}

func (t *Trial) settle(ctx context.Context, agent *harness.Agent, remake int) error {
	if err := t.Ledger.checkControls(ctx, agent); err != nil {
		return err
	}
	for _, device := range t.Steer {
		t.Ledger.decideThat(ctx, agent, device, pool.Control{})
	}
	if err := t.drain(ctx, agent); err != nil {
		return err
	}
	c := &client{Ledger: t.Ledger, agent: agent, random: t.random, side: t.Side, steps: t.Steps}
	ids := t.succeeded()
	for _, id := range ids {
		if _, err := c.image(ctx, agent, id); err != nil {
			return err
		}
	}
	t.random.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	if err := c.remake(ctx, ids[:min(remake, len(ids))]); err != nil {
		return err
	}
	if err := t.book.read(ctx, t.Agent.Data, t.Ledger.breach); err != nil {
		return err
	}
	t.book.compare(t.Ledger)
	return nil
}

// drain waits until every job has ended, and looks at each.
func (t *Trial) drain(ctx context.Context, agent *harness.Agent) error {
	for began := time.Now(); ; rest(ctx) {
		shown, left := map[string]bool{}, 0
		for after := ""; ; {
			var page struct {
				Jobs []job.Job `json:"jobs"`
				Next string    `json:"next"`
			}
			if _, err := agent.Do(ctx, "GET", "/api/v1/jobs?limit=1000&after="+after, nil, &page); err != nil {
				return err
			}
			for _, j := range page.Jobs {
				shown[j.ID] = true
				t.Ledger.see(j)
				if !j.State.Terminal() {
					left++
				}
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if left == 0 {
			return t.allShown(shown)
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%d jobs have not ended %s after the last restart", left, patience)
		}
	}
}

func (t *Trial) allShown(shown map[string]bool) error {
	t.Ledger.mu.Lock()
	defer t.Ledger.mu.Unlock()
	for id := range t.Ledger.jobs {
		if !shown[id] {
			t.Ledger.note("job %s was acknowledged and is not listed", id)
		}
	}
	return nil
}

func (t *Trial) succeeded() []string {
	t.Ledger.mu.Lock()
	defer t.Ledger.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.Ledger.ids), func(id string) bool { return t.Ledger.jobs[id].newest.State != job.Succeeded })
}
