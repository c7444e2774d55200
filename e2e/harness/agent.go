// Package harness starts the real muster binary and a real browser, for the tests and measurements of e2e.
package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Binary is the path of bin/muster: MUSTER_BIN, else the one in the project.
func Binary() (string, error) {
	path := os.Getenv("MUSTER_BIN")
	if path == "" {
		root, err := Root()
		if err != nil {
			return "", err
		}
		path = filepath.Join(root, "bin", "muster")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run make build first (make test and make e2e do)", err)
	}
	return path, nil
}

// Root is the folder of go.mod.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Agent is a running muster serve.
type Agent struct {
	URL   string // "http://127.0.0.1:PORT"
	Link  string // one-time link to the app
	Token string
	Data  string
	Pid   int

	cmd    *exec.Cmd
	exited chan struct{}
	exit   error // once exited is closed

	mu     sync.Mutex
	stderr bytes.Buffer
}

// StartTimeout bounds the time until the agent printed its link; it needs a small part of a second.
const StartTimeout = 20 * time.Second

var linkLine = regexp.MustCompile(`http://\S+/#pair=\S+`)

// Start runs muster serve on a free loopback port with the data folder and flags given, and waits until it printed its link.
func Start(data string, flags ...string) (*Agent, error) {
	return Options{Data: data, Flags: flags}.Start()
}

// Options are what an agent is started with.
type Options struct {
	Binary string // "" = Binary()
	Data   string
	Flags  []string // of muster serve
	Env    []string // beside this process's own
}

// Start is the function Start with every choice.
func (o Options) Start() (*Agent, error) {
	binary := o.Binary
	if binary == "" {
		var err error
		if binary, err = Binary(); err != nil {
			return nil, err
		}
	}
	data := o.Data
	a := &Agent{Data: data, exited: make(chan struct{})}
	a.cmd = exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, o.Flags...)...)
	a.cmd.Env = append(append(os.Environ(), "HOME="+data), o.Env...)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.cmd.Stderr = writerFunc(func(b []byte) (int, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.stderr.Write(b)
	})
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	a.Pid = a.cmd.Process.Pid
	links := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if link := linkLine.FindString(lines.Text()); link != "" {
				links <- link
			}
		}
		a.exit = a.cmd.Wait()
		close(a.exited)
	}()
	select {
	case a.Link = <-links:
	case <-a.exited:
		return nil, fmt.Errorf("muster serve ended at once: %w: %s", a.exit, a.Stderr())
	case <-time.After(StartTimeout):
		a.Kill()
		return nil, fmt.Errorf("muster serve printed no link within %s: %s", StartTimeout, a.Stderr())
	}
	a.URL, _, _ = strings.Cut(a.Link, "/#")
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		return nil, errors.Join(err, a.Stop())
	}
	a.Token = strings.TrimSpace(string(token))
	return a, nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Stderr is what the agent logged so far.
func (a *Agent) Stderr() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stderr.String()
}

// Stop ends the agent as systemd would and gives an error when it did not end cleanly and in time.
func (a *Agent) Stop() error {
	select {
	case <-a.exited:
		return a.exit
	default:
	}
	a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.exited:
		if a.exit != nil {
			return fmt.Errorf("muster serve: %w: %s", a.exit, a.Stderr())
		}
		return nil
	case <-time.After(StartTimeout):
		a.Kill()
		return fmt.Errorf("muster serve did not end within %s of SIGTERM: %s", StartTimeout, a.Stderr())
	}
}

// Kill ends the agent with SIGKILL and waits until it is gone; Stop then has nothing left to complain about.
func (a *Agent) Kill() {
	a.cmd.Process.Kill()
	<-a.exited
	a.exit = nil
}

// Do calls the API as a program does. body is sent as JSON (nil: none); the answer is decoded into answer (nil: dropped).
func (a *Agent) Do(ctx context.Context, method, path string, body, answer any) (status int, err error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.URL+path, content)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+a.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return response.StatusCode, err
	}
	if response.StatusCode >= 400 {
		return response.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, raw)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			return response.StatusCode, fmt.Errorf("%s %s: %w: %.200s", method, path, err, raw)
		}
	}
	return response.StatusCode, nil
}

// Command runs another subcommand of muster against this agent's data folder and gives what it printed.
func (a *Agent) Command(ctx context.Context, args ...string) (string, error) {
	binary, err := Binary()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, binary, append(args, "--data", a.Data)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
