package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"muster/shared/job"
)

// lastWord is how long an interrupted command goes on asking the agent what became of its set.
const lastWord = 5 * time.Second

// submit hands the set to the agent, however often that takes: under one key it is made once.
func (e *errand) submit(ctx context.Context) error { return e.patiently(ctx, e.post) }

// post hands the set to the agent once.
func (e *errand) post(ctx context.Context) error {
	var accepted struct {
		SetID string    `json:"set_id"`
		Jobs  []job.Job `json:"jobs"`
		Notes []string  `json:"notes"`
	}
	err := e.client.do(ctx, "POST", "/api/v1/jobs", e.spec, &accepted, "Idempotency-Key", e.key)
	if away := new(awayError); !errors.As(err, &away) || !away.unsent {
		e.sent = true
	}
	if err == nil {
		e.setID, e.jobs, e.notes = accepted.SetID, accepted.Jobs, accepted.Notes
	}
	return err
}

// giveUp cancels what is not finished, saves what is, and says what became of all: a person has interrupted.
func (e *errand) giveUp(ctx context.Context) error {
	if !e.sent {
		return interrupted(ctx, "nothing was asked for yet")
	}
	type taken struct {
		set setAnswer
		err error
	}
	back := make(chan taken, 1)
	go func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
		defer cancel()
		set, err := e.takeBack(last)
		back <- taken{set, err}
	}()
	var now taken
	select {
	case now = <-back:
	case <-time.After(firstWord):
		e.view.above(func() {
			fmt.Fprintln(e.tell, "muster: the agent is asked to cancel; Ctrl-C again ends the command at once")
		})
		now = <-back
	}
	refused := new(refusedError)
	switch away := e.unanswered(now.err) || errors.Is(now.err, errNoAgent); {
	case now.err == nil:
		return e.accountFor(ctx, now.set)
	case away && e.setID == "":
		return interrupted(ctx, "the agent is away (%s), and whether it accepted the images is not known: muster jobs lists them when it is back, muster jobs cancel gives them up", reason(now.err))
	case away:
		return interrupted(ctx, "the agent is away (%s), so the set %s goes on when it is back: muster jobs cancel %s gives it up%s", reason(now.err), e.setID, e.setID, e.savedWords("; "))
	case e.setID == "" && errors.As(now.err, &refused):
		return interrupted(ctx, "nothing was accepted")
	}
	return interrupted(ctx, "the images were not cancelled: %v%s", e.explain(now.err), e.savedWords("; "))
}

// firstWord is how long a person who interrupted is told nothing.
const firstWord = time.Second

// takeBack cancels the set. One that may have been accepted although there was no answer, or still be, is found by its key.
func (e *errand) takeBack(ctx context.Context) (set setAnswer, err error) {
	if err := e.client.findAgain(); err != nil {
		return set, err
	}
	if e.setID == "" {
		if err := e.post(ctx); err != nil {
			return set, err
		}
	}
	return cancelSet(ctx, e.client, e.setID)
}

// accountFor saves what was finished of a set that was cancelled, and counts it.
func (e *errand) accountFor(ctx context.Context, set setAnswer) error {
	e.jobs = set.Jobs
	saving := e.saveOnce(context.WithoutCancel(ctx))
	e.view.show(e.jobs, nil)
	words := countWords(set.Jobs)
	switch finished := len(set.Jobs) - len(unmade(set.Jobs)); {
	case saving != nil:
		words += fmt.Sprintf("; %d of them saved in %s: %v", len(e.saved), e.dir, saving)
	case finished > 0:
		words += " and saved in " + e.dir
	}
	return interrupted(ctx, "%s", words)
}

// setAnswer is the answer of the routes of one set.
type setAnswer struct {
	Jobs []job.Job `json:"jobs"`
}

// cancelSet gives up what is not finished, and gives the jobs as they are then.
func cancelSet(ctx context.Context, client *client, setID string) (set setAnswer, err error) {
	return set, client.do(ctx, "DELETE", "/api/v1/sets/"+url.PathEscape(setID), nil, &set)
}

// countWords says how jobs ended: "3 cancelled, 1 failed, 2 finished".
func countWords(jobs []job.Job) string {
	counts := map[job.State]int{}
	for _, j := range jobs {
		counts[j.State]++
	}
	words := []string{fmt.Sprintf("%d cancelled", counts[job.Cancelled])}
	if failed := counts[job.Failed]; failed > 0 {
		words = append(words, fmt.Sprintf("%d failed", failed))
	}
	if open := counts[job.Queued] + counts[job.Running]; open > 0 {
		words = append(words, fmt.Sprintf("%d not ended", open))
	}
	return strings.Join(append(words, fmt.Sprintf("%d finished", counts[job.Succeeded])), ", ")
}

// unmade gives the jobs that have no image.
func unmade(jobs []job.Job) (left []job.Job) {
	for _, j := range jobs {
		if j.State != job.Succeeded {
			left = append(left, j)
		}
	}
	return left
}
