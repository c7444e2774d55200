package ordeal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"muster/e2e/harness"
	"muster/shared/job"
	"muster/shared/wire"
)

// Happening is something after which an agent may be ended.
type Happening string

// What may happen.
const (
	Starting  Happening = "starting"  // the process was just started
	Anything  Happening = "anything"  // at once, which with a delay is a random moment
	Accepted  Happening = "accepted"  // a client has its 202
	Running   Happening = "running"   // a viewer sees an image in the making
	Finished  Happening = "finished"  // a viewer sees an image finished
	Cancelled Happening = "cancelled" // a client has the answer to a cancel
	Deciding  Happening = "deciding"  // a client is about to say something about a device
	Decided   Happening = "decided"   // and has the answer
	Fetching  Happening = "fetching"  // a client is about to fetch an image
)

// Bounds of a load: they keep the backlog so short that images end between two deaths.
const (
	maxUnended = 60                   // jobs
	pause      = 2 * time.Millisecond // between two commands of a client
	sampled    = 60                   // newest jobs that are looked at
)

// client is one of several of an agent; it works until the agent is gone.
type client struct {
	*Ledger
	agent  *harness.Agent
	random *rand.Rand
	side   int // of the images in pixels
	steps  int
}

// alive says whether the agent still answers.
func alive(status int) bool { return status != 0 }

// clients lets every kind of client work until the agent is gone or working ends; an answer that is on its way then is still read.
func (t *Trial) clients(ctx, working context.Context, agent *harness.Agent) {
	var all sync.WaitGroup
	begin := func(act func(*client, context.Context) bool) {
		c := &client{Ledger: t.Ledger, agent: agent, random: rand.New(rand.NewPCG(t.random.Uint64(), 1)), side: t.Side, steps: t.Steps}
		all.Go(func() {
			for act(c, ctx) && rest(working) {
			}
		})
	}
	begin((*client).submit)
	begin((*client).submitKeyed)
	begin((*client).repeat)
	begin((*client).cancel)
	begin((*client).list)
	begin((*client).fetch)
	if len(t.Steer) > 0 {
		begin(func(c *client, ctx context.Context) bool { return c.decide(ctx, t.Steer) })
	}
	all.Go(func() { t.watch(ctx, agent) })
	all.Wait()
}

// rest gives the others a turn; false when ctx has ended.
func rest(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// command makes up a command that no other resembles, and notes that it is going to be sent.
func (c *client) command(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.sent)
	prompt := fmt.Sprintf("a fox, number %d", n)
	seed := int64(20 * n)
	c.sent[prompt] = &command{key: key, spec: job.Spec{
		Prompt: prompt, Count: 1 + c.random.IntN(3), Seed: &seed, Width: c.side, Height: c.side, Steps: c.steps, ClientID: fmt.Sprint("client-", n%3),
	}}
	if key != "" {
		c.keyed = append(c.keyed, prompt)
	}
	return prompt
}

func (c *client) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unended > maxUnended
}

// submit sends a command without a key.
func (c *client) submit(ctx context.Context) bool {
	if c.full() {
		return true
	}
	return c.send(ctx, c.command(""))
}

// submitKeyed sends a command with a key; of each four, one twice at the same instant.
func (c *client) submitKeyed(ctx context.Context) bool {
	if c.full() {
		return true
	}
	prompt := c.command(fmt.Sprintf("key-%x", c.random.Uint64()))
	if c.random.IntN(4) > 0 {
		return c.send(ctx, prompt)
	}
	twin := make(chan bool)
	go func() { twin <- c.send(ctx, prompt) }()
	mine := c.send(ctx, prompt)
	return <-twin && mine
}

// repeat sends a command with a key again, as a client does that never got its answer, or forgot it.
func (c *client) repeat(ctx context.Context) bool {
	c.mu.Lock()
	if len(c.keyed) == 0 {
		c.mu.Unlock()
		return true
	}
	prompt := c.keyed[c.random.IntN(len(c.keyed))]
	for _, recent := range c.keyed[max(0, len(c.keyed)-20):] {
		if c.sent[recent].doubtful && c.sent[recent].jobs == nil {
			prompt = recent
		}
	}
	c.totals.Repeats++
	c.mu.Unlock()
	return c.send(ctx, prompt)
}

