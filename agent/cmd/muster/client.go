package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"muster/agent"
)

// client talks to the running agent of this user's data folder, as any program may: over HTTP, with the token.
type client struct {
	base, token string
	http        http.Client
	// find says where the agent is now, and its token: both may be others after a restart. nil: where it was.
	find func() (address, token string, err error)
}

// answerTimeout bounds one call; none of those that the command line makes waits for an image.
const answerTimeout = 30 * time.Second

func newClient(cmd *cobra.Command, config *agent.Config) (*client, error) {
	named := cmd.Flags().Changed("listen")
	c := &client{http: http.Client{Timeout: answerTimeout}, find: func() (address, token string, err error) { return findAgent(config, named) }}
	if err := c.findAgain(); err != nil {
		return nil, err
	}
	return c, nil
}

// findAgain looks where the agent is now. When it fails, the client is as it was.
func (c *client) findAgain() error {
	if c.find == nil {
		return nil
	}
	address, token, err := c.find()
	if err != nil {
		return err
	}
	c.base, c.token = "http://"+address, token
	return nil
}

// findAgent gives the address and the token of the data folder's agent; named says that a person gave --listen. Its error wraps
// errNoAgent when none runs.
func findAgent(config *agent.Config, named bool) (address, token string, err error) {
	address, err = agent.Address(*config)
	if named || errors.Is(err, fs.ErrNotExist) && config.Listen != agent.Default().Listen {
		address, err = config.Listen, nil
	}
	if errors.Is(err, fs.ErrNotExist) { // whoever listens at the usual address is somebody else, who must not get the token
		return "", "", fmt.Errorf("%w %s; start one with muster serve, or name another folder with --data", errNoAgent, config.Data)
	}
	if err != nil {
		return "", "", err
	}
	token, err = agent.Token(*config, false)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("the data folder %s holds no token; name the agent's folder with --data, or its token with MUSTER_TOKEN", config.Data)
	}
	return address, token, err
}

// errNoAgent is that nobody serves the data folder.
var errNoAgent = errors.New("no agent runs with the data folder")

// awayError is that no answer came, or only half of one: nobody listens, the agent ended, or the connection is lost.
type awayError struct {
	err error
	// unsent says that the request did not even reach a listener.
	unsent bool
}

func (e *awayError) Error() string {
	return e.err.Error() + "; is the agent running? start it with muster serve"
}

func (e *awayError) Unwrap() error { return e.err }

// awayFrom makes an error of the connection an awayError.
func awayFrom(err error) error {
	var dial *net.OpError
	return &awayError{err: err, unsent: errors.As(err, &dial) && dial.Op == "dial"}
}

// refusedError is the agent's answer to what it does not do: a status of 400 or more, with its own message.
type refusedError struct {
	status        int
	code, message string // code is for programs; "" from what is no agent
}

func (e *refusedError) Error() string { return e.message }

// do sends body as JSON (nil: none), with headers in pairs, and decodes the answer into answer (nil: dropped). Errors: a
// *refusedError, an *awayError, or that what answers is no agent.
func (c *client) do(ctx context.Context, method, path string, body, answer any, headers ...string) error {
	response, err := c.send(ctx, &c.http, method, path, body, headers...)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if answer == nil {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return awayFrom(fmt.Errorf("%s %s: the answer broke off: %w", method, path, err))
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("%s %s: what answers at %s is no agent of this version: %w", method, path, c.base, err)
	}
	return nil
}

// maxAnswer bounds an answer that is read whole, in bytes; the longest is a page of 1,000 jobs with long prompts.
const maxAnswer = 64 << 20

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
		err = awayFrom(s.explain(err))
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
		return nil, awayFrom(err)
	}
	if response.StatusCode < http.StatusBadRequest {
		return response, nil
	}
	defer response.Body.Close()
	var refusal struct {
		Error struct{ Code, Message, Field string }
	}
	raw, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if json.Unmarshal(raw, &refusal) != nil || refusal.Error.Message == "" {
		refusal.Error.Message = response.Status
	}
	if refusal.Error.Field != "" {
		refusal.Error.Message = refusal.Error.Field + ": " + refusal.Error.Message
	}
	return nil, &refusedError{response.StatusCode, refusal.Error.Code, refusal.Error.Message}
}
