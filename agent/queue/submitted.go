package queue

import (
	"context"
	"encoding/json"
	"fmt"

	"muster/shared/job"
)

// Submitted gives the jobs that a key stands for, as they are now; nil when it is new. It is for a command that was perhaps taken
// before and could not be made any more. Errors: ErrKeyReused as of Submit.
func (q *Queue) Submitted(ctx context.Context, key string, asked job.Spec) ([]job.Job, error) {
	text, err := json.Marshal(asked)
	if err != nil {
		return nil, fmt.Errorf("submitted: %w", err)
	}
	var own job.Spec // shares no pointer with the caller's
	if err := json.Unmarshal(text, &own); err != nil {
		return nil, fmt.Errorf("submitted: %w", err)
	}
	answer := make(chan []job.Job, 1)
	err = q.change(ctx, func(b *batch) error { // in turn with Submit: one that is being committed is seen
		jobs, err := b.submitted(key, own)
		answer <- jobs
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-answer, nil
}
