package comfyui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"muster/agent/backend"
	"muster/agent/backend/answer"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/agent/backend/prompt"
)

// executionError is a prompt that ended without an image.
type executionError struct{ failure }

func (e *executionError) Error() string {
	switch {
	case e.interrupted:
		return "somebody interrupted it"
	case e.kind == "" && e.text == "":
		return "it gives no reason"
	case e.node == "":
		return e.text
	}
	return fmt.Sprintf("%s (%s in %s)", e.text, e.kind, e.node)
}

// problem says why a prompt that has ended has no image; nil when it has.
func (r *record) problem() error {
	switch {
	case r.Status == nil, r.Status.Status == "success": // servers of 2023 have no status
		return nil
	case r.Status.Status == "error":
		return &executionError{r.failure()}
	}
	return fmt.Errorf("ComfyUI %w: unknown status %q", exchange.ErrBroken, exchange.Clean(r.Status.Status))
}

// poisonWords are how drivers say that the process can't use its device any more: every prompt after it fails too.
var poisonWords = []string{
	"illegal memory access", "device-side assert", "unspecified launch failure", "misaligned address", "hip error", "cuda error", "no longer available",
	"gpu is lost", "device lost", "device_lost",
}

func tells(text string, words []string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
}

// errPoisoned says that a process lives, but can't use its device any more.
var errPoisoned = errors.New("its process lost the device, and has to be started again")

// errInterrupted says that a prompt was stopped, and not by us.
var errInterrupted = errors.New("somebody else interrupted it")

// explain makes an error of a server's work one of Generate's.
func (s *server) explain(err error, e entry) error {
	var failed *executionError
	var answered *exchange.StatusError
	name := s.name()
	switch {
	case errors.As(err, &failed):
		return s.explainFailure(failed, e)
	case errors.Is(err, errLost):
		return fmt.Errorf("%s: %w: %w: %w", name, err, attach.ErrNotItsFault, backend.ErrUnavailable)
	case errors.Is(err, errSize):
		return fmt.Errorf("%s: %w", name, err)
	case errors.As(err, &answered) && answered.Status == http.StatusBadRequest:
		return s.explainRefusal(answered, e)
	}
	return fmt.Errorf("%s: %w: %w", name, err, backend.ErrUnavailable)
}

func orNothing(text string) string {
	if text == "" {
		return "no reason given"
	}
	return text
}

func (s *server) explainFailure(failed *executionError, e entry) error {
	switch {
	case failed.interrupted:
		return fmt.Errorf("%s: %w: %w: %w", s.name(), errInterrupted, attach.ErrNotItsFault, backend.ErrUnavailable)
	case answer.TellsOfMemory(failed.kind + " " + failed.text):
		return fmt.Errorf("%s has no room on its device: try a smaller size or another model: %w", s.name(), backend.ErrOutOfMemory)
	case tells(failed.kind+" "+failed.text, poisonWords):
		return fmt.Errorf("%s: %s: %w: %w", s.name(), failed.text, errPoisoned, backend.ErrUnavailable)
	}
	return fmt.Errorf("%s could not make the image with %q: %w", s.name(), e.name, failed)
}

// explainRefusal says why a graph was refused: most often because the server does not have what it names.
func (s *server) explainRefusal(answered *exchange.StatusError, e entry) error {
	r, ok := parseRefusal(answered.Body)
	if !ok {
		return fmt.Errorf("%s refused the prompt: %s", s.name(), orNothing(answered.Message))
	}
	for _, node := range r.Nodes {
		for _, one := range node.Errors {
			input := exchange.Clean(one.Extra.Input)
			switch {
			case one.Type != "value_not_in_list":
			case input == "ckpt_name" || input == "unet_name":
				return fmt.Errorf("model %q is not installed on %s any more: choose another, or put it back into its models folder", e.name, s.name())
			case strings.HasSuffix(input, "_name"):
				return fmt.Errorf("%s does not have the %s that model %q is made with: %s", s.name(), input, e.name, exchange.Clean(one.Message))
			}
		}
	}
	for _, node := range r.Nodes {
		for _, one := range node.Errors { // its details repeat values, and so the prompt
			return fmt.Errorf("%s refused the prompt: %s (%s of %s)", s.name(), exchange.Clean(one.Message), exchange.Clean(one.Extra.Input), exchange.Clean(node.Class))
		}
	}
	words := strings.TrimRight(r.Error.Message, ".")
	if r.Error.Type == "invalid_prompt" && e.workflow != nil {
		words += ": install the nodes that workflow " + e.name + " is made of"
	}
	return fmt.Errorf("%s refused the prompt: %s", s.name(), words)
}

// suspect says whether the state of a server is not known after an error, so that one of our own is replaced.
func suspect(err error) bool {
	var answered *exchange.StatusError
	if errors.As(err, &answered) {
		return answered.Status != http.StatusBadRequest
	}
	for _, sign := range []error{errStalled, errPoisoned, errGone, exchange.ErrBroken, exchange.ErrSlow} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, errLost) && !errors.Is(err, errInterrupted)
}

// unreachable says whether an exchange failed for want of a server.
func unreachable(err error) bool {
	var answered *exchange.StatusError
	return err != nil && !errors.As(err, &answered) && !errors.Is(err, exchange.ErrBroken) && !errors.Is(err, exchange.ErrSlow) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// redacted is an error whose text does not hold the prompt: what a server says may.
type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }
func (r *redacted) Unwrap() error { return r.err }

// redact takes the prompts out of an error's text.
func redact(err error, req backend.Request) error {
	if err == nil {
		return nil
	}
	text := prompt.Scrub(err.Error(), secretsOf(req)...)
	if text == err.Error() {
		return err
	}
	return &redacted{text, err}
}

// secretsOf are the prompts of a request, as they were sent and as they stand in an error.
func secretsOf(req backend.Request) []string {
	return []string{req.Prompt, req.NegativePrompt, exchange.Clean(req.Prompt), exchange.Clean(req.NegativePrompt)}
}
