package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"muster/agent"
)

func TestTheTokenGoesToTheAgentOfTheDataFolder(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef0123"
	for _, tt := range []struct {
		name, listen, address, flag string
		base, problem               string
	}{
		{name: "running", address: "127.0.0.1:4711", base: "http://127.0.0.1:4711"},
		{name: "running on a free port", listen: "127.0.0.1:0", address: "127.0.0.1:4711", base: "http://127.0.0.1:4711"},
		{name: "named", address: "127.0.0.1:4711", flag: "127.0.0.1:9000", base: "http://127.0.0.1:9000"},
		{name: "configured, elsewhere", listen: "127.0.0.1:9000", base: "http://127.0.0.1:9000"},
		{name: "not running", problem: "no agent runs with the data folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config := agent.Default()
			config.Data = t.TempDir()
			files := map[string]string{"token": token, "address": tt.address}
			for name, content := range files {
				if content == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(config.Data, name), []byte(content+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := &cobra.Command{}
			config.AddFlags(cmd.Flags())
			if tt.listen != "" {
				config.Listen = tt.listen
			}
			if tt.flag != "" {
				if err := cmd.Flags().Set("listen", tt.flag); err != nil {
					t.Fatal(err)
				}
			}
			client, err := newClient(cmd, &config)
			switch {
			case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
				t.Errorf("got %v: want an error with %q", err, tt.problem)
			case tt.problem == "" && err != nil:
				t.Error(err)
			case tt.problem == "" && (client.base != tt.base || client.token != token):
				t.Errorf("got %s with %q: want %s", client.base, client.token, tt.base)
			}
		})
	}
}
