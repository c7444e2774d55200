package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func collector(c *Command) { c.Stdin, c.Outlive = true, true }

func TestStdinIsWrittenAndItsEndEndsTheChild(t *testing.T) {
	t.Parallel()
	s := start(t, `while read -r line; do echo "got $line"; done; echo end`, collector)
	for _, word := range []string{"one", "two"} {
		if _, err := fmt.Fprintln(s, word); err != nil {
			t.Fatal(err)
		}
		if line := <-s.said; line != "got "+word {
			t.Errorf("it said %q", line)
		}
	}
	if !s.Close(30 * time.Second) {
		t.Fatal("it did not end")
	}
	if exit := s.Exit(); exit.Code != 0 || exit.Signal != 0 || !exit.Asked {
		t.Errorf("%+v", exit)
	}
	if line := <-s.said; line != "end" {
		t.Errorf("its last line is %q", line)
	}
	if _, err := s.Write([]byte("late\n")); err == nil {
		t.Error("a write after Close")
	}
	if !s.Close(0) {
		t.Error("a second Close does not see that it ended")
	}
}

func TestWriteWithoutStdin(t *testing.T) {
	t.Parallel()
	s := start(t, "read line; echo \"[$line]\"", nil)
	if _, err := s.Write([]byte("x\n")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if line := <-s.said; line != "[]" {
		t.Errorf("it read %s", line)
	}
}

// A write that waits for a child that does not read ends with the child, and with Close.
func TestWriteNeverWaitsForEver(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*shell){
		"the child dies": func(s *shell) { _ = s.Kill() },
		"Close":          func(s *shell) { s.Close(0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "echo up; exec sleep 1000", collector)
			<-s.said
			failed := make(chan error)
			go func() {
				_, err := s.Write(make([]byte, 1<<20)) // more than a pipe takes
				failed <- err
			}()
			end(s)
			if err := <-failed; err == nil {
				t.Error("a megabyte was written to a child that does not read")
			}
		})
	}
}

func TestChildThatDoesNotEndIsLeftBehindAndReapedLater(t *testing.T) {
	t.Parallel()
	s := start(t, `echo up; while [ ! -e go ]; do sleep 0.02; done; exit 3`, collector)
	<-s.said
	if s.Close(20 * time.Millisecond) {
		t.Fatal("it ended without a reason")
	}
	select {
	case <-s.Done():
		t.Fatal("it was killed")
	default:
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if exit := s.ended(t); exit.Code != 3 || !exit.Asked {
		t.Errorf("%+v", exit)
	}
	if unix.Kill(s.PID(), 0) == nil {
		t.Error("nobody reaped it")
	}
}

func TestCollectorEndsByItselfWhenItsAgentIsKilled(t *testing.T) {
	t.Parallel()
	agent, pid := startStandIn(t, "collector")
	end := watch(t, pid)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	end(t)
	out, err := os.ReadFile(agent.Dir + "/end")
	if err != nil || strings.TrimSpace(string(out)) != "by itself" {
		t.Errorf("it was not the end of its stdin that ended it: %q, %v", out, err)
	}
}

// startStandIn runs this test binary as an agent with one child of that kind, and gives the child's number.
func startStandIn(t *testing.T, kind string) (*exec.Cmd, int) {
	t.Helper()
	agent := exec.Command(os.Args[0])
	agent.Dir = t.TempDir()
	agent.Env = append(os.Environ(), standIn+"="+kind)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill() })
	var line string
	if _, err := fmt.Fscanln(out, &line); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(line)
	}
	return agent, pid
}
