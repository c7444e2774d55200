package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"time"

	"muster/shared/job"
)

// lastWord is how long an interrupted command goes on asking the agent what became of its set.
const lastWord = 5 * time.Second

var errInterrupted = errors.New("interrupted")

// submit hands a set to the agent and gives its id. When ctx ends before the answer is there, the set may have been accepted all
// the same: it is asked for once more by its key, and cancelled.
func submit(ctx context.Context, client *client, spec job.Spec) (setID string, err error) {
	key := "muster-" + rand.Text()
	post := func(ctx context.Context) (string, error) {
		var accepted struct {
			SetID string `json:"set_id"`
		}
		err := client.do(ctx, "POST", "/api/v1/jobs", spec, &accepted, "Idempotency-Key", key)
		return accepted.SetID, err
	}
	if setID, err = post(ctx); err == nil || ctx.Err() == nil {
		return setID, err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	setID, err = post(last)
	if refused := new(refusedError); errors.As(err, &refused) {
		return "", errInterrupted // nothing stands under the key
	}
	if err == nil {
		err = cancelSet(last, client, setID)
	}
	if err != nil {
		return "", fmt.Errorf("%w; whether the images were accepted is not known, muster jobs lists them: %w", errInterrupted, err)
	}
	return "", errInterrupted
}

// cancelSet gives up what is not finished.
func cancelSet(ctx context.Context, client *client, setID string) error {
	return client.do(ctx, "DELETE", "/api/v1/sets/"+url.PathEscape(setID), nil, nil)
}
