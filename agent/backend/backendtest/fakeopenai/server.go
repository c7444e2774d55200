// Package fakeopenai behaves as the programs that serve POST /v1/images/generations do, without weights and without a GPU: LocalAI,
// vLLM-Omni, SGLang-Diffusion, llama-swap before an sd-server, and an sd-server that somebody else runs. Routes, fields, statuses and
// bodies are those of their sources (LocalAI 82c191a core/http, vLLM-Omni entrypoints/openai/protocol/images.py at 00a3619, SGLang
// multimodal_gen/runtime/entrypoints/openai at 0230ddc, captures of sd-server master-827). For tests only.
package fakeopenai

import (
	"bytes"
	"encoding/json"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
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
	LocalAI   Flavour = "localai"
	LocalOld  Flavour = "localai-2" // it does not tell what its models are for
	VLLM      Flavour = "vllm-omni"
	SGLang    Flavour = "sglang"
	LlamaSwap Flavour = "llama-swap"
	SDServer  Flavour = "sd-server"
)

// Config is what a server is started with.
type Config struct {
	Flavour Flavour
	Models  []string            // that make images; none is "model"
	Others  []string            // that don't
	Step    time.Duration       // a step takes so long
	Before  func(job, step int) // called before each step of each job, both from 1, and may hold it; nil for none
	Key     string              // the API key that it asks for; "" for none
	Grain   bool                // images are noise, as large as real ones
	URL     string              // answer with this address, "/" before a path of its own; "" with the image itself
	JPEG    bool                // SGLang's default, unless it is asked for PNG
	// Loading is how many requests are answered with 503 and Retry-After while the model loads.
	Loading int
	Faults  []backendtest.Fault // Job counts from 1
}

// Server is a running program. It is an http.Handler.
type Server struct {
	URL string // of Start
	cfg Config

	quit chan struct{}
	lock chan struct{} // holds a token while a job runs

	mu      sync.Mutex
	jobs    []*Job
	loading int
	files   map[string][]byte // by path
	asked   map[string]int    // requests by method and path
}

// Job is an image that was begun.
type Job struct {
	Number int // from 1
	Body   map[string]any
	Made   int // steps
	Gone   bool
	Ended  bool
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
	return &Server{cfg: cfg, quit: make(chan struct{}), lock: make(chan struct{}, 1), loading: cfg.Loading, files: map[string][]byte{}, asked: map[string]int{}}
}

// Close ends whatever it does and holds.
func (s *Server) Close() { close(s.quit) }

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

// Asked counts the requests with a method and path, such as "GET /v1/models".
func (s *Server) Asked(route string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[route]
}

// ServeHTTP answers every route that the program has.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, _ = body.ReadFrom(http.MaxBytesReader(w, r.Body, 100<<20))
	route := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.asked[route]++
	file := s.files[r.URL.Path]
	s.mu.Unlock()
	if s.cfg.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.cfg.Key {
		s.fail(w, http.StatusUnauthorized, "invalid_request_error", "Incorrect API key provided")
		return
	}
	switch {
	case r.Method == http.MethodGet && file != nil:
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(file)
	case route == "POST /v1/images/generations":
		s.generate(w, r, body.Bytes())
	case !s.tell(w, route):
		s.notFound(w)
	}
}

// tell answers what the program says of itself; false for unknown routes.
func (s *Server) tell(w http.ResponseWriter, route string) bool {
	local := s.cfg.Flavour == LocalAI || s.cfg.Flavour == LocalOld
	switch {
	case route == "GET /v1/models":
		reply(w, http.StatusOK, map[string]any{"object": "list", "data": s.list()})
	case route == "GET /v1/models/capabilities" && s.cfg.Flavour == LocalAI:
		list := s.list()
		for i, m := range list {
			kind := "chat"
			if i < len(s.cfg.Models) {
				kind = "image"
			}
			m.(map[string]any)["capabilities"] = []string{kind}
			m.(map[string]any)["output_modalities"] = []string{map[string]string{"chat": "text", "image": "image"}[kind]}
		}
		reply(w, http.StatusOK, map[string]any{"object": "list", "data": list})
	case route == "GET /readyz" && local:
		w.WriteHeader(http.StatusOK)
	case route == "GET /version" && local:
		reply(w, http.StatusOK, map[string]any{"version": "v3.9.0"})
	case route == "GET /version" && s.cfg.Flavour == VLLM:
		reply(w, http.StatusOK, map[string]any{"version": "0.18.0"})
	case route == "GET /sdcpp/v1/capabilities" && s.cfg.Flavour == SDServer:
		name := s.cfg.Models[0]
		reply(w, http.StatusOK, map[string]any{"current_mode": "img_gen", "model": map[string]any{"name": name + ".safetensors", "path": "/models/" + name + ".safetensors", "stem": name}})
	default:
		return false
	}
	return true
}

// list is the data of /v1/models.
func (s *Server) list() []any {
	owner := map[Flavour]string{VLLM: "vllm", SGLang: "sglang", LlamaSwap: "llama-swap", SDServer: "local"}[s.cfg.Flavour]
	list := []any{}
	for _, name := range append(slices.Clone(s.cfg.Models), s.cfg.Others...) {
		m := map[string]any{"id": name, "object": "model"}
		if owner != "" {
			m["owned_by"] = owner
		}
		if s.cfg.Flavour == SDServer {
			m["id"] = "sd-cpp-local"
		}
		list = append(list, m)
	}
	return list
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // a mistake in the fake
	}
	return text
}

func reply(w http.ResponseWriter, status int, value any) {
	text := encode(value)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// fail answers with an error in the program's form.
func (s *Server) fail(w http.ResponseWriter, status int, kind, message string) {
	switch s.cfg.Flavour {
	case SDServer:
		reply(w, status, map[string]any{"error": message})
	case SGLang:
		reply(w, status, map[string]any{"detail": message})
	case LlamaSwap:
		http.Error(w, message, status)
	default:
		reply(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "type": kind, "param": nil}})
	}
}

func (s *Server) notFound(w http.ResponseWriter) {
	switch s.cfg.Flavour {
	case SDServer:
		w.WriteHeader(http.StatusNotFound)
	case LocalAI, LocalOld:
		reply(w, http.StatusNotFound, map[string]any{"error": map[string]any{"message": "Resource not found", "code": 404, "type": ""}})
	default:
		reply(w, http.StatusNotFound, map[string]any{"detail": "Not Found"})
	}
}

// asJPEG packs a PNG anew.
func asJPEG(file []byte) []byte {
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		panic(err) // a mistake in the test: only whole pictures have another form
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, nil); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// parseSize reads "WxH"; LocalAI takes 512x512 for what has no x.
func parseSize(text string) (width, height int, ok bool) {
	wide, high, found := strings.Cut(text, "x")
	if !found {
		return 512, 512, true
	}
	width, errW := strconv.Atoi(wide)
	height, errH := strconv.Atoi(high)
	return width, height, errW == nil && errH == nil
}
