package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/backend/backendtest"
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

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

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

// promptRoute is POST /prompt.
func (s *server) promptRoute(w http.ResponseWriter, r *http.Request) {
	object := body(w, r)
	if object == nil {
		return
	}
	logf("got prompt")
	raw, ok := object["prompt"]
	if !ok {
		refused(w, complaint("no_prompt", "No prompt provided", "No prompt provided", nil), map[string]any{})
		return
	}
	id, given := object["prompt_id"].(string)
	switch {
	case s.settings.Ancient || !given:
		id = newID()
	case !s.settings.Older && !uuid.MatchString(id):
		refused(w, complaint("invalid_prompt_id", "prompt_id must be a valid UUID",
			"prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server generate one", nil), map[string]any{})
		return
	}
	g, problem := parseGraph(raw)
	if problem != nil {
		refused(w, problem, map[string]any{})
		return
	}
	outputs, problem, nodeErrors := s.validate(g)
	if problem != nil {
		refused(w, problem, nodeErrors)
		return
	}
	p := &prompt{id: id, graph: g, raw: raw, outputs: outputs, extra: map[string]any{}}
	if extra, ok := object["extra_data"].(map[string]any); ok {
		p.extra = extra
	}
	if client, ok := object["client_id"].(string); ok {
		p.extra["client_id"] = client
	}
	s.mu.Lock()
	s.submitted++
	p.index, p.number = s.submitted, s.counter
	if n, ok := object["number"].(json.Number); ok {
		p.number, _ = n.Float64()
	} else {
		if object["front"] == true {
			p.number = -p.number
		}
		s.counter++
	}
	s.mu.Unlock()
	s.accept(w, p, nodeErrors)
}

// accept queues a prompt that was found valid, unless the scenario wants otherwise.
func (s *server) accept(w http.ResponseWriter, p *prompt, nodeErrors map[string]any) {
	accepted := map[string]any{"prompt_id": p.id, "number": p.number, "node_errors": nodeErrors}
	f, ok := s.fault(p, -1, backendtest.ServerError, backendtest.Error200, backendtest.NoID, backendtest.Refuse)
	if ok {
		switch f.Do {
		case backendtest.ServerError:
			trouble(w)
			return
		case backendtest.Error200:
			answer(w, http.StatusOK, map[string]any{"error": complaint("prompt_worker_died", "The worker is gone", "", nil)})
			return
		case backendtest.Refuse:
			refused(w, complaint("invalid_prompt", "Cannot execute because node KSampler does not exist.", "Node ID '#3'", nil), map[string]any{})
			return
		case backendtest.NoID:
			accepted["prompt_id"] = nil
		}
	}
	s.put(p)
	answer(w, http.StatusOK, accepted)
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

// view is GET /view, spoilt as the scenario of the newest prompt wants.
func (s *server) view(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name, subfolder := query.Get("filename"), query.Get("subfolder")
	dir := map[string]string{"": s.options.output, "output": s.options.output, "temp": s.options.temp}[query.Get("type")]
	switch {
	case name == "":
		w.WriteHeader(http.StatusNotFound)
		return
	case name[0] == '/' || strings.Contains(name, "..") || dir == "":
		w.WriteHeader(http.StatusBadRequest)
		return
	case !filepath.IsLocal(filepath.Join(subfolder, "x")):
		w.WriteHeader(http.StatusForbidden)
		return
	}
	file, err := os.ReadFile(filepath.Join(dir, subfolder, filepath.Base(name)))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s.mu.Lock()
	var newest *prompt
	if len(s.order) > 0 {
		newest = s.history[s.order[len(s.order)-1]]
	}
	s.mu.Unlock()
	if newest != nil && s.spoilView(w, newest, file) {
		return
	}
	w.Header().Set("Content-Disposition", `filename="`+name+`"`)
	reply(w, http.StatusOK, "image/png", file)
}

// spoilView answers with what the scenario plans; false when it plans nothing.
func (s *server) spoilView(w http.ResponseWriter, p *prompt, file []byte) bool {
	f, ok := s.fault(p, -1, backendtest.CutPNG, backendtest.DamagedPNG, backendtest.WrongSize, backendtest.Bomb, backendtest.ViewLost, backendtest.ViewGarbage,
		backendtest.ViewHuge, backendtest.ViewDrip, backendtest.ViewOther, backendtest.ViewHalf)
	if !ok {
		return false
	}
	other := func(change func(*node)) []byte {
		copied := *p
		copied.graph = graph{}
		for id, n := range p.graph {
			inputs := map[string]any{}
			for key, value := range n.Inputs {
				inputs[key] = value
			}
			copied.graph[id] = &node{n.Class, inputs}
			change(copied.graph[id])
		}
		copied.raw = copied.graph
		changed := &run{server: s, p: &copied, signs: map[string]string{}}
		for _, n := range copied.graph {
			if n.Class == "SaveImage" {
				return changed.draw(n)
			}
		}
		return nil
	}
	switch f.Do {
	case backendtest.CutPNG:
		reply(w, http.StatusOK, "image/png", file[:len(file)/2])
	case backendtest.DamagedPNG:
		file[len(file)/2] ^= 1
		reply(w, http.StatusOK, "image/png", file)
	case backendtest.WrongSize:
		reply(w, http.StatusOK, "image/png", other(func(n *node) {
			if strings.HasPrefix(n.Class, "Empty") {
				n.Inputs["width"] = json.Number(strconv.Itoa(2 * int(number(n.Inputs["width"]))))
			}
		}))
	case backendtest.ViewOther:
		reply(w, http.StatusOK, "image/png", other(func(n *node) {
			if n.Class == "SaveImage" {
				n.Inputs["filename_prefix"] = "somebody/else"
			}
			if n.Class == "KSampler" {
				n.Inputs["seed"] = json.Number("987654321")
			}
		}))
	case backendtest.Bomb:
		reply(w, http.StatusOK, "image/png", bomb())
	case backendtest.ViewLost:
		s.mu.Lock()
		first := !s.viewLost
		s.viewLost = true
		s.mu.Unlock()
		if !first {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
	case backendtest.ViewGarbage:
		reply(w, http.StatusOK, "text/html", []byte("<html>502 Bad Gateway</html>"))
	case backendtest.ViewHuge:
		flood(w, "\x89PNG\r\n\x1a\n")
	case backendtest.ViewDrip:
		drip(w, file)
	case backendtest.ViewHalf:
		half(w, file)
	}
	return true
}

// flood answers with 10 GB.
func flood(w http.ResponseWriter, begin string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, begin)
	block := bytes.Repeat([]byte("A"), 1<<20)
	for range 10 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// drip answers with a byte a second.
func drip(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	for i := range text {
		if _, err := w.Write(text[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(time.Second)
	}
}

// half answers with half of it and drops the connection.
func half(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text[:len(text)/2])
	panic(http.ErrAbortHandler)
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
