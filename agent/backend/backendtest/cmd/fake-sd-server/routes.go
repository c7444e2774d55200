package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/backend/backendtest"
)

func (s *server) address() string {
	return net.JoinHostPort(s.options.ip, strconv.Itoa(s.options.port))
}

// listen serves until a signal ends the process. As the real one it says "listening on" first, and ends with status 0 when it
// can't have the port.
func (s *server) listen() int {
	s.info("main.cpp", 148, "listening on: http://%s:%d\n", s.options.ip, s.options.port)
	l, err := listenShared(s.address())
	if err != nil {
		return 0
	}
	go s.work()
	_ = s.http().Serve(l)
	return 0
}

// listenShared opens a port that any other program may open so too (SO_REUSEPORT), as cpp-httplib does.
func listenShared(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	return config.Listen(context.Background(), "tcp4", address)
}

func (s *server) http() *http.Server {
	return &http.Server{Handler: s, IdleTimeout: 5 * time.Second, ErrorLog: nil}
}

// ServeHTTP answers every route. Unknown ones, and known ones with another method, get 404 without a body.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Date"] = nil
	origin := r.Header.Get("Origin")
	if origin == "" {
		origin = "*"
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Allow-Methods", "*")
	h.Set("Access-Control-Allow-Headers", "*")
	if r.Method == http.MethodOptions {
		reply(w, http.StatusNoContent, "", nil)
		return
	}
	var body []byte
	if r.Method == http.MethodPost || r.Method == http.MethodDelete {
		if r.Header.Get("Content-Length") == "" && len(r.TransferEncoding) == 0 {
			time.Sleep(5 * time.Second) // it waits for a body until its read times out
		}
		body, _ = io.ReadAll(io.LimitReader(r.Body, 100<<20))
	}
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet
	}
	path, err := url.PathUnescape(r.URL.Path)
	if err != nil || !s.route(w, r.Method+" "+path, body) {
		reply(w, http.StatusNotFound, "", nil)
	}
}

// route answers the known routes; false for all others.
func (s *server) route(w http.ResponseWriter, route string, body []byte) bool {
	base, name := filepath.Base(s.options.model), stem(s.options.model)
	switch route {
	case "GET /":
		reply(w, http.StatusOK, "text/html", []byte("Stable Diffusion Server is running"))
	case "GET /v1/models":
		answer(w, http.StatusOK, map[string]any{"data": []any{map[string]any{"id": "sd-cpp-local", "object": "model", "owned_by": "local"}}})
	case "GET /sdapi/v1/options":
		answer(w, http.StatusOK, map[string]any{"samples_format": "png", "sd_model_checkpoint": name})
	case "GET /sdapi/v1/sd-models":
		answer(w, http.StatusOK, []any{map[string]any{"config": nil, "filename": base, "hash": strings.Repeat("8", 10), "model_name": name, "sha256": strings.Repeat("8", 64), "title": name}})
	case "GET /sdapi/v1/samplers":
		answer(w, http.StatusOK, sdapiSamplers())
	case "GET /sdapi/v1/schedulers":
		answer(w, http.StatusOK, sdapiSchedulers())
	case "GET /sdapi/v1/upscalers":
		answer(w, http.StatusOK, sdapiUpscalers())
	case "GET /sdapi/v1/latent-upscale-modes":
		answer(w, http.StatusOK, named(latentModes))
	case "GET /sdapi/v1/loras":
		answer(w, http.StatusOK, s.loras())
	case "GET /sdcpp/v1/capabilities":
		answer(w, http.StatusOK, s.capabilities())
	case "POST /sdcpp/v1/img_gen":
		s.imageGeneration(w, body)
	case "POST /sdcpp/v1/vid_gen":
		failure(w, http.StatusBadRequest, "loaded model does not support vid_gen", "")
	case "POST /v1/images/generations":
		s.openAI(w, body)
	case "POST /v1/images/edits":
		failure(w, http.StatusBadRequest, "Content-Type must be multipart/form-data", "")
	case "POST /sdapi/v1/txt2img", "POST /sdapi/v1/img2img":
		s.sdapi(w, body, strings.HasSuffix(route, "img2img"))
	default:
		return s.jobRoute(w, route)
	}
	return true
}

