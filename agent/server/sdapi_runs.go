package server

import (
	"slices"
	"sync"
	"time"

	"muster/shared/job"
)

// sdapiRun is a request to txt2img that somebody waits for.
type sdapiRun struct {
	client  string // whose it is
	task    string // "" for none
	began   time.Time
	count   int                 // images
	left    map[string]struct{} // ids of the jobs that have not ended; nil until they are submitted
	stopped bool                // interrupted or skipped: what is finished is the answer
	skipped bool                // that, and the ones that wait go on
}

// sdapiRuns are the requests in flight, oldest first. stable-diffusion-webui knows one at a time; here they are told of together.
type sdapiRuns struct {
	mu      sync.Mutex
	running []*sdapiRun
	ended   []string // tasks, oldest first
}

// maxEndedTasks is how many tasks are remembered to have ended.
const maxEndedTasks = 64

func (s *sdapiRuns) begin(client, task string, count int) *sdapiRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := &sdapiRun{client: client, task: task, began: time.Now(), count: count}
	s.running = append(s.running, run)
	return run
}

func (s *sdapiRuns) end(run *sdapiRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, func(r *sdapiRun) bool { return r == run })
	if run.task == "" {
		return
	}
	s.ended = append(s.ended, run.task)
	s.ended = s.ended[max(0, len(s.ended)-maxEndedTasks):]
}

// submitted tells which jobs a run waits for. stop says that it was interrupted before they were there.
func (s *sdapiRuns) submitted(run *sdapiRun, jobs []job.Job) (stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run.left = map[string]struct{}{}
	for _, j := range jobs {
		run.left[j.ID] = struct{}{}
	}
	return run.stopped && !run.skipped
}

func (s *sdapiRuns) finished(run *sdapiRun, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(run.left, id)
}

func (s *sdapiRuns) wasStopped(run *sdapiRun) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return run.stopped
}

// stop marks every run of a client and gives the jobs that they wait for. An interruption counts more than a skip.
func (s *sdapiRuns) stop(client string, skip bool) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, run := range s.running {
		if run.client != client {
			continue
		}
		run.skipped = skip && (run.skipped || !run.stopped)
		run.stopped = true
		ids = append(ids, run.ids()...)
	}
	return ids
}

// ids is called with mu held. Ids sort by submission.
func (r *sdapiRun) ids() []string {
	ids := make([]string, 0, len(r.left))
	for id := range r.left {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// sdapiView is a run as it is at an instant.
type sdapiView struct {
	sdapiRun
	waiting []string // ids of the jobs that have not ended, in order
}

func (v sdapiView) done() int {
	if v.left == nil {
		return 0
	}
	return v.count - len(v.waiting)
}

// views gives the runs in flight; of one task when it is named.
func (s *sdapiRuns) views(task string) (views []sdapiView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, run := range s.running {
		if task == "" || run.task == task {
			views = append(views, sdapiView{*run, run.ids()})
		}
	}
	return views
}

func (s *sdapiRuns) hasEnded(task string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.ended, task)
}
