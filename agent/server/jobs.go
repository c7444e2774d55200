package server

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"muster/agent/queue"
	"muster/shared/job"
)

// postJobs answers POST /api/v1/jobs: 202 when the jobs are new and durable, 200 when the key stood for them already.
func (s *Server) postJobs(w http.ResponseWriter, r *http.Request) error {
	release, err := s.hold(w, r)
	if err != nil {
		return err
	}
	defer release()
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	var spec job.Spec
	if err := decodeJSON(body, &spec); err != nil {
		return err
	}
	if err := checkZeros(body); err != nil {
		return err
	}
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) > 1 {
		return invalid("Idempotency-Key", "is given %d times: once is enough", len(keys))
	}
	jobs, created, err := s.submit(r.Context(), callerOf(r), strings.Join(keys, ""), spec, nil)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusAccepted
	}
	writeJSON(w, status, accepted{jobs[0].SetID, jobs, notes(spec, jobs[0])})
	return nil
}

// notes say what of a command was changed when it was taken.
func notes(asked job.Spec, made job.Job) []string {
	if (asked.Width == 0 || asked.Width == made.Width) && (asked.Height == 0 || asked.Height == made.Height) {
		return nil
	}
	return []string{fmt.Sprintf("%dx%d becomes %dx%d: that is what the model %s is made in", cmp.Or(asked.Width, made.Width), cmp.Or(asked.Height, made.Height), made.Width, made.Height, made.Model)}
}

// accepted is the answer to a command.
type accepted struct {
	SetID string    `json:"set_id"`
	Jobs  []job.Job `json:"jobs"`
	Notes []string  `json:"notes,omitempty"` // what is not as it was asked for, for people
}

// jobList is a page of jobs.
type jobList struct {
	Jobs []job.Job `json:"jobs"`
	Next string    `json:"next"` // what to give as after for the page behind it; "" for none
	// Expected is when the last of a whole set is predicted to be done.
	Expected *job.Expected `json:"expected,omitempty"`
}

// listJobs answers GET /api/v1/jobs?state=&set_id=&limit=&after=&order=. With set_id alone it says when the set is expected too.
func (s *Server) listJobs(w http.ResponseWriter, r *http.Request) error {
	filter, err := jobFilter(r, "state", "set_id", "limit", "after", "order")
	if err != nil {
		return err
	}
	jobs, next, err := s.config.Queue.List(r.Context(), filter)
	if err != nil {
		return err
	}
	if jobs == nil {
		jobs = []job.Job{}
	}
	var expected *job.Expected
	if whole := filter.SetID != "" && filter.State == "" && filter.After == "" && next == ""; whole {
		expected = job.SetExpected(jobs)
	}
	writeJSON(w, http.StatusOK, jobList{jobs, next, expected})
	return nil
}

const idLength = 26 // of jobs and sets: ULIDs

// jobFilter reads the parameters that a route knows.
func jobFilter(r *http.Request, known ...string) (queue.Filter, error) {
	values, err := query(r, known...)
	if err != nil {
		return queue.Filter{}, err
	}
	limit, err := number(values, "limit", queue.DefaultLimit, 1, queue.MaxLimit)
	if err != nil {
		return queue.Filter{}, err
	}
	state := job.State(values.Get("state"))
	if state != "" && !slices.Contains(job.States, state) {
		return queue.Filter{}, invalid("state", "is %q; allowed are queued, running, succeeded, failed, cancelled", cut(string(state)))
	}
	for _, name := range []string{"set_id", "after"} {
		if id := values.Get(name); id != "" && len(id) != idLength {
			return queue.Filter{}, invalid(name, "is %q, which is no id: give the set_id of a job, and as after the next of the page before", cut(id))
		}
	}
	order := values.Get("order")
	if order != "" && order != "oldest" && order != "newest" {
		return queue.Filter{}, invalid("order", "is %q; allowed are oldest and newest", cut(order))
	}
	return queue.Filter{State: state, SetID: values.Get("set_id"), Limit: limit, After: values.Get("after"), Newest: order == "newest"}, nil
}

// getJob answers GET /api/v1/jobs/{id}.
func (s *Server) getJob(w http.ResponseWriter, r *http.Request) error {
	j, err := s.config.Queue.Job(r.Context(), r.PathValue("id"))
	if err != nil {
		return noJob(err)
	}
	writeJSON(w, http.StatusOK, j)
	return nil
}

// deleteJob answers DELETE /api/v1/jobs/{id}: it cancels.
func (s *Server) deleteJob(w http.ResponseWriter, r *http.Request) error {
	j, _, err := s.cancel(r.Context(), r.PathValue("id"))
	if err != nil {
		return noJob(err)
	}
	writeJSON(w, http.StatusOK, j)
	return nil
}

// noJob keeps an id of any length out of the answer.
func noJob(err error) error {
	if refused := refusalOf(err); refused.status == http.StatusNotFound {
		return &refusal{status: http.StatusNotFound, code: "not_found", message: "no such job"}
	}
	return err
}
