// Package stage is an agent that is made up: it serves the built app and tells it of devices, details and a past that no machine
// here has. The tests of the page and the pictures of it use it where the real agent has nothing to show.
package stage

import (
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"muster/e2e/harness"
	"muster/shared/wire"
)

// policy is the agent's own: what it forbids must not be needed.
const policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'"

// Past answers GET /api/v1/history: a status and what stands in the body as JSON.
type Past func(url.Values) (status int, body any)

// Stage is the made-up agent. Make it with Open; its methods may be called from any goroutine.
type Stage struct {
	URL string

	server *httptest.Server
	over   chan struct{} // closed by Close

	mu     sync.Mutex
	events []wire.Event  // what every new page is told first
	past   Past          // nil answers 404
	refuse string        // why decisions about devices and models are refused; "" accepts them, and does nothing
	field  string        // of the request that is refused; "" for the whole
	done   []Done        // decisions that were accepted
	looked int           // at pictures of unfinished images
	asked  []url.Values  // of the past
	told   chan struct{} // closed and replaced when events change
}

// Open serves the app that make build wrote, and tells every page the events; of each kind the newest counts. Snapshots are
// told anew each second, with the time of day.
func Open(past Past, events ...wire.Event) (*Stage, error) {
	root, err := harness.Root()
	if err != nil {
		return nil, err
	}
	static := filepath.Join(root, "webapp", "dist", "static")
	if _, err := os.Stat(filepath.Join(static, "index.html")); err != nil {
		return nil, err
	}
	s := &Stage{over: make(chan struct{}), events: events, past: past, told: make(chan struct{})}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /api/v1/events", s.socket)
	routes.HandleFunc("GET /api/v1/history", s.history)
	for _, decision := range []string{
		"POST /api/v1/devices/{id}/{act}", "PATCH /api/v1/devices/{id}/control", "PUT /api/v1/pool",
		"POST /api/v1/models/{name}/{act}", "DELETE /api/v1/models/{name}", "POST /api/v1/models/install", "DELETE /api/v1/models/installs/{id}", "POST /api/v1/models/installs/{id}/again",
	} {
		routes.HandleFunc(decision, s.decide)
	}
	routes.HandleFunc("GET /api/v1/models/recommendations", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Recommended()) })
	routes.HandleFunc("GET /api/v1/jobs/{id}/preview", s.preview)
	routes.HandleFunc("GET /api/v1/session", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]bool{"paired": true})
	})
	routes.Handle("GET /", http.FileServer(http.Dir(static)))
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Cache-Control", "no-cache")
		routes.ServeHTTP(w, r)
	}))
	s.URL = s.server.URL
	return s, nil
}

// Close ends every connection.
func (s *Stage) Close() {
	close(s.over)
	s.server.Close()
}

// Tell tells an event to every page, now and when it opens.
func (s *Stage) Tell(e wire.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	close(s.told)
	s.told = make(chan struct{})
}

// Answer changes what the past is.
func (s *Stage) Answer(past Past) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past = past
}

// Refuse lets every decision about a device be refused with that message from now on.
func (s *Stage) Refuse(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = message
}

// RefuseField is Refuse for what is wrong with one field of a request.
func (s *Stage) RefuseField(field, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse, s.field = message, field
}

// Done is a decision that was accepted.
type Done struct{ Method, Path, Body string }

// Done gives the decisions that were accepted so far.
func (s *Stage) Done() []Done {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Done(nil), s.done...)
}

func (s *Stage) decide(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refuse != "" && s.field != "":
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]string{"code": "invalid", "message": s.refuse, "field": s.field}})
	case s.refuse != "":
		answer(w, http.StatusInsufficientStorage, map[string]any{"error": map[string]string{"code": "disk_full", "message": s.refuse}})
	default:
		s.done = append(s.done, Done{r.Method, r.URL.Path, string(body)})
		answer(w, http.StatusOK, struct{}{})
	}
}

// Looked counts the pictures of unfinished images that were asked for.
func (s *Stage) Looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looked
}

// preview answers with a picture that becomes clearer with the number that is asked for.
func (s *Stage) preview(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.looked++
	s.mu.Unlock()
	_, revision, _ := strings.Cut(r.URL.Query().Get("n"), "-")
	n, _ := strconv.Atoi(revision)
	picture := image.NewRGBA(image.Rect(0, 0, 64, 64))
	for i := range 64 * 64 {
		x, y := i%64, i/64
		picture.SetRGBA(x, y, color.RGBA{uint8(60 + 2*x), uint8(90 + n*13%120), uint8(200 - 2*y), 255})
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Cache-Control", "no-store")
	_ = png.Encode(w, picture) // the page has gone
}

// Asked gives the questions about the past so far.
func (s *Stage) Asked() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]url.Values(nil), s.asked...)
}

func (s *Stage) history(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Query())
	past := s.past
	s.mu.Unlock()
	if past == nil {
		http.NotFound(w, r)
		return
	}
	status, body := past(r.URL.Query())
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the page has gone
}

func (s *Stage) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.SubprotocolBinary}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx := conn.CloseRead(context.Background())
	hello := wire.Hello{Version: wire.Version, Build: "stage", Instance: "stage", IntervalMilliseconds: 1000, Complete: true}
	if write(ctx, conn, wire.Event{Hello: &hello}) != nil {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for told, seq := 0, uint64(1); ; seq++ {
		s.mu.Lock()
		news, all, more := s.events[told:], s.events, s.told
		told = len(all)
		s.mu.Unlock()
		for _, e := range news {
			if e.Snapshot == nil && write(ctx, conn, e) != nil {
				return
			}
		}
		if write(ctx, conn, tick(all, seq)) != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-more:
		case <-ctx.Done():
			return
		case <-s.over:
			return
		}
	}
}

// tick gives the newest snapshot as if it were taken now.
func tick(events []wire.Event, seq uint64) wire.Event {
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Snapshot != nil {
			now := *events[i].Snapshot
			now.Seq, now.Time = seq, time.Now().UTC()
			return wire.Event{Snapshot: &now}
		}
	}
	return wire.Event{}
}

func write(ctx context.Context, conn *websocket.Conn, e wire.Event) error {
	if e == (wire.Event{}) {
		return nil
	}
	frame, err := wire.Binary.Encode(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return conn.Write(ctx, websocket.MessageBinary, frame)
}
