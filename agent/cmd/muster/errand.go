package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"muster/shared/job"
)

// errand is a set that the agent makes for muster generate. Once accepted it is durable, so neither the end of the agent nor that of the
// connection ends it: it is waited for until the agent is back. One goroutine uses it.
type errand struct {
	patience
	spec job.Spec
	key  string // its Idempotency-Key
	dir  string // of the images
	view *progressView

	setID    string // "" until the agent has said that it accepted the set
	jobs     []job.Job
	notes    []string        // what is not as it was asked for
	expected *job.Expected   // nil when that is not known
	saved    map[string]bool // by the job's id
}

// keptWords says what becomes of the set while the agent is away.
func (e *errand) keptWords() string {
	if e.setID == "" {
		return "the images are asked for again when it is back, and made once"
	}
	return fmt.Sprintf("the set %s is kept there and goes on when it is back", e.setID)
}

// lookTimeout bounds one look at the jobs: a connection that hangs is found out by it.
const lookTimeout = 10 * time.Second

// follow looks at the jobs until all have ended, and saves the image of each that succeeded.
func (e *errand) follow(ctx context.Context) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		if err := e.patiently(ctx, e.look); err != nil {
			return err
		}
		if err := e.patiently(ctx, e.saveOnce); err != nil {
			return err
		}
		e.view.show(e.jobs, e.expected)
		if !slices.ContainsFunc(e.jobs, func(j job.Job) bool { return !j.State.Terminal() }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// errGone is that the agent does not know the set.
var errGone = errors.New("the agent does not know the set")

// look asks for the jobs once.
func (e *errand) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var list jobList
	if err := e.client.do(ctx, "GET", "/api/v1/jobs?set_id="+url.QueryEscape(e.setID), nil, &list); err != nil {
		return err
	}
	if len(list.Jobs) == 0 {
		return errGone
	}
	e.jobs, e.expected = list.Jobs, list.Expected
	return nil
}

// saveOnce saves the images that are not saved yet; what is cut off is not there, and fetched anew the next time.
func (e *errand) saveOnce(ctx context.Context) error {
	for _, j := range e.jobs {
		if j.State != job.Succeeded || e.saved[j.ID] {
			continue
		}
		if err := keepImage(ctx, e.client, j, e.dir); err != nil {
			return err
		}
		e.saved[j.ID] = true
	}
	return nil
}

// explain says of an error that ends the command what it means for the set, and what a person can do.
func (e *errand) explain(err error) error {
	refused := new(refusedError)
	switch isRefused := errors.As(err, &refused); {
	case isRefused && refused.code == "":
		return fmt.Errorf("what answers at %s is no agent (%w)%s", e.client.base, err, e.savedWords("; "))
	case e.setID == "":
		return err
	case errors.Is(err, errGone), notFound(err):
		return fmt.Errorf("the agent at %s does not know the set %s, or its images, any more: they were removed there (--keep-for, --keep-bytes), or this is another agent, with another data folder%s",
			e.client.base, e.setID, e.savedWords("; "))
	case isRefused && (refused.status == http.StatusUnauthorized || refused.status == http.StatusForbidden):
		return fmt.Errorf("the agent at %s refuses the token (%w): it was changed, or this is another agent; name the data folder of the one that has the set %s with --data, or its token with MUSTER_TOKEN%s",
			e.client.base, err, e.setID, e.savedWords("; "))
	}
	return fmt.Errorf("%w; the agent has the set %s all the same: muster jobs export --set %s --images -o FOLDER saves its images, muster jobs cancel %s gives it up", err, e.setID, e.setID, e.setID)
}

// savedWords says what is saved and where, behind a separator; "" when nothing is.
func (e *errand) savedWords(separator string) string {
	if len(e.saved) == 0 {
		return ""
	}
	return fmt.Sprintf("%s%d of %d images are saved in %s", separator, len(e.saved), len(e.jobs), e.dir)
}
