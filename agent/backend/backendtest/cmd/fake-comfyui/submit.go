package main

import (
	"encoding/json"
	"net/http"
	"regexp"

	"muster/agent/backend/backendtest"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

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
	f, ok := s.fault(p, -1, backendtest.ServerError, backendtest.ErrorBody, backendtest.NoID, backendtest.Refuse)
	if ok {
		switch f.Do {
		case backendtest.ServerError:
			trouble(w)
			return
		case backendtest.ErrorBody:
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
