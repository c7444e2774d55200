package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/calls"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/sampler"
)

// Facts are what a server says of itself.
type Facts struct {
	Title  string // for people: "ComfyUI 0.3.62"
	Models []backend.Model
	Loaded string // model in its memory, by Model.Name; "" when none or not known
	// What all models have in common, as in backend.Model; zero where each has its own.
	Grid     int
	Samplers *sampler.List
	// What it says of its device, to tell which one it is; zero where it says nothing.
	DeviceName  string
	MemoryBytes uint64 // all of the device's
	CPU         bool   // it computes on the processor
}

// device is the device as the server calls it, for people.
func (f Facts) device() string {
	switch {
	case f.DeviceName != "":
		return f.DeviceName
	case f.MemoryBytes != 0:
		return fmt.Sprintf("a device of %.1f GiB", gpu.RoundGiB(f.MemoryBytes))
	}
	return "an unknown device"
}

// Probe asks a server what it is. It is given a deadline. Its error says what is wrong, for people.
type Probe func(context.Context) (Facts, error)

// ErrUnusable is wrapped by a Probe's error when the server answers, but can't be used as it is: started without its API, or it wants a
// password. Asking again is as slow as for one that is not there, and its words are shown.
var ErrUnusable = errors.New("it can't be used as it is")

// ErrNotItsFault is wrapped by an error that says nothing against the server: it is busy for somebody else, or somebody interrupted
// it. The image is made elsewhere or again, and the breaker does not count it.
var ErrNotItsFault = errors.New("that is not the server's fault")

// breakerWindow is how long failures are remembered: hangs are found out after minutes, so three of them take long.
const breakerWindow = time.Hour

// Timing of probes.
const (
	probeEvery   = 5 * time.Second // while it answers
	probeLimit   = 10 * time.Second
	probeLongest = 15 * time.Second // between looks at one that does not answer
)

// Server is one attached server. Make it with New; its methods may be called from any goroutine.
type Server struct {
	Turn calls.Turn  // to use it: of a call, or of what is left of one. See Use.
	Life *calls.Life // ends with Run's context

	config  Config
	machine *Machine
	probe   Probe
	log     *slog.Logger
	wake    chan struct{} // of size 1: look at once

	mu      sync.Mutex
	facts   Facts     // the last that were told, also while it does not answer; of the agent's last life before it was reached
	asked   bool      // ever
	reached bool      // it has answered, ever
	seen    time.Time // when it answered last, in the agent's last life too; zero for never
	was     string    // stable ID of the device that it worked on then; "" when not known
	fault   error     // why it can't be used; nil when it answered last
	device  gpu.Device
	placed  bool  // device is known, from now or before
	unsure  error // why it is not certain now
	judged  known // what that was judged by
	pid     int   // of its process; 0 when not known
	working int   // calls under way
	breaker process.Breaker
	failed  string // what failed last, for people
	rising  int    // failures in a row
}

