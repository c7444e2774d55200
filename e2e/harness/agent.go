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
	client *http.Client
	links  chan string // of size 1
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
	a, err := o.Launch()
	if err != nil {
		return nil, err
	}
	return a, a.Await()
}

// Launch starts muster serve and does not wait for it: the Agent is of use once Await has returned.
func (o Options) Launch() (*Agent, error) {
	binary := o.Binary
	if binary == "" {
		var err error
		if binary, err = Binary(); err != nil {
			return nil, err
		}
	}
	a := &Agent{Data: o.Data, links: make(chan string, 1), exited: make(chan struct{}), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	a.cmd = exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", o.Data}, o.Flags...)...)
	a.cmd.Env = append(append(os.Environ(), "HOME="+o.Data), o.Env...)
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
	go a.follow(out)
	return a, nil
}

// follow reads what the agent prints until it is gone.
func (a *Agent) follow(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if link := linkLine.FindString(lines.Text()); link != "" {
			a.links <- link
		}
	}
	a.exit = a.cmd.Wait()
	close(a.exited)
}

// Await waits until an agent that was launched has printed its link.
func (a *Agent) Await() error {
	select {
	case a.Link = <-a.links:
	case <-a.exited:
		return fmt.Errorf("muster serve ended at once: %w: %s", a.exit, a.Stderr())
	case <-time.After(StartTimeout):
		a.Kill()
		return fmt.Errorf("muster serve printed no link within %s: %s", StartTimeout, a.Stderr())
	}
	a.URL, _, _ = strings.Cut(a.Link, "/#")
	token, err := os.ReadFile(filepath.Join(a.Data, "token"))
	if err != nil {
		return errors.Join(err, a.Stop())
	}
	a.Token = strings.TrimSpace(string(token))
	return nil
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
	defer a.client.CloseIdleConnections()
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

// Strike sends SIGKILL and waits for nothing. Kill must follow.
func (a *Agent) Strike() { a.cmd.Process.Kill() }

// Kill ends the agent with SIGKILL and waits until it is gone; Stop then has nothing left to complain about. It gives an error
// when the agent had ended by itself before.
func (a *Agent) Kill() error {
	a.cmd.Process.Kill()
	<-a.exited
	a.client.CloseIdleConnections()
	status, _ := a.cmd.ProcessState.Sys().(syscall.WaitStatus)
	a.exit = nil
	if status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("muster serve ended by itself: %s: %s", a.cmd.ProcessState, a.Stderr())
	}
	return nil
}

// Freeze stops every thread of the agent where it is, those inside a system call when that is over. Kill ends it all the same.
func (a *Agent) Freeze() error {
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < StartTimeout; {
		if frozen, err := allStopped(a.Pid); frozen || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d did not stop within %s", a.Pid, StartTimeout)
}

// allStopped says whether every thread of a process is stopped (state T, proc(5)).
func allStopped(pid int) (bool, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(files) == 0 {
		return false, fmt.Errorf("process %d is gone: %w", pid, os.ErrNotExist)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if !strings.HasPrefix(rest, "T") {
			return false, nil
		}
	}
	return true, nil
}

// Do calls the API as a program does. body is sent as JSON (nil: none); the answer is decoded into answer (nil: dropped). The
// status is 0 when there was no answer.
func (a *Agent) Do(ctx context.Context, method, path string, body, answer any) (status int, err error) {
	return a.Ask(ctx, Request{Method: method, Path: path, Body: body}, answer)
}

// Request is a call of the API.
type Request struct {
	Method, Path string
	Key          string // idempotency key; "" for none
	Body         any    // sent as JSON; nil for none
}

// Ask is Do with every choice. A *[]byte as answer gets the bytes as they came.
func (a *Agent) Ask(ctx context.Context, r Request, answer any) (status int, err error) {
	var content io.Reader
	if r.Body != nil {
		raw, err := json.Marshal(r.Body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, a.URL+r.Path, content)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+a.Token)
	if r.Key != "" {
		request.Header.Set("Idempotency-Key", r.Key)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return response.StatusCode, err
	}
	if response.StatusCode >= 400 {
		return response.StatusCode, fmt.Errorf("%s %s: %s: %s", r.Method, r.Path, response.Status, raw)
	}
	switch answer := answer.(type) {
	case nil:
	case *[]byte:
		*answer = raw
	default:
		if err := json.Unmarshal(raw, answer); err != nil {
			return response.StatusCode, fmt.Errorf("%s %s: %w: %.200s", r.Method, r.Path, err, raw)
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