// jobRoute answers GET /sdcpp/v1/jobs/ID and POST /sdcpp/v1/jobs/ID/cancel.
func (s *server) jobRoute(w http.ResponseWriter, route string) bool {
	method, path, _ := strings.Cut(route, " ")
	id, ok := strings.CutPrefix(path, "/sdcpp/v1/jobs/")
	cancel := false
	if method == http.MethodPost {
		id, cancel = strings.CutSuffix(id, "/cancel")
		ok = ok && cancel
	} else {
		ok = ok && method == http.MethodGet
	}
	if !ok || id == "" || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return false
	}
	j := s.find(id)
	switch {
	case j == nil:
		failure(w, http.StatusNotFound, "job not found", "")
	case cancel && !s.cancel(j):
		failure(w, http.StatusConflict, "job is currently generating and cannot be interrupted yet", "")
	default:
		s.tell(w, j)
	}
	return true
}

// tell answers with a job, spoilt as the scenario wants.
func (s *server) tell(w http.ResponseWriter, j *record) {
	d := s.describe(j)
	f, ok := s.fault(j.number, -1, backendtest.Garbage, backendtest.HalfJSON, backendtest.WrongID, backendtest.Lost, backendtest.Huge, backendtest.Drip, backendtest.CutPNG,
		backendtest.DamagedPNG, backendtest.WrongSize, backendtest.NoImage, backendtest.OddStatus, backendtest.AnswerFails, backendtest.HeldAnswer)
	if !ok || d["status"] != "completed" {
		answer(w, http.StatusOK, d)
		return
	}
	result := d["result"].(map[string]any)
	switch f.Do {
	case backendtest.Garbage:
		reply(w, http.StatusOK, "application/json", []byte("<html>not JSON at all</html>"))
		return
	case backendtest.HalfJSON:
		text := encode(d)
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text[:len(text)/2])
		panic(http.ErrAbortHandler)
	case backendtest.Lost:
		failure(w, http.StatusNotFound, "job not found", "")
		return
	case backendtest.AnswerFails:
		failure(w, http.StatusInternalServerError, "server_error", "std::bad_alloc")
		return
	case backendtest.Huge:
		flood(w)
		return
	case backendtest.Drip:
		drip(w, encode(d))
		return
	case backendtest.HeldAnswer:
		hang()
	case backendtest.WrongID:
		d["id"] = "job_00000000_ffffffff"
	case backendtest.OddStatus:
		d["status"] = "levitating"
	case backendtest.NoImage:
		result["images"] = []any{}
	case backendtest.CutPNG:
		j.images[0] = j.images[0][:len(j.images[0])/2]
	case backendtest.DamagedPNG:
		j.images[0][len(j.images[0])/2] ^= 1
	case backendtest.WrongSize:
		r := j.request
		r.width *= 2
		j.images[0] = s.draw(r, r.seed)
	}
	if images := result["images"].([]any); len(images) > 0 {
		images[0].(map[string]any)["b64_json"] = j.images[0]
	}
	answer(w, http.StatusOK, d)
}

// flood answers with 10 GB that begin as JSON does.
func flood(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"completed":1,"result":{"images":[{"b64_json":"`)
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

// reply writes a body with the headers of cpp-httplib: errors close the connection.
func reply(w http.ResponseWriter, status int, kind string, body []byte) {
	h := w.Header()
	if status >= 400 {
		h.Set("Connection", "close")
	} else {
		h.Set("Keep-Alive", "timeout=5, max=100")
	}
	if kind != "" {
		h.Set("Content-Type", kind)
	} else {
		h["Content-Type"] = nil
	}
	if status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func answer(w http.ResponseWriter, status int, value any) {
	reply(w, status, "application/json", encode(value))
}

// failure answers {"error":…} or {"error":…,"message":…}.
func failure(w http.ResponseWriter, status int, text, message string) {
	body := map[string]any{"error": text}
	if message != "" {
		body["message"] = message
	}
	answer(w, status, body)
}

// encode writes JSON as nlohmann's library does: keys in order, nothing escaped that need not be.
func encode(value any) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		fatal(err)
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

// runTwin is the second process on a port: another model's server, which answers every other connection.
func (p *program) runTwin(address, model string) int {
	l, err := listenShared(address)
	if err != nil {
		fatal(err)
	}
	s := &server{program: p, options: options{model: filepath.Join(filepath.Dir(model), "twin.safetensors")}, jobs: map[string]*record{}, wake: make(chan struct{}, 1)}
	fmt.Fprintln(os.Stdout)
	go s.work()
	_ = s.http().Serve(l)
	return 0
}
