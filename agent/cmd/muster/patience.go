package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// patience asks an agent that may end, start again and be lost from sight meanwhile, for what it keeps over all that. One goroutine uses
// it.
type patience struct {
	client *client
	tell   io.Writer     // where a person is told that the agent is away
	above  func(func())  // has that written above what is drawn
	kept   func() string // what the agent keeps, as "waiting for it: " would continue
	sent   bool          // the agent may know of what is waited for
	away   bool          // the agent does not answer, and a person knows
}

// Pauses between looks for an agent that is away.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// patiently asks until there is an answer, or ctx ends. While the agent is away it is looked for, at the address and with the token that
// its data folder names then.
func (p *patience) patiently(ctx context.Context, ask func(context.Context) error) error {
	pause := firstPause
	for {
		err := ask(ctx)
		if ctx.Err() != nil || !p.unanswered(err) {
			p.heard(err)
			return err
		}
		for lost := err; lost != nil; lost = p.client.findAgain() {
			if lost != err && !errors.Is(lost, errNoAgent) {
				return lost
			}
			p.miss(lost)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			pause = min(2*pause, lastPause)
		}
	}
}

// unanswered says that an error leaves open what the agent would say: it is away, or about to go.
func (p *patience) unanswered(err error) bool {
	if away := new(awayError); errors.As(err, &away) {
		return p.sent || !away.unsent // an agent that was never there is no agent that comes back
	}
	refused := new(refusedError)
	return errors.As(err, &refused) && refused.status == http.StatusServiceUnavailable && slices.Contains([]string{"stopping", "timeout", "busy"}, refused.code)
}

// miss tells, once, that the agent is away.
func (p *patience) miss(err error) {
	if p.away {
		return
	}
	p.away = true
	p.above(func() {
		fmt.Fprintf(p.tell, "muster: the agent is away (%s); waiting for it: %s. Ctrl-C ends the waiting.\n", reason(err), p.kept())
	})
}

// heard tells that the agent is back, if a person knows that it was away.
func (p *patience) heard(err error) {
	if p.away && err == nil {
		p.away = false
		p.above(func() { fmt.Fprintln(p.tell, "muster: the agent is back") })
	}
}

// reason is why there is no answer, without the address and what a person knows already.
func reason(err error) string {
	if away := new(awayError); errors.As(err, &away) {
		err = away.err
	}
	if at := new(url.Error); errors.As(err, &at) {
		err = at.Err
	}
	if errors.Is(err, errNoAgent) {
		return "it has ended"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}
