package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/process"
)

func TestAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script string
		stdout string
		stderr string
		code   int
	}{
		"an answer":       {"echo one; echo two; echo trouble >&2", "one\ntwo", "trouble", 0},
		"nothing":         {"exit 0", "", "", 0},
		"a failure":       {"echo one; echo trouble >&2; exit 3", "one", "trouble", 3},
		"an endless text": {"seq 1 100000", "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := ""
			stdout, exit, err := Answer(t.Context(), process.Command{
				Path: "/bin/sh", Args: []string{"-c", tt.script}, Env: Environment("/"), Dir: t.TempDir(), Stderr: func(line string) { said = line },
			})
			if err != nil || exit.Code != tt.code || said != tt.stderr {
				t.Errorf("got %v, %v, and %q", err, exit, said)
			}
			if n := strings.Count(stdout, "\n") + 1; name == "an endless text" && n != answerLines {
				t.Errorf("%d lines are kept", n)
			} else if name != "an endless text" && stdout != tt.stdout {
				t.Errorf("got %q", stdout)
			}
		})
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	if _, _, err := Answer(t.Context(), process.Command{Path: "/nothing/here", Dir: t.TempDir()}); err == nil || errors.Is(err, ErrSilent) {
		t.Errorf("a program that is not there: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, _, err := Answer(ctx, process.Command{Path: "/bin/sh", Args: []string{"-c", "exec sleep 1000"}, Env: Environment("/"), Dir: t.TempDir()})
	if took := time.Since(begun); !errors.Is(err, ErrSilent) || took > 30*time.Second {
		t.Errorf("one that hangs: %v after %v", err, took)
	}
}

func TestAskUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		begun := time.Now()
		var asked []time.Duration
		ask := func(context.Context) { asked = append(asked, time.Since(begun).Round(time.Second)) }
		AskUntil(ctx, func() bool { return len(asked) == 3 }, ask)
		if want := []time.Duration{5 * time.Second, 15 * time.Second, 35 * time.Second}; !slices.Equal(asked, want) {
			t.Errorf("asked after %v; want %v", asked, want)
		}
		AskUntil(ctx, func() bool { return false }, ask)
		if took := time.Since(begun); took != 5*time.Minute || len(asked) > 10 {
			t.Errorf("it went on for %v, and asked %d times", took, len(asked))
		}
	})
}
