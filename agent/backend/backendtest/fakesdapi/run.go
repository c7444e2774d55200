package fakesdapi

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"muster/agent/backend/backendtest"
)

// lock waits for its turn, first come first served. A koboldcpp of today and r given up end the wait.
func (s *Server) lock(r *http.Request) bool {
	s.mu.Lock()
	if !s.locked {
		s.locked = true
		s.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-s.quit:
		return false
	}
}

func (s *Server) unlock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.locked = false
		return
	}
	close(s.waiting[0])
	s.waiting = s.waiting[1:]
}

// begin makes a job the one that runs. The caller has the lock.
func (s *Server) begin(j *Job, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.Number = len(s.jobs) + 1
	s.jobs = append(s.jobs, j)
	s.pending = slices.DeleteFunc(s.pending, func(id string) bool { return id == j.Task })
	s.current = j.Task
	stamp := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(j.Number) * time.Second)
	j.stamp = stamp.Format("20060102150405")
	s.state = state{job: name, jobCount: 1, timestamp: j.stamp, steps: j.Steps, begun: time.Now(), running: j}
	if s.cfg.Flavour == SDNext {
		s.state.id = fmt.Sprintf("%015x", j.Number)
	}
}

func (s *Server) end(j *Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.Ended = true
	if s.current == j.Task {
		s.current = ""
	}
	s.finished = append(s.finished, j.Task)
	if len(s.finished) > 16 {
		s.finished = s.finished[1:]
	}
	s.state.job, s.state.jobCount, s.state.id, s.state.running = "", 0, "", nil
}

// Occupy runs somebody else's job of so many steps, made in the program's own page, until it has made them or is interrupted.
func (s *Server) Occupy(steps int) (done <-chan struct{}) {
	finished, begun := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		if !s.lock(nil) {
			close(begun)
			return
		}
		defer s.unlock()
		j := &Job{Task: "task(theirs)", Steps: steps}
		s.begin(j, "task(theirs)")
		close(begun)
		s.sample(j, nil)
		s.end(j)
	}()
	<-begun
	return finished
}

// sample makes the steps of a job; false when it was given up. gone is closed when nobody waits for it; nil when that changes
// nothing.
func (s *Server) sample(j *Job, gone <-chan struct{}) bool {
	for step := 1; step <= j.Steps; step++ {
		if s.cfg.Before != nil {
			s.cfg.Before(j.Number, step)
		}
		if _, hit := s.fault(j.Number, step, backendtest.Hang); hit && j.Mine {
			<-s.quit
		}
		if _, hit := s.fault(j.Number, step, backendtest.Interrupted); hit && j.Mine {
			s.Interrupt()
		}
		select {
		case <-s.quit:
			return false
		case <-gone:
			return false
		case <-time.After(s.cfg.Step):
		}
		s.mu.Lock()
		if s.state.interrupted || s.state.skipped {
			s.mu.Unlock()
			return true
		}
		j.Made = step
		s.state.step = step
		s.state.preview++
		s.mu.Unlock()
	}
	return true
}
