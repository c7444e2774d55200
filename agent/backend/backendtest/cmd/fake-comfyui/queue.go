package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"

	"muster/agent/backend/backendtest"
)

// newID makes a UUID of version 4.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// queueInfo is get_queue_info. It needs mu.
func (s *server) queueInfo() map[string]any {
	remaining := len(s.pending)
	if s.running != nil {
		remaining++
	}
	return map[string]any{"exec_info": map[string]any{"queue_remaining": remaining}}
}

// queueUpdated tells every client. It needs mu.
func (s *server) queueUpdated() {
	s.send("status", map[string]any{"status": s.queueInfo()}, "")
}

func (s *server) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// put queues a prompt: the lowest number first, then the oldest.
func (s *server) put(p *prompt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, p)
	slices.SortStableFunc(s.pending, func(a, b *prompt) int {
		switch {
		case a.number < b.number:
			return -1
		case a.number > b.number:
			return 1
		}
		return a.index - b.index
	})
	s.queueUpdated()
	s.nudge()
}

// work is prompt_worker.
func (s *server) work() {
	for range s.wake {
		for {
			s.mu.Lock()
			if len(s.pending) == 0 {
				s.free()
				s.mu.Unlock()
				break
			}
			p := s.pending[0]
			s.pending = s.pending[1:]
			s.running, s.interrupted = p, false
			s.client, _ = p.extra["client_id"].(string)
			s.queueUpdated()
			s.mu.Unlock()

			s.execute(p)
			s.done(p)
		}
	}
}

// free does what /free asked for, between prompts. It needs mu.
func (s *server) free() {
	if s.flags["unload_models"] || s.flags["free_memory"] {
		s.resident = map[string]bool{}
	}
	if s.flags["free_memory"] {
		s.cache, s.shownUI = map[string]any{}, map[string]any{}
	}
	s.flags = map[string]bool{}
}

// done is task_done and what follows it.
func (s *server) done(p *prompt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == p { // it was not forgotten
		s.history[p.id] = p
		s.order = append(s.order, p.id)
	}
	s.running, s.lastNode = nil, ""
	s.queueUpdated()
	if s.client != "" {
		s.send("executing", map[string]any{"node": nil, "prompt_id": p.id}, s.client)
	}
	s.free()
}

// item is a prompt as /queue and history show it.
func (p *prompt) item() []any { return []any{p.number, p.id, p.raw, p.extra, p.outputs} }

// entry is a prompt's place in history.
func (p *prompt) entry() map[string]any {
	return map[string]any{
		"prompt": p.item(), "outputs": p.shown, "meta": map[string]any{},
		"status": map[string]any{"status_str": p.status, "completed": p.status == "success", "messages": p.messages},
	}
}

// remove takes a prompt out of the queue. It needs mu.
func (s *server) remove(id string) bool {
	before := len(s.pending)
	s.pending = slices.DeleteFunc(s.pending, func(p *prompt) bool { return p.id == id })
	if len(s.pending) == before {
		return false
	}
	s.queueUpdated()
	return true
}

// interruptRunning stops the prompt of that id, or whichever runs when id is "". It needs mu.
func (s *server) interruptRunning(id string) bool {
	if s.running == nil || id != "" && s.running.id != id {
		return false
	}
	s.interrupted = true
	return true
}

// cancelRoute is POST /api/jobs/ID/cancel.
func (s *server) cancelRoute(w http.ResponseWriter, id string) {
	s.mu.Lock()
	cancelled := s.interruptRunning(id) || s.remove(id)
	s.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"cancelled": cancelled})
}

// jobRoute is GET /api/jobs/ID.
func (s *server) jobRoute(w http.ResponseWriter, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := ""
	if p := s.history[id]; p != nil {
		status = "completed"
		if p.status == "error" {
			status = "failed"
		}
	}
	if s.running != nil && s.running.id == id {
		status = "in_progress"
	}
	if slices.ContainsFunc(s.pending, func(p *prompt) bool { return p.id == id }) {
		status = "pending"
	}
	if status == "" {
		answer(w, http.StatusNotFound, map[string]any{"error": "Job not found"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"id": id, "status": status})
}

// historyRoute is GET /history/ID, spoilt as the scenario wants.
func (s *server) historyRoute(w http.ResponseWriter, id string) {
	s.mu.Lock()
	p := s.history[id]
	s.mu.Unlock()
	if p == nil {
		answer(w, http.StatusOK, map[string]any{})
		return
	}
	entry := p.entry()
	whole := map[string]any{id: entry}
	f, ok := s.fault(p, -1, backendtest.Garbage, backendtest.HalfJSON, backendtest.WrongID, backendtest.Lost, backendtest.Huge, backendtest.Drip,
		backendtest.NoImage, backendtest.OddStatus, backendtest.AnswerFails, backendtest.HeldAnswer, backendtest.OtherImage, backendtest.PathName)
	if !ok {
		answer(w, http.StatusOK, whole)
		return
	}
	named := func(filename string) {
		shown := map[string]any{}
		for node := range p.shown {
			shown[node] = map[string]any{"images": []any{map[string]any{"filename": filename, "subfolder": "", "type": "output"}}}
		}
		entry["outputs"] = shown
	}
	switch f.Do {
	case backendtest.Garbage:
		reply(w, http.StatusOK, "application/json", []byte("<html>not JSON at all</html>"))
		return
	case backendtest.HalfJSON:
		half(w, encode(whole))
	case backendtest.WrongID:
		whole = map[string]any{newID(): entry}
	case backendtest.Lost:
		whole = map[string]any{}
	case backendtest.Huge:
		flood(w, `{"`+id+`":{"prompt":"`)
		return
	case backendtest.Drip:
		drip(w, encode(whole))
		return
	case backendtest.HeldAnswer:
		hang()
	case backendtest.AnswerFails:
		trouble(w)
		return
	case backendtest.NoImage:
		entry["outputs"] = map[string]any{}
	case backendtest.OddStatus:
		entry["status"] = map[string]any{"status_str": "levitating", "completed": false, "messages": []any{}}
	case backendtest.OtherImage:
		named("ComfyUI_00001_.png")
	case backendtest.PathName:
		named("../../../../etc/passwd")
	}
	answer(w, http.StatusOK, whole)
}
