package server

import (
	"context"
	"errors"
	"net/http"

	"muster/agent/queue"
	"muster/shared/job"
)

// set is all images of one command.
type set struct {
	SetID  string            `json:"set_id"`
	State  string            `json:"state"` // that of its jobs, or "mixed" when they ended differently
	Counts map[job.State]int `json:"counts"`
	// Expected is when the last of them is predicted to be done; nil when that is not known, and when all have ended.
	Expected *job.Expected `json:"expected"`
	Jobs     []job.Job     `json:"jobs"`
}

// getSet answers GET /api/v1/sets/{id}.
func (s *Server) getSet(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	found, err := s.set(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, found)
	return nil
}

// deleteSet answers DELETE /api/v1/sets/{id}: it cancels what has not ended. Asking twice is no error.
func (s *Server) deleteSet(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	found, err := s.set(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := s.cancelAll(r.Context(), found.Jobs); err != nil {
		return err
	}
	return s.getSet(w, r)
}

// cancelAll gives up those of these jobs that have not ended. What waits goes first: a device that a running one leaves would take it.
func (s *Server) cancelAll(ctx context.Context, jobs []job.Job) error {
	for _, state := range []job.State{job.Queued, job.Running} {
		for _, j := range jobs {
			if j.State != state {
				continue
			}
			if _, _, err := s.cancel(ctx, j.ID); err != nil && !errors.Is(err, job.ErrTransition) {
				return err
			}
		}
	}
	return nil
}

func (s *Server) set(ctx context.Context, id string) (set, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var jobs []job.Job
	if len(id) == idLength {
		var err error
		if jobs, _, err = s.config.Queue.List(ctx, queue.Filter{SetID: id, Limit: job.MaxCount}); err != nil {
			return set{}, err
		}
	}
	if len(jobs) == 0 {
		return set{}, &refusal{status: http.StatusNotFound, code: "not_found", message: "no such set"}
	}
	return newSet(id, jobs), nil
}

// newSet counts the jobs of a set, of which there is at least one.
func newSet(id string, jobs []job.Job) set {
	made := set{SetID: id, Counts: map[job.State]int{}, Expected: job.SetExpected(jobs), Jobs: jobs}
	for _, j := range jobs {
		made.Counts[j.State]++
	}
	switch queued, running := made.Counts[job.Queued], made.Counts[job.Running]; {
	case len(made.Counts) == 1:
		made.State = string(jobs[0].State)
	case queued+running > 0:
		made.State = string(job.Running) // one that waits among others that have ended is in the middle
	default:
		made.State = "mixed"
	}
	return made
}
