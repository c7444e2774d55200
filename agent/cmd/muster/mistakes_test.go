package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is mistyped ends with what to do about it. None of these reaches an agent: nothing listens at the address.
func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for name, content := range map[string]string{"token": "0123456789abcdef0123", "address": "127.0.0.1:1"} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ line, want string }{
		{"frobnicate", `unknown command "frobnicate"; see muster --help`},
		{"gpus now", `unknown command "now"; see muster gpus --help`},
		{"gpus --watsh", "unknown flag: --watsh; see muster gpus --help"},
		{"gpus --interval 5", "--interval"},
		{"jobs list", `unknown command "list"; see muster jobs --help`},
		{"jobs cancel", "give the ID of a job"},
		{"generate", "give one prompt, in quotes"},
		{"generate a fox", "give one prompt, in quotes"},
		{"generate fox -n 0", "count: is 0; allowed is 1 to 16"},
		{"generate fox --count 17", "count: is 17; allowed is 1 to 16"},
		{"generate fox --width 0", "width: is 0; allowed is 64 to 4096"},
		{"generate fox --height 0", "height: is 0; allowed is 64 to 4096"},
		{"generate fox --steps 0", "steps: is 0; allowed is 1 to 200"},
		{"generate fox --guidance -1", "guidance: is -1; allowed is 0 to 50"},
		{"generate fox --seed -1", "seed: is -1; allowed is 0 to"},
		{"generate fox", "is the agent running? start it with muster serve"},
		{"serve --listen 0.0.0.0:8000", "ssh -L"},
		{"serve --policy best", "choose predicted, least-loaded or round-robin"},
	} {
		t.Run(test.line, func(t *testing.T) {
			t.Parallel()
			cmd := command()
			cmd.SetArgs(append(strings.Fields(test.line), "--data", data))
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v: want %q", err, test.want)
			}
		})
	}
}
