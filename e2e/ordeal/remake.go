package ordeal

import (
	"context"
	"fmt"
	"time"

	"muster/shared/job"
)

// remaker is the client that asks for what there is already.
const remaker = "remaker"

// remake asks for images a second time, each with its own seed: the bytes must be the same.
func (c *client) remake(ctx context.Context, ids []string) error {
	again := map[string]string{} // first job by the second
	for _, id := range ids {
		c.mu.Lock()
		spec, seed := c.jobs[id].spec, c.jobs[id].newest.Seed
		c.mu.Unlock()
		spec.Seed, spec.Count, spec.ClientID = &seed, 1, remaker
		var answer struct {
			Jobs []job.Job `json:"jobs"`
		}
		if _, err := c.agent.Do(ctx, "POST", "/api/v1/jobs", spec, &answer); err != nil {
			return err
		}
		again[answer.Jobs[0].ID] = id
	}
	for second, first := range again {
		var j job.Job
		for began := time.Now(); !j.State.Terminal(); rest(ctx) {
			if _, err := c.agent.Do(ctx, "GET", "/api/v1/jobs/"+second, nil, &j); err != nil {
				return err
			}
			if time.Since(began) > patience {
				return fmt.Errorf("job %s is still %s after %s", second, j.State, patience)
			}
		}
		c.mu.Lock()
		if want := c.jobs[first].newest.ImageID; j.ImageID != want {
			c.note("seed %d gave image %.12s under load and %.12s (%s) at rest", j.Seed, want, j.ImageID, j.State)
		} else {
			c.totals.Remade++
		}
		c.mu.Unlock()
	}
	return nil
}
