package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ServeHTTP answers every route, with and without /api. Unknown ones get aiohttp's 404.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); origin != "" {
		from, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(from.Host, r.Host) {
			logf("WARNING: request with non matching host and origin %s != %s, returning 403", r.Host, origin)
			w.WriteHeader(http.StatusForbidden)
			return
		}
	}
	path := r.URL.Path
	if strings.HasPrefix(path, "/api/jobs") {
		s.jobs(w, r, strings.TrimPrefix(path, "/api/jobs"))
		return
	}
	if !s.route(w, r, strings.TrimPrefix(path, "/api")) {
		reply(w, http.StatusNotFound, "text/plain; charset=utf-8", []byte("404: Not Found"))
	}
}

var jobPath = regexp.MustCompile(`^/([^/]+)(/cancel)?$`)

func (s *server) jobs(w http.ResponseWriter, r *http.Request, path string) {
	m := jobPath.FindStringSubmatch(path)
	switch {
	case s.settings.Older || m == nil:
		reply(w, http.StatusNotFound, "text/plain; charset=utf-8", []byte("404: Not Found"))
	case m[2] == "" && r.Method == http.MethodGet:
		s.jobRoute(w, m[1])
	case m[2] != "" && r.Method == http.MethodPost:
		s.cancelRoute(w, m[1])
	default:
		reply(w, http.StatusMethodNotAllowed, "text/plain; charset=utf-8", []byte("405: Method Not Allowed"))
	}
}

// route answers the known routes; false for all others.
func (s *server) route(w http.ResponseWriter, r *http.Request, path string) bool {
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	get, post := r.Method == http.MethodGet || r.Method == http.MethodHead, r.Method == http.MethodPost
	switch {
	case name == "ws" && get:
		s.serveSocket(w, r)
	case name == "prompt" && post:
		s.promptRoute(w, r)
	case name == "prompt" && get:
		s.mu.Lock()
		defer s.mu.Unlock()
		answer(w, http.StatusOK, s.queueInfo())
	case name == "queue":
		return s.queueRoute(w, r, post)
	case name == "history" && get && rest != "":
		s.historyRoute(w, rest)
	case name == "interrupt" && post:
		s.interruptRoute(w, r)
	case name == "free" && post:
		s.freeRoute(w, r)
	case name == "view" && get:
		s.view(w, r)
	case name == "system_stats" && get:
		answer(w, http.StatusOK, s.stats())
	case name == "features" && get:
		answer(w, http.StatusOK, map[string]any{"supports_preview_metadata": true, "max_upload_size": 104857600})
	case name == "models" && get && !s.settings.Ancient:
		s.modelsRoute(w, rest)
	case name == "object_info" && get:
		s.infoRoute(w, rest)
	default:
		return false
	}
	return true
}

// body reads a JSON object with its numbers as they came; nil after a 500, which aiohttp gives for anything else.
func body(w http.ResponseWriter, r *http.Request) map[string]any {
	d := json.NewDecoder(io.LimitReader(r.Body, 100<<20))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil || object == nil {
		trouble(w)
		return nil
	}
	return object
}

func refused(w http.ResponseWriter, problem, nodeErrors map[string]any) {
	answer(w, http.StatusBadRequest, map[string]any{"error": problem, "node_errors": nodeErrors})
}

// queueRoute is GET and POST /queue.
func (s *server) queueRoute(w http.ResponseWriter, r *http.Request, post bool) bool {
	if post {
		object := body(w, r)
		if object == nil {
			return true
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if object["clear"] == true {
			s.pending = nil
			s.queueUpdated()
		}
		ids, _ := object["delete"].([]any)
		for _, id := range ids {
			if text, ok := id.(string); ok {
				s.remove(text)
			}
		}
		w.WriteHeader(http.StatusOK)
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	running, pending := []any{}, []any{}
	if s.running != nil {
		running = append(running, s.running.item())
	}
	for _, p := range s.pending {
		pending = append(pending, p.item())
	}
	answer(w, http.StatusOK, map[string]any{"queue_running": running, "queue_pending": pending})
	return true
}

// interruptRoute is POST /interrupt. Without an id, and on an old server with one, it stops whatever runs.
func (s *server) interruptRoute(w http.ResponseWriter, r *http.Request) {
	var object map[string]any
	_ = json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&object)
	id, _ := object["prompt_id"].(string)
	if s.settings.Ancient {
		id = ""
	}
	if id == "" {
		logf("Global interrupt (no prompt_id specified)")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interruptRunning(id)
	w.WriteHeader(http.StatusOK)
}

func (s *server) freeRoute(w http.ResponseWriter, r *http.Request) {
	object := body(w, r)
	if object == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, flag := range []string{"unload_models", "free_memory"} {
		if object[flag] == true {
			s.flags[flag] = true
		}
	}
	s.nudge()
	w.WriteHeader(http.StatusOK)
}

func (s *server) modelsRoute(w http.ResponseWriter, folder string) {
	folders := []string{}
	for name := range s.models {
		folders = append(folders, name)
	}
	slices.Sort(folders)
	switch {
	case folder == "":
		answer(w, http.StatusOK, folders)
	case !slices.Contains(folders, folder):
		w.WriteHeader(http.StatusNotFound)
	default:
		answer(w, http.StatusOK, s.list(folder))
	}
}

func (s *server) infoRoute(w http.ResponseWriter, name string) {
	out := map[string]any{}
	for class := range classes {
		if name == "" || name == class {
			out[class] = s.objectInfo(class)
		}
	}
	answer(w, http.StatusOK, out)
}

// stats is /system_stats: the device that is used first; since 2026 all that are visible.
func (s *server) stats() map[string]any {
	s.mu.Lock()
	held := len(s.resident)
	s.mu.Unlock()
	const gib = 1 << 30
	var devices []any
	for i, d := range s.shown {
		kind, name, total := "cuda", "cuda:"+strconv.Itoa(i)+" "+d.Description+" : native", 24*gib
		if d.ID == "cpu" {
			kind, name = "cpu", "cpu"
		}
		used := 0
		if i == 0 {
			used = held * 2 * gib
		}
		devices = append(devices, map[string]any{"name": name, "type": kind, "index": i, "vram_total": total, "vram_free": total - used, "torch_vram_total": used, "torch_vram_free": 0})
		if s.settings.Older {
			break
		}
	}
	return map[string]any{
		"system": map[string]any{"os": runtime.GOOS, "ram_total": 64 * gib, "ram_free": 32 * gib, "comfyui_version": s.settings.Version, "python_version": "3.12.3 (main)",
			"pytorch_version": "2.8.0+cu128", "embedded_python": false, "argv": s.start.Args},
		"devices": devices,
	}
}

// trouble is aiohttp's 500.
func trouble(w http.ResponseWriter) {
	reply(w, http.StatusInternalServerError, "text/plain; charset=utf-8", []byte("500 Internal Server Error\n\nServer got itself in trouble"))
}

func reply(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Server", "Python/3.12 aiohttp/3.12.15")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func answer(w http.ResponseWriter, status int, value any) {
	reply(w, status, "application/json; charset=utf-8", encode(value))
}

// encode writes JSON as json.dumps does: what is not ASCII stays escaped only where Go escapes it too.
func encode(value any) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		fatal(err)
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}
