package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// press gives what a shell would suggest at the end of the line; data is the data folder.
func press(t *testing.T, data string, line ...string) []string {
	t.Helper()
	cmd := command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs(append([]string{"__complete", "--data", data}, line...))
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", line, err)
	}
	words := strings.Split(strings.TrimSpace(out.String()), "\n")
	return words[:len(words)-1] // the last is cobra's directive
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	jobs := r.submit(2)
	running := r.start(jobs[0])
	for _, tt := range []struct {
		name string
		line []string
		want string // every suggestion, joined
	}{
		{"devices", []string{"generate", "--device", ""}, "0\tMI25|1\tV620|cpu\tthe processor"},
		{"models", []string{"generate", "--model", ""}, "sketch"},
		{"devices to pause", []string{"devices", "pause", ""}, "0\tMI25|1\tV620|cpu\tthe processor|all\tevery device"},
		{"without those that are named already", []string{"devices", "set", "0", "cpu", ""}, "1\tV620|all\tevery device"},
		{"jobs to cancel", []string{"jobs", "cancel", ""}, running.ID + "\trunning: ../../a fox|" + jobs[1].ID + "\tqueued: ../../a fox"},
		{"states", []string{"jobs", "--state", ""}, "queued|running|succeeded|failed|cancelled"},
		{"policies", []string{"serve", "--policy", ""}, "predicted|least-loaded|round-robin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(press(t, r.data, tt.line...), "|"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Without an agent nothing is suggested, and nothing is written into the line that is being typed.
func TestCompletionWithoutAnAgent(t *testing.T) {
	t.Parallel()
	for _, line := range [][]string{{"generate", "--device", ""}, {"generate", "--model", ""}, {"jobs", "cancel", ""}, {"devices", "drain", ""}} {
		if got := press(t, t.TempDir(), line...); len(got) > 0 {
			t.Errorf("%v: %q", line, got)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ shell, begins string }{{"bash", "# bash completion V2 for muster"}, {"zsh", "#compdef muster"}, {"fish", "# fish completion for muster"}} {
		t.Run(tt.shell, func(t *testing.T) {
			t.Parallel()
			cmd := command()
			var script bytes.Buffer
			cmd.SetOut(&script)
			cmd.SetArgs([]string{"completion", tt.shell})
			if err := cmd.Execute(); err != nil || !strings.HasPrefix(script.String(), tt.begins) {
				t.Fatalf("%v: %.80q", err, script.String())
			}
			if _, err := exec.LookPath(tt.shell); err != nil {
				return // that the shell takes it is told where it is installed
			}
			check := exec.Command(tt.shell, "-n")
			check.Stdin = &script
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s does not take it: %v: %s", tt.shell, err, out)
			}
		})
	}
}