// New makes a Server; it is asked for the first time when Run begins.
func New(config Config, machine *Machine, probe Probe, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		Turn: calls.NewTurn(), Life: calls.NewLife(),
		config: config, machine: machine, probe: probe, log: log, wake: make(chan struct{}, 1),
		fault: errNotAsked, breaker: process.Breaker{Window: breakerWindow},
	}
	if before, known := machine.Memory.recall(config.ID()); known {
		s.facts = s.restrict(Facts{Title: before.Title, Models: before.Models})
		s.seen, s.was = before.Seen, before.Device
	} else {
		// What a person named is there before it was ever seen; a path may have another name then.
		s.facts.Models = slices.DeleteFunc(s.configured(Facts{}), func(m backend.Model) bool { return strings.ContainsAny(m.Name, `/\`) })
	}
	return s
}

var errNotAsked = errors.New("it has not been asked yet")

// Config is what it was made with.
func (s *Server) Config() Config { return s.config }

// Run asks the server again and again what it is, until ctx ends, and with it Life.
func (s *Server) Run(ctx context.Context) error {
	defer s.Life.End()
	defer context.AfterFunc(ctx, s.Life.End)() // at once, whatever is being asked
	pause := process.Backoff{First: time.Second, Longest: probeLongest}
	for {
		next := probeEvery
		if s.busy() {
			// A server that works answers late, or not at all: that is no news of it.
		} else if s.look(ctx) {
			pause.Reset()
		} else {
			next = pause.Next()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-time.After(next):
		}
	}
}

// Look has the server asked at once.
func (s *Server) Look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// busy says whether a call is under way on a server that is there.
func (s *Server) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.working > 0 && s.fault == nil
}

// look asks once; false when it got no answer to go on with.
func (s *Server) look(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	facts, err := s.probe(asking)
	if ctx.Err() != nil {
		return true
	}
	s.mu.Lock()
	hint := s.pid
	s.mu.Unlock()
	pid := 0
	if err == nil {
		pid, _ = process.Listener(s.config.port(), hint) // 0 when it can't be looked at, as in a container
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.working > 0 && s.fault == nil {
		return true // it was given work meanwhile, and answers late
	}
	before := s.problem(time.Now())
	if s.reached && (s.fault != nil || pid != s.pid) && err == nil {
		s.placed = false // it may be another process, on another device
	}
	if s.fault != nil && err == nil { // what failed has gone with the one that was there before
		s.breaker.Succeed()
		s.failed, s.rising = "", 0
	}
	s.fault, s.asked = err, true
	if err == nil {
		s.facts, s.reached, s.pid = s.restrict(facts), true, pid
		s.settle()
		s.remember(facts)
	} else {
		s.machine.Memory.gone(s.config.ID())
	}
	if after := s.problem(time.Now()); words(after) != words(before) {
		s.log.Info("attached generator", "generator", s.config.ID(), "title", s.facts.Title, "device", s.label(), "problem", words(after))
	}
	return err == nil
}

// remember notes that it answers, and what it has: as it says, for the settings may be others tomorrow. It needs mu.
func (s *Server) remember(facts Facts) {
	s.seen = time.Now()
	if s.unsure == nil {
		s.was = s.device.ID
	}
	s.machine.Memory.note(s.config.ID(), past{Seen: s.seen.UTC().Truncate(time.Second), Title: facts.Title, Device: s.was, Models: facts.complete().Models})
}

// Was gives the stable ID of the device that it worked on when it was seen last, while it is away and nobody knows where it will work
// when it comes back; "" otherwise.
func (s *Server) Was() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placed || s.fault == nil {
		return ""
	}
	return s.was
}

// restrict leaves the models that were configured, and completes them. One that the server does not name is kept: some name none.
func (s *Server) restrict(facts Facts) Facts {
	if len(s.config.Models) > 0 {
		facts.Models = s.configured(facts)
	}
	return facts.complete()
}

// complete tells of each model what holds for all.
func (facts Facts) complete() Facts {
	if facts.Grid == 0 && facts.Samplers == nil {
		return facts
	}
	facts.Models = slices.Clone(facts.Models)
	for i := range facts.Models {
		facts.Models[i].Grid, facts.Models[i].Samplers = facts.Grid, facts.Samplers
	}
	return facts
}

func (s *Server) configured(facts Facts) (kept []backend.Model) {
	for _, name := range s.config.Models {
		at := slices.IndexFunc(facts.Models, func(m backend.Model) bool { return m.Name == name || m.Path == name })
		if at >= 0 {
			kept = append(kept, facts.Models[at])
		} else {
			kept = append(kept, backend.Model{Name: name, Title: name, Path: name})
		}
	}
	return kept
}

// Models gives what it can make images with, as it said last.
func (s *Server) Models() []backend.Model { return slices.Clone(s.Facts().Models) }

// Facts gives what it said last; zero before the first time.
func (s *Server) Facts() Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts
}

// Loaded notes which model it holds in memory since it was asked last; "" for none.
func (s *Server) Loaded(model string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts.Loaded = model
}

// begin tells that a call begins, and end how it ended. In between the server is not probed.
func (s *Server) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working++
}

// end takes what the call returned. An error that wraps backend.ErrUnavailable counts as a failure of the server, also as the cause of
// a call that was given up because it hung, unless it wraps ErrNotItsFault too.
func (s *Server) end(err error) {
	s.mu.Lock()
	s.working--
	switch {
	case err == nil:
		s.breaker.Succeed()
		s.failed, s.rising, s.seen = "", 0, time.Now()
	case errors.Is(err, syscall.ECONNREFUSED): // nobody listens there any more: it is away until it answers again
		s.fault = errors.New("connection refused")
	case errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, ErrNotItsFault):
		s.failed = err.Error()
		s.rising++
		s.breaker.Fail(time.Now())
	}
	s.mu.Unlock()
	if err != nil {
		s.Look()
	}
}

// Owns says whether a process on a device is the server, or was started by it. It does not block.
func (s *Server) Owns(pid int) bool {
	s.mu.Lock()
	own := s.pid
	s.mu.Unlock()
	return own != 0 && process.Descends(pid, own)
}
