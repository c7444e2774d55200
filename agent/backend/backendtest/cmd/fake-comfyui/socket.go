package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"muster/agent/backend/backendtest"
)

// socket is a connected client.
type socket struct {
	conn     *websocket.Conn
	metadata bool // it declared supports_preview_metadata; under the server's mu
}

func (k *socket) write(ctx context.Context, e event) {
	if e.drop {
		_ = k.conn.CloseNow()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if e.text != nil {
		_ = k.conn.Write(ctx, websocket.MessageText, encode(e.text))
		return
	}
	kind := websocket.MessageBinary
	if len(e.binary) > 0 && e.binary[0] == '{' { // nonsense that is text
		kind = websocket.MessageText
	}
	_ = k.conn.Write(ctx, kind, e.binary)
}

// serveSocket is /ws. A second socket of a client replaces the first; and as in the real one, whichever of them ends first takes the
// client out of the table.
func (s *server) serveSocket(w http.ResponseWriter, r *http.Request) {
	if s.settings.NoSocket {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	conn.SetReadLimit(1 << 20)
	client := r.URL.Query().Get("clientId")
	if client == "" {
		client = strings.ReplaceAll(newID(), "-", "")
	}
	k := &socket{conn: conn}
	s.mu.Lock()
	s.sockets[client] = k
	info, again, node := s.queueInfo(), s.client == client && s.lastNode != "", s.lastNode
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sockets, client)
	}()
	k.write(r.Context(), event{text: map[string]any{"type": "status", "data": map[string]any{"status": info, "sid": client}}})
	if again {
		k.write(r.Context(), event{text: map[string]any{"type": "executing", "data": map[string]any{"node": node}}})
	}
	for first := true; ; first = false {
		kind, text, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		var said struct {
			Type string          `json:"type"`
			Data map[string]bool `json:"data"`
		}
		if kind == websocket.MessageText && json.Unmarshal(text, &said) == nil && first && said.Type == "feature_flags" {
			s.mu.Lock()
			k.metadata = said.Data["supports_preview_metadata"] && !s.settings.Ancient
			s.mu.Unlock()
			k.write(r.Context(), event{text: map[string]any{"type": "feature_flags", "data": map[string]any{"supports_preview_metadata": true, "max_upload_size": 104857600}}})
		}
	}
}

// spoil sends what a scenario has go wrong on the socket.
func (s *server) spoil(p *prompt, step int) {
	if _, ok := s.fault(p, step, backendtest.GarbageEvents); ok {
		for _, text := range []string{"{", `{"type":7}`, `{"type":"progress","data":[1]}`, `{"type":"progress","data":{"value":"x"}}`, `{"type":"executing"}`, `{}`, `{"type":"levitating","data":{}}`} {
			s.events <- event{client: s.client, binary: []byte(text)}
		}
		for _, binary := range [][]byte{{}, {0}, {0, 0, 0, 1}, {0, 0, 0, 1, 0, 0, 0, 9}, {0, 0, 0, 4, 255, 255, 255, 255, 1}, {0, 0, 0, 99, 1, 2, 3}, {0, 0, 0, 4, 0, 0, 0, 2, '{', '}', 1}} {
			s.events <- event{client: s.client, binary: binary}
		}
	}
	if _, ok := s.fault(p, step, backendtest.ForeignEvents); ok {
		other := newID()
		for node := range p.graph {
			s.send("progress", map[string]any{"value": 1000, "max": 1000, "prompt_id": other, "node": node}, s.client)
			s.send("executed", map[string]any{"node": node, "prompt_id": other, "output": map[string]any{"images": []any{map[string]any{"filename": "other.png", "subfolder": "", "type": "output"}}}}, s.client)
		}
		s.send("execution_success", map[string]any{"prompt_id": other}, s.client)
		s.send("execution_error", map[string]any{"prompt_id": other, "exception_type": "torch.OutOfMemoryError"}, s.client)
		s.send("executing", map[string]any{"node": nil, "prompt_id": other}, s.client)
		s.preview(other, "3")
	}
	if _, ok := s.fault(p, step, backendtest.HugeEvent); ok {
		s.send("progress_state", map[string]any{"prompt_id": p.id, "x": strings.Repeat("y", 8<<20)}, s.client)
	}
	if _, ok := s.fault(p, step, backendtest.DropSocket); ok {
		s.events <- event{drop: true}
	}
}
