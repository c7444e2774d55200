package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"muster/agent/backend"
	"muster/agent/backend/answer"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/agent/backend/prompt"
)

// result is what the images API answers.
type result struct {
	Data []struct {
		File answer.Picture `json:"b64_json"`
		URL  string         `json:"url"`
	} `json:"data"`
}

// finish takes the image of an exchange that has ended. Its errors are those of Generate.
func (g *Generator) finish(ctx context.Context, s *attach.Sent, o order, req backend.Request) ([]byte, error) {
	if s.Err != nil {
		return nil, g.explain(s.Err, req)
	}
	name := g.Server.Name()
	var r result
	if err := json.Unmarshal(s.Text, &r); err != nil {
		return nil, fmt.Errorf("%s answered nonsense: %w", name, backend.ErrUnavailable)
	}
	if len(r.Data) == 0 || len(r.Data[0].File) == 0 && r.Data[0].URL == "" {
		words := exchange.Complaint(s.Text)
		if words = prompt.Scrub(words, req.Prompt, req.NegativePrompt); words == "" {
			words = "no image"
		}
		return nil, fmt.Errorf("%s answered with %s: %w", name, words, backend.ErrUnavailable)
	}
	file := []byte(r.Data[0].File)
	if len(file) == 0 {
		var err error
		if file, err = g.fetch(ctx, r.Data[0].URL); err != nil {
			return nil, err
		}
	}
	file, err := answer.PNG(file, o.width, o.height)
	switch {
	case errors.Is(err, answer.ErrForm):
		return nil, fmt.Errorf("%s: %w: set it to PNG", name, err)
	case errors.Is(err, answer.ErrSize):
		return nil, fmt.Errorf("%s: %w: ask for one that it makes", name, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", name, err, backend.ErrUnavailable)
	}
	return file, nil
}

// errElsewhere says that an answer leads to another place than the server itself.
var errElsewhere = errors.New("it gave the address of the image at another place, which is not fetched")

// fetch gets an image from an address that the server answered with. It must be the server's own, or hold the image itself.
func (g *Generator) fetch(ctx context.Context, address string) ([]byte, error) {
	if strings.HasPrefix(address, "data:") {
		var file answer.Picture
		if text, err := json.Marshal(address); err != nil || json.Unmarshal(text, &file) != nil {
			return nil, fmt.Errorf("%s answered nonsense: %w", g.Server.Name(), backend.ErrUnavailable)
		}
		return file, nil
	}
	at, err := ownPath(g.Config().Base, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: set it up to answer with images (b64_json)", g.Server.Name(), err)
	}
	file, err := g.client.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: at, Want: http.StatusOK})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s does not give out the image that it made: %w: %w", g.Server.Name(), err, backend.ErrUnavailable)
	}
	return file, nil
}

// ownPath gives the path and query of an address on the server itself, absolute or not.
func ownPath(base, address string) (string, error) {
	own, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	at, err := own.Parse(address)
	if err != nil || at.Scheme != own.Scheme || !strings.EqualFold(at.Host, own.Host) || at.User != nil || at.Opaque != "" {
		return "", errElsewhere
	}
	return at.RequestURI(), nil
}

// complaint is what an answer with an error says to people: llama-swap answers in plain words.
func complaint(answered *exchange.StatusError) string {
	plain := strings.TrimSpace(string(answered.Body))
	if answered.Message != "" || plain == "" || strings.ContainsRune("<{[", rune(plain[0])) {
		return answered.Message
	}
	return exchange.Clean(plain)
}

// explain makes an exchange's error one of Generate's.
func (g *Generator) explain(err error, req backend.Request) error {
	name := g.Server.Name()
	var answered *exchange.StatusError
	switch {
	case errors.Is(err, exchange.ErrBroken) || errors.Is(err, exchange.ErrSlow):
		return fmt.Errorf("%s: %w: %w", name, err, backend.ErrUnavailable)
	case !errors.As(err, &answered):
		return fmt.Errorf("%s ended or can't be reached: %w: %w", name, err, backend.ErrUnavailable)
	}
	words := prompt.Scrub(complaint(answered), req.Prompt, req.NegativePrompt)
	if words == "" {
		words = fmt.Sprintf("it answered %d", answered.Status)
	}
	lower := strings.ToLower(words)
	if answer.TellsOfMemory(words) {
		return fmt.Errorf("%s has no room on its device: %s: try a smaller size: %w", name, words, backend.ErrOutOfMemory)
	}
	if strings.Contains(lower, "model") && (strings.Contains(lower, "not found") || strings.Contains(lower, "does not exist")) {
		g.Look() // its list is out of date
		return fmt.Errorf("%s: %s", name, words)
	}
	switch answered.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: %w: %w", name, unusable(err), backend.ErrUnavailable)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fmt.Errorf("%s does not make images: %s: %w", name, words, backend.ErrUnavailable)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fmt.Errorf("%s is busy or loads: %s: %w: %w", name, words, attach.ErrNotItsFault, backend.ErrUnavailable)
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%s refused the job: %s", name, words)
	}
	return fmt.Errorf("%s could not make the image: %s: %w", name, words, backend.ErrUnavailable)
}
