package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"muster/agent"
)

// client talks to the running agent of this user's data folder, as any program may: over HTTP, with the token.
type client struct {
	base, token string
	http        http.Client
}

// answerTimeout bounds one call; none of those that the command line makes waits for an image.
const answerTimeout = 30 * time.Second

func newClient(cmd *cobra.Command, config *agent.Config) (*client, error) {
	address, err := agent.Address(*config)
	if cmd.Flags().Changed("listen") || errors.Is(err, fs.ErrNotExist) && config.Listen != agent.Default().Listen {
		address, err = config.Listen, nil
	}
	if errors.Is(err, fs.ErrNotExist) { // whoever listens at the usual address is somebody else, who must not get the token
		return nil, fmt.Errorf("no agent runs with the data folder %s; start one with muster serve, or name another folder with --data", config.Data)
	}
	if err != nil {
		return nil, err
	}
	token, err := agent.Token(*config, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the data folder %s holds no token; name the agent's folder with --data, or its token with MUSTER_TOKEN", config.Data)
	}
	if err != nil {
		return nil, err
	}
	return &client{base: "http://" + address, token: token, http: http.Client{Timeout: answerTimeout}}, nil
}

// refusedError is the agent's answer to what it does not do: a status of 400 or more, with its own message.
type refusedError struct {
	status  int
	message string
}

func (e *refusedError) Error() string { return e.message }

// do sends body as JSON (nil: none), with headers in pairs, and decodes the answer into answer (nil: dropped). Errors: a
// *refusedError, or that there is no answer.
func (c *client) do(ctx context.Context, method, path string, body, answer any, headers ...string) error {
	response, err := c.send(ctx, &c.http, method, path, body, headers...)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

// streamIdle is how long a long answer may pause.
const streamIdle = 30 * time.Second

// stream gets what may take long: it goes on as long as something comes every streamIdle. The caller closes it.
func (c *client) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{path: path, cancel: cancel, idle: time.AfterFunc(streamIdle, cancel)}
	patient := c.http
	patient.Timeout = 0
	response, err := c.send(ctx, &patient, http.MethodGet, path, nil)
	if err != nil {
		defer cancel()
		return nil, s.explain(err)
	}
	s.body = response.Body
	return s, nil
}

// stream is a body that may pause for streamIdle at most.
type stream struct {
	path   string
	body   io.ReadCloser
	cancel context.CancelFunc
	idle   *time.Timer // cancels
}

// Read is io.Reader's.
func (s *stream) Read(p []byte) (int, error) {
	s.idle.Reset(streamIdle)
	n, err := s.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.explain(err)
	}
	return n, err
}

// explain says that the answer paused for too long, when that is why it broke off.
func (s *stream) explain(err error) error {
	if !s.idle.Stop() {
		return fmt.Errorf("GET %s: nothing came for %s: %w", s.path, streamIdle, err)
	}
	return err
}

// Close is io.Closer's.
func (s *stream) Close() error {
	s.idle.Stop()
	defer s.cancel()
	return s.body.Close()
}

// send is do by a client of the caller's choice, with the body left to the caller, who closes it.
func (c *client) send(ctx context.Context, by *http.Client, method, path string, body any, headers ...string) (*http.Response, error) {
	var content io.Reader
	if text, ok := body.(jsonText); ok {
		content = bytes.NewReader(text)
	} else if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := by.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w; is the agent running? start it with muster serve", err)
	}
	if response.StatusCode < http.StatusBadRequest {
		return response, nil
	}
	defer response.Body.Close()
	var refusal struct {
		Error struct{ Message, Field string }
	}
	raw, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if json.Unmarshal(raw, &refusal) != nil || refusal.Error.Message == "" {
		refusal.Error.Message = response.Status
	}
	if refusal.Error.Field != "" {
		refusal.Error.Message = refusal.Error.Field + ": " + refusal.Error.Message
	}
	return nil, &refusedError{response.StatusCode, refusal.Error.Message}
}
