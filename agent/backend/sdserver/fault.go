package sdserver

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
	"muster/agent/process"
)

// earlyExit is how soon a child ends with status 1 when its configuration is wrong.
const earlyExit = 2 * time.Second

// gone waits a moment for the end of a child whose connection was dropped; false when it lives.
func (s *server) gone() bool {
	select {
	case <-s.Process.Done():
		return true
	case <-time.After(time.Second):
		return false
	}
}

// bindFailed says whether the child ended because it could not have its port: status 0 although nobody asked it to end.
func (s *slot) bindFailed() bool {
	exit := s.Child.Process.Exit()
	return exit.Code == 0 && !exit.Asked
}

// why is what the child said last, or how it ended.
func (s *server) why(exit process.Exit) string {
	if said := s.out.complaint(); said != "" {
		return fmt.Sprintf("%s (%s)", said, exit)
	}
	return exit.String()
}

// startFault explains a child that ended before it was ready.
func (s *slot) startFault(p pin, model backend.Model) error {
	server := s.Child
	exit, said := server.Process.Exit(), server.out.complaint()
	if exit.Signal != 0 || exit.Code != 1 || exit.Ran > earlyExit || server.out.look().memory != "" {
		return s.died()
	}
	_ = s.Stop("ended")
	switch {
	case strings.Contains(said, "backend") && strings.Contains(said, "not found"):
		return s.Broken(fmt.Errorf("sd-server does not see %s as %s behind %s: %s: check the driver, and that the build is for this device: %w",
			s.Device.Index.Label(), p.backend, strings.Join(p.env, " "), said, backend.ErrUnavailable))
	case strings.Contains(said, "unknown argument"), strings.Contains(said, "arguments are required"):
		return s.Broken(fmt.Errorf("this sd-server does not know what muster asks of it (%s): update stable-diffusion.cpp: %w", said, backend.ErrUnavailable))
	}
	return s.fleet.blame(model, said)
}

// died explains a child that ended by itself, counts it and forgets it.
func (s *slot) died() error {
	server := s.Child
	exit, memory := server.Process.Exit(), server.out.look().memory
	err := s.Stop("ended")
	switch {
	case exit.Asked:
		return err
	case memory != "":
		s.squeeze(server)
		return s.Failed(fmt.Errorf("sd-server on %s: %s (%s): %w", s.Device.Index.Label(), memory, exit, backend.ErrOutOfMemory))
	}
	return s.Failed(fmt.Errorf("sd-server on %s ended: %s: %w", s.Device.Index.Label(), server.why(exit), backend.ErrUnavailable))
}

// exchangeFault explains an exchange about a job that gave no answer to go on with. The child's state is unknown, so it is
// replaced.
func (s *slot) exchangeFault(server *server, err error) error {
	var answered *exchange.StatusError
	known := errors.As(err, &answered) || errors.Is(err, exchange.ErrBroken)
	if !known && server.gone() {
		return s.died()
	}
	return s.Failed(s.Stop(err.Error()))
}

// jobFault explains a job that sd-server gave up.
func (s *slot) jobFault(server *server, job status) error {
	text := "no reason given"
	if job.Error != nil && job.Error.Message != "" {
		text = exchange.Clean(job.Error.Message)
	}
	seen := server.out.look()
	if said := server.out.complaint(); said != "" {
		text += ": " + said
	}
	switch {
	case job.Status == statusCancelled:
		return fmt.Errorf("sd-server on %s: somebody else cancelled the job: %w", s.Device.Index.Label(), backend.ErrUnavailable)
	// A compute call that fails inside a healthy process had no room for its buffers: captured with 4096x4096 in 10 GiB.
	case seen.memory != "", seen.failed, tellsOfMemory(text):
		s.squeeze(server)
		return fmt.Errorf("sd-server on %s: %s: try a smaller size: %w", s.Device.Index.Label(), text, backend.ErrOutOfMemory)
	}
	return fmt.Errorf("sd-server could not make the image: %s", text)
}

// modelFault is a model that sd-server refused.
type modelFault struct {
	err   error
	files []fileState // of the model and its parts, as they were
	until time.Time
}

// fileState is what tells that a file was changed; zero sizes and times are those of one that is not there.
type fileState struct {
	path           string
	size, modified int64
}

// statesOf looks at all files of a model.
func statesOf(m backend.Model) []fileState {
	states := []fileState{{path: m.Path}}
	for _, part := range m.Parts {
		states = append(states, fileState{path: part.Path})
	}
	for i := range states {
		if info, err := os.Stat(states[i].path); err == nil {
			states[i].size, states[i].modified = info.Size(), info.ModTime().UnixNano()
		}
	}
	return states
}

// modelRest is how long a refused model is not tried again while its files stay as they are.
const modelRest = 10 * time.Minute

// blame keeps a model from being started again and again, on whatever device, and gives the error.
func (f *Fleet) blame(model backend.Model, said string) error {
	err := fmt.Errorf("sd-server can't load model %q: %s: replace the file, or choose another model", model.Name, said)
	if len(model.Parts) > 0 {
		err = fmt.Errorf("sd-server can't load model %q with %s: %s: replace the file that is at fault, or choose another model", model.Name, strings.Join(partNames(model), ", "), said)
	}
	fault := &modelFault{err: err, files: statesOf(model), until: time.Now().Add(modelRest)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[model.Name] = fault
	return err
}

// faulty says whether a model was refused a short time ago. It looks at no file.
func (f *Fleet) faulty(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := f.faults[name]
	return fault != nil && time.Now().Before(fault.until)
}

// refuses gives the error for which a model is not tried now; nil when it may be.
func (f *Fleet) refuses(model backend.Model) error {
	f.mu.Lock()
	fault := f.faults[model.Name]
	f.mu.Unlock()
	if fault == nil || time.Now().After(fault.until) || !slices.Equal(fault.files, statesOf(model)) {
		return nil
	}
	return fault.err
}
