package sdapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"muster/agent/backend"
	"muster/agent/backend/answer"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/agent/backend/prompt"
)

// complaint is what an answer with an error says to people, in any program's form: koboldcpp has {"detail":{"msg":"…"}}.
func complaint(body []byte) string {
	if words := exchange.Complaint(body); words != "" {
		return words
	}
	var said struct{ Detail struct{ Msg string } }
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	return exchange.Clean(said.Detail.Msg)
}

func (g *Generator) outOfMemory(words string) error {
	if words != "" {
		words = ": " + words
	}
	return fmt.Errorf("%s has no room on its device%s: try a smaller size: %w", g.Server.Name(), words, backend.ErrOutOfMemory)
}

// allocationFailed says whether the server has counted a failed allocation since it was asked last.
func (g *Generator) allocationFailed(ctx context.Context) bool {
	g.mu.Lock()
	before := g.ooms
	g.mu.Unlock()
	g.memory(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ooms > before
}

// explain makes an exchange's error one of Generate's, without what was sent.
func (g *Generator) explain(err error, sent ...string) error {
	name := g.Server.Name()
	var answered *exchange.StatusError
	switch {
	case errors.Is(err, exchange.ErrBroken) || errors.Is(err, exchange.ErrSlow):
		return fmt.Errorf("%s: %w: %w", name, err, backend.ErrUnavailable)
	case !errors.As(err, &answered):
		return fmt.Errorf("%s ended or can't be reached: %w: %w", name, err, backend.ErrUnavailable)
	}
	words := prompt.Scrub(complaint(answered.Body), sent...)
	lower := strings.ToLower(words)
	if strings.Contains(lower, "tensors to be on the same device") { // somebody else put its model away
		g.mu.Lock()
		g.unsure = true
		g.mu.Unlock()
	}
	switch {
	case answer.TellsOfMemory(words):
		return g.outOfMemory(words)
	case strings.Contains(lower, "sampler not found"):
		g.Server.Look() // it has changed
		return fmt.Errorf("%s does not know the sampler: choose another, or none", name)
	case strings.Contains(lower, "model") && strings.Contains(lower, "not found"):
		g.Server.Look()
		return fmt.Errorf("%s: %s", name, words)
	}
	switch answered.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return fmt.Errorf("%s: %w: %w", name, unusable(err), backend.ErrUnavailable)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fmt.Errorf("%s is busy: %s: %w: %w", name, words, attach.ErrNotItsFault, backend.ErrUnavailable)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return fmt.Errorf("%s refused the job: %s", name, words)
	}
	return fmt.Errorf("%s could not make the image: %s: %w", name, orStatus(words, answered.Status), backend.ErrUnavailable)
}

func orStatus(words string, status int) string {
	if words == "" {
		return fmt.Sprintf("it answered %d", status)
	}
	return words
}

// explainCall makes the error of txt2img one of Generate's. Programs that hide their exceptions are asked for their counter.
func (g *Generator) explainCall(ctx context.Context, c *call, err error) error {
	if c.program.counts && exchange.StatusOf(err) >= 500 && g.allocationFailed(ctx) {
		return g.outOfMemory("")
	}
	return g.explain(err, c.req.Prompt, c.req.NegativePrompt)
}
