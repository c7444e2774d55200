// Package fakesdapi behaves as the programs that serve /sdapi/v1 do, without weights and without a GPU: AUTOMATIC1111's web UI,
// Forge, SD.Next, koboldcpp and an sd-server that somebody else runs. Routes, statuses, bodies and quirks are those of their
// sources (modules/api, modules/progress.py and modules/shared_state.py of the first three at 0050a354 and 1.10, dfdcbab, 058a7f0;
// koboldcpp.py 1.102; captures of sd-server master-827). For tests only.
package fakesdapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/backend/backendtest"
)

// Flavour is a program.
type Flavour string

// The programs.
const (
	A1111     Flavour = "a1111"
	A1111Old  Flavour = "a1111-1.5" // before force_task_id: what it makes for the API is in no task list
	Forge     Flavour = "forge"
	SDNext    Flavour = "sdnext"
	KoboldCpp Flavour = "koboldcpp"
	// KoboldNew tells of its progress, and gives up what nobody waits for any more (LostRuins/koboldcpp#2316 and #2318).
	KoboldNew Flavour = "koboldcpp-new"
	SDServer  Flavour = "sd-server"
)

// python says whether it is one of the web UIs, which share their ancestor's routes.
func (f Flavour) python() bool { return f == A1111 || f == A1111Old || f == Forge || f == SDNext }

// Config is what a server is started with.
type Config struct {
	Flavour Flavour
	// Models are file names without extension; none is "model". koboldcpp and sd-server hold the first.
	Models []string
	Step   time.Duration // a step takes so long; 0 is none
	// Before is called before each step of each job, both from 1, and may hold it; nil for none.
	Before func(job, step int)
	// User and Password are asked for by basic authentication; "" for none.
	User, Password string
	NoAPI          bool // started without --api
	SingleUser     bool // koboldcpp without --multiuser: refuses while it works
	Frozen         bool // SD.Next started with --freeze: its settings do not change, not even for one image
	Grain          bool // images are noise, as large as real ones
	// SamplesFormat is the form of images: "png" when "", or "jpg", as SD.Next's default is, or "webp".
	SamplesFormat string
	Faults        []backendtest.Fault // Job counts from 1, those of others too
}

// Server is a running program. It is an http.Handler.
type Server struct {
	URL string // of Start
	cfg Config

	quit chan struct{}

	mu       sync.Mutex
	waiting  []chan struct{} // for the lock, in order
	locked   bool
	state    state
	current  string            // task
	pending  []string          // tasks, in order
	finished []string          // tasks
	options  map[string]any    // in force
	loaded   string            // model in device memory; "" for none
	offline  bool              // its weights were moved out of device memory
	ooms     int               // that the allocator counted
	jobs     []*Job            // in order of their start
	answered map[string]int    // requests by method and path
	bodies   map[string][]byte // last body by path
}

// state is what the whole program says of whatever it does.
type state struct {
	id                             string // SD.Next only
	skipped, interrupted, stopping bool
	job, timestamp                 string
	jobCount, jobNo, step, steps   int
	begun                          time.Time
	running                        *Job
	preview                        int
}

// Start serves until the test ends.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s := New(cfg)
	server := httptest.NewServer(s)
	s.URL = server.URL
	t.Cleanup(func() {
		s.Close()
		server.Close()
	})
	return s
}

// New gives one that is to be closed.
func New(cfg Config) *Server {
	if len(cfg.Models) == 0 {
		cfg.Models = []string{"model"}
	}
	s := &Server{cfg: cfg, quit: make(chan struct{}), answered: map[string]int{}, bodies: map[string][]byte{}, loaded: cfg.Models[0]}
	s.options = map[string]any{"sd_model_checkpoint": s.title(cfg.Models[0]), "samples_format": s.format(), "img2img_background_color": "#ffffff"}
	return s
}

// Close ends whatever it does and holds.
func (s *Server) Close() { close(s.quit) }

func (s *Server) format() string {
	if s.cfg.SamplesFormat == "" {
		return "png"
	}
	return s.cfg.SamplesFormat
}

// title is what the program calls a model.
func (s *Server) title(name string) string {
	switch s.cfg.Flavour {
	case A1111, A1111Old, Forge:
		return name + ".safetensors [" + hash(name) + "]"
	case SDNext:
		return name + " [" + hash(name) + "]"
	}
	return name
}

func hash(name string) string {
	const digits = "0123456789abcdef"
	h := []byte("0000000000")
	for i, c := range []byte(name) {
		h[i%10] = digits[(int(c)+i+strings.IndexByte(digits, h[i%10]))%16]
	}
	return string(h)
}

// alias finds a model by any of the names that the program knows it under: title, file name, name, hash.
func (s *Server) alias(name string) (model string, ok bool) {
	for _, m := range s.cfg.Models {
		if name == m || name == s.title(m) || name == m+".safetensors" || name == hash(m) {
			return m, true
		}
	}
	return "", false
}

// Job is a call that was begun.
type Job struct {
	Number      int // from 1
	Task        string
	Mine        bool           // it came through txt2img
	Body        map[string]any // nil for somebody else's
	Steps       int
	Made        int  // steps
	Interrupted bool // an interrupt or skip hit it
	Ended       bool
	Model       string
	stamp       string // when it began
}

// Jobs gives copies of all jobs that were begun, in their order.
func (s *Server) Jobs() []Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	var jobs []Job
	for _, j := range s.jobs {
		jobs = append(jobs, *j)
	}
	return jobs
}

// Answered counts the requests with a method and path, such as "POST /sdapi/v1/interrupt".
func (s *Server) Answered(route string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered[route]
}

// Resident gives the model in device memory; "" for none.
func (s *Server) Resident() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offline {
		return ""
	}
	return s.loaded
}

// Interrupt is somebody else's.
func (s *Server) Interrupt() { s.interrupt(true) }

func (s *Server) interrupt(whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if whole {
		s.state.interrupted = true
	} else {
		s.state.skipped = true
	}
	if s.state.running != nil {
		s.state.running.Interrupted = true
	}
}

// ServeHTTP answers every route that the program has.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, _ = body.ReadFrom(http.MaxBytesReader(w, r.Body, 100<<20))
	route := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.answered[route]++
	s.bodies[r.URL.Path] = bytes.Clone(body.Bytes())
	s.mu.Unlock()
	if user, password, _ := r.BasicAuth(); s.cfg.User != "" && (user != s.cfg.User || password != s.cfg.Password) && strings.HasPrefix(r.URL.Path, "/sdapi") {
		w.Header().Set("WWW-Authenticate", "Basic")
		s.fail(w, http.StatusUnauthorized, "HTTPException", "Incorrect username or password", "")
		return
	}
	if s.cfg.NoAPI && strings.HasPrefix(r.URL.Path, "/sdapi") || !s.route(w, r, route, body.Bytes()) {
		s.notFound(w)
	}
}

// Bodies gives the last body that was sent to a path.
func (s *Server) Body(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[path]
}

// encode writes JSON as Python's and nlohmann's libraries do: nothing escaped that need not be.
func encode(value any) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(err) // a mistake in the fake
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}
