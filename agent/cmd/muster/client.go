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

// do sends body as JSON (nil: none) and decodes the answer into answer (nil: dropped). An answer of 400 or more is an error
// with the agent's own message.
func (c *client) do(ctx context.Context, method, path string, body, answer any) error {
	response, err := c.send(ctx, method, path, body)
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

// send is do with the body left to the caller, who closes it.
func (c *client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
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
	response, err := c.http.Do(request)
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
	return nil, errors.New(refusal.Error.Message)
}