// send submits a command and notes the answer.
func (c *client) send(ctx context.Context, prompt string) bool {
	c.mu.Lock()
	command := c.sent[prompt]
	key, spec := command.key, command.spec
	c.mu.Unlock()
	var answer struct {
		Jobs []job.Job `json:"jobs"`
	}
	status, err := c.agent.Ask(ctx, harness.Request{Method: "POST", Path: "/api/v1/jobs", Key: key, Body: spec}, &answer)
	switch {
	case err == nil:
		c.accepted(prompt, status == http.StatusAccepted, answer.Jobs)
		c.tell(Accepted)
		return true
	case status < 400 || strings.Contains(err.Error(), `"timeout"`):
		c.mu.Lock()
		command.doubtful = true
		c.totals.Doubtful++
		c.mu.Unlock()
	default:
		c.mu.Lock()
		c.totals.Refusals++
		c.mu.Unlock()
		if status != http.StatusServiceUnavailable && status != http.StatusInsufficientStorage {
			c.breach("submission: %v", err)
		}
	}
	return alive(status)
}

// cancel gives up one of the newest jobs.
func (c *client) cancel(ctx context.Context) bool {
	c.mu.Lock()
	if len(c.ids) == 0 || c.random.IntN(4) > 0 {
		c.mu.Unlock()
		return true
	}
	newest := c.ids[max(0, len(c.ids)-20):]
	id := newest[c.random.IntN(len(newest))]
	if c.jobs[id].newest.State.Terminal() {
		c.mu.Unlock()
		return true
	}
	c.jobs[id].cancelled = true
	c.mu.Unlock()
	var answer job.Job
	status, err := c.agent.Do(ctx, "DELETE", "/api/v1/jobs/"+id, nil, &answer)
	switch {
	case err == nil && answer.State != job.Cancelled:
		c.breach("cancel of job %s is answered with state %s", id, answer.State)
	case err == nil:
		c.see(answer)
		c.mu.Lock()
		c.totals.Cancels++
		c.mu.Unlock()
		c.tell(Cancelled)
	case status >= 400 && status != http.StatusConflict && status != http.StatusServiceUnavailable:
		c.breach("cancel of job %s: %v", id, err)
	}
	return alive(status)
}

// list looks at the newest jobs.
func (c *client) list(ctx context.Context) bool {
	var answer struct {
		Jobs []job.Job `json:"jobs"`
	}
	status, err := c.agent.Do(ctx, "GET", fmt.Sprintf("/api/v1/jobs?order=newest&limit=%d", sampled), nil, &answer)
	if err == nil {
		for _, j := range answer.Jobs {
			c.see(j)
		}
	}
	return alive(status)
}

// fetch gets an image that is finished, one that nobody has had yet when there is one.
func (c *client) fetch(ctx context.Context) bool {
	c.mu.Lock()
	var id string
	newest := c.ids[max(0, len(c.ids)-sampled):]
	for _, candidate := range newest {
		if s := c.jobs[candidate]; s.newest.State == job.Succeeded && (!s.fetched || c.random.IntN(sampled) == 0) {
			id = candidate
		}
	}
	c.mu.Unlock()
	if id == "" {
		return true
	}
	c.tell(Fetching)
	status, _ := c.image(ctx, c.agent, id)
	return alive(status)
}

// watch reads the events until the agent is gone.
func (t *Trial) watch(ctx context.Context, agent *harness.Agent) {
	_ = agent.View(ctx, wire.SubprotocolJSON, func(event wire.Event, _ int) {
		j := event.Job
		if j == nil {
			return
		}
		t.Ledger.see(*j)
		switch {
		case j.State == job.Running && j.Progress.Step > 0:
			t.Ledger.tell(Running)
		case j.State == job.Succeeded:
			t.Ledger.tell(Finished)
		}
	})
}
