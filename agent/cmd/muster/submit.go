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
	}
	err := e.client.do(ctx, "POST", "/api/v1/jobs", e.spec, &accepted, "Idempotency-Key", e.key)
	if away := new(awayError); !errors.As(err, &away) || !away.unsent {
		e.sent = true
	}
	if err == nil {
		e.setID, e.jobs = accepted.SetID, accepted.Jobs
	}
	return err
}

// giveUp cancels what is not finished, saves what is, and says what became of all: a person has interrupted.
func (e *errand) giveUp(ctx context.Context) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	err := e.client.findAgain()
	if err == nil && e.setID == "" {
		if !e.sent {
			return interrupted(ctx, "nothing was asked for yet")
		}
		err = e.post(last) // it may have been accepted all the same, or still be: what stands under the key is cancelled
		if refused := new(refusedError); errors.As(err, &refused) && !e.unanswered(err) {
			return interrupted(ctx, "nothing was accepted")
		}
	}
	if err != nil && e.setID == "" {
		return interrupted(ctx, "the agent is away (%s), and whether it accepted the images is not known: muster jobs lists them when it is back, muster jobs cancel gives them up", reason(err))
	}
	var set setAnswer
	if err == nil {
		set, err = cancelSet(last, e.client, e.setID)
	}
	if e.unanswered(err) || errors.Is(err, errNoAgent) {
		return interrupted(ctx, "the agent is away (%s), so the set %s goes on when it is back: muster jobs cancel %s gives it up%s", reason(err), e.setID, e.setID, e.savedWords("; "))
	}
	if err != nil {
		return interrupted(ctx, "the set %s was not cancelled: %v%s", e.setID, e.explain(err), e.savedWords("; "))
	}
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
