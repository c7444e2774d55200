package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"muster/agent/backend/backendtest"
)

// server is PromptServer with its queue.
type server struct {
	*program
	options options
	dir     string               // of main.py
	shown   []backendtest.Device // the one that is used first
	number  int                  // of this start on this device, from 1
	models  map[string][]string  // folders of each kind
	events  chan event

	mu          sync.Mutex
	wake        chan struct{} // a prompt was queued, or a flag set
	counter     float64       // of prompts without a number
	submitted   int
	pending     []*prompt
	running     *prompt
	history     map[string]*prompt
	order       []string // of history
	interrupted bool
	flags       map[string]bool
	sockets     map[string]*socket
	client      string          // whose prompt runs
	lastNode    string          // that was begun
	cache       map[string]any  // what nodes of the last prompt gave, by signature
	shownUI     map[string]any  // what output nodes of the last prompt showed, by signature
	resident    map[string]bool // models in device memory
	viewLost    bool
}

// prompt is an item of the queue, and of history once it has ended.
type prompt struct {
	id       string
	index    int // of submission, from 1
	number   float64
	graph    graph
	raw      any // the graph as it came
	extra    map[string]any
	outputs  []string // nodes to execute
	shown    map[string]any
	status   string
	messages []any
}

func newServer(p *program, o options, dir string, shown []backendtest.Device, number int) *server {
	s := &server{
		program: p, options: o, dir: dir, shown: shown, number: number, events: make(chan event, 1<<16), wake: make(chan struct{}, 1),
		history: map[string]*prompt{}, flags: map[string]bool{}, sockets: map[string]*socket{}, cache: map[string]any{}, shownUI: map[string]any{}, resident: map[string]bool{},
	}
	if o.base != "" {
		s.dir = o.base
	}
	if s.options.output == "" {
		s.options.output = filepath.Join(s.dir, "output")
	}
	s.options.temp = filepath.Join(s.options.temp, "temp")
	if o.temp == "" {
		s.options.temp = filepath.Join(s.dir, "temp")
	}
	s.findModels()
	return s
}

// listen serves until a signal ends the process.
func (s *server) listen() int {
	l, err := net.Listen("tcp4", net.JoinHostPort(s.options.listen, strconv.Itoa(s.options.port)))
	if err != nil {
		logf("OSError: [Errno 98] error while attempting to bind on address ('%s', %d): address already in use", s.options.listen, s.options.port)
		return 1
	}
	logf("Starting server\n\nTo see the GUI go to: http://%s:%d", s.options.listen, s.options.port)
	go s.work()
	go s.publish()
	_ = (&http.Server{Handler: s, ReadHeaderTimeout: 0}).Serve(l)
	return 0
}

// planned finds what a scenario plans for a prompt; step -1 stands for any.
func (s *server) planned(scenario backendtest.Scenario, index, step int, actions ...backendtest.Action) (backendtest.Fault, bool) {
	for _, f := range scenario.Faults {
		if (f.Start == 0 || f.Start == s.number) && (f.Job == 0 || f.Job == index) &&
			(step < 0 || max(1, f.Step) == step) && slices.Contains(actions, f.Do) {
			return f, true
		}
	}
	return backendtest.Fault{}, false
}

// fault finds what is planned for a prompt, by the scenario of its model.
func (s *server) fault(p *prompt, step int, actions ...backendtest.Action) (backendtest.Fault, bool) {
	return s.planned(s.scenario(p.graph), p.index, step, actions...)
}

// scenario is that of the graph's first model with one of its own.
func (s *server) scenario(g graph) backendtest.Scenario {
	scenario := s.settings.Scenario
	for _, id := range g.ids() {
		for input, folder := range map[string]string{"ckpt_name": "checkpoints", "unet_name": "diffusion_models"} {
			name, ok := g[id].Inputs[input].(string)
			path := s.modelPath(folder, name)
			if !ok || path == "" {
				continue
			}
			var own backendtest.Scenario
			if _, err := os.Stat(backendtest.ScenarioPath(path)); errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err := backendtest.Load(backendtest.ScenarioPath(path), &own); err != nil {
				fatal(err)
			}
			return own
		}
	}
	return scenario
}

// modelExtensions are supported_pt_extensions of folder_paths.py.
var modelExtensions = []string{".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}

// findModels takes the folders of DIR/models, and those of the extra files.
func (s *server) findModels() {
	at := func(names ...string) []string {
		for i, name := range names {
			names[i] = filepath.Join(s.dir, "models", name)
		}
		return names
	}
	s.models = map[string][]string{
		"checkpoints": at("checkpoints"), "diffusion_models": at("unet", "diffusion_models"), "text_encoders": at("text_encoders", "clip"), "vae": at("vae"),
		"loras": at("loras"), "vae_approx": at("vae_approx"),
	}
	for _, path := range s.options.extra {
		text, err := os.ReadFile(path)
		if err != nil {
			fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			kind, folder, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok || strings.HasPrefix(kind, "#") {
				continue
			}
			unquoted, err := strconv.Unquote(folder)
			if err != nil {
				fatal(err)
			}
			s.models[legacy(kind)] = append(s.models[legacy(kind)], unquoted)
			logf("Adding extra search path %s %s", kind, unquoted)
		}
	}
}

func legacy(folder string) string {
	switch folder {
	case "unet":
		return "diffusion_models"
	case "clip":
		return "text_encoders"
	}
	return folder
}

// list is get_filename_list: the files of a kind of model, relative to the folders of that kind.
func (s *server) list(folder string) []string {
	names := []string{}
	for _, dir := range s.models[folder] {
		_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && slices.Contains(modelExtensions, strings.ToLower(filepath.Ext(path))) {
				if name, err := filepath.Rel(dir, path); err == nil && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
			return nil
		})
	}
	slices.Sort(names)
	return names
}

func (s *server) modelPath(folder, name string) string {
	for _, dir := range s.models[folder] {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// event is a message for one client, or for all when client is "".
type event struct {
	client string
	text   map[string]any // nil for a binary one
	binary []byte
	drop   bool // close every socket
}

// send queues a message, as send_sync does.
func (s *server) send(kind string, data any, client string) {
	s.events <- event{client: client, text: map[string]any{"type": kind, "data": data}}
}

// publish is publish_loop: one message after the other.
func (s *server) publish() {
	for e := range s.events {
		s.mu.Lock()
		var to []*socket
		for client, k := range s.sockets {
			if e.client == "" || e.client == client {
				to = append(to, k)
			}
		}
		s.mu.Unlock()
		for _, k := range to {
			k.write(context.Background(), e)
		}
	}
}
