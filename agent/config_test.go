package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// fill parses a command line as cmd/muster does.
func fill(t *testing.T, arguments []string, environment map[string]string, file string) (Config, error) {
	t.Helper()
	config := Default()
	flags := pflag.NewFlagSet("muster", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "muster.toml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := config.Fill(flags, path, func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
	return config, err
}

func TestFlagsComeBeforeEnvironmentBeforeFile(t *testing.T) {
	t.Parallel()
	const file = "listen = '127.0.0.1:1'\ndata = '/file'\ninterval = '3s'\nallow-host = ['a:1', 'b:2']\nsd-threads = 4\n"
	config, err := fill(t, []string{"--listen", "127.0.0.1:3"},
		map[string]string{"MUSTER_LISTEN": "127.0.0.1:2", "MUSTER_DATA": "/environment", "MUSTER_TOKEN": "secret", "MUSTER_HUB_TOKEN": "hub secret"}, file)
	if err != nil {
		t.Fatal(err)
	}
	if config.Listen != "127.0.0.1:3" || config.Data != "/environment" || config.Interval != 3*time.Second || config.SDThreads != 4 || config.Token != "secret" || config.HubToken != "hub secret" {
		t.Errorf("got %+v", config)
	}
	if strings.Join(config.AllowHosts, " ") != "a:1 b:2" {
		t.Errorf("hosts: %q", config.AllowHosts)
	}
}

func TestFillRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, file, want string
		environment      map[string]string
	}{
		{name: "unknown key", file: "lisen = 'x'", want: `unknown key "lisen"`},
		{name: "not TOML", file: "listen", want: "configuration"},
		{name: "a table", file: "[listen]\nx = 1", want: `key "listen"`},
		{name: "bad duration in file", file: "interval = 'soon'", want: `key "interval"`},
		{name: "bad duration in environment", environment: map[string]string{"MUSTER_INTERVAL": "soon"}, want: "MUSTER_INTERVAL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := fill(t, nil, tt.environment, tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v: want an error with %q", err, tt.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, flags, want string }{
		{"defaults", "", ""},
		{"IPv6 loopback", "--listen [::1]:8000", ""},
		{"name", "--listen localhost:0", ""},
		{"every interface", "--listen 0.0.0.0:8000", "ssh -L"},
		{"no host", "--listen :8000", "loopback"},
		{"another machine", "--listen 192.0.2.1:80", "loopback"},
		{"no port", "--listen 127.0.0.1", "host:port"},
		{"too fast", "--interval 1ms", "100ms to 1m"},
		{"policy", "--policy best", "predicted"},
		{"simulated root", "--simulate 1xMI25 --sysroot /x", "one of them"},
		{"host without port", "--allow-host muster.local", "name:port"},
		{"kept for a month, up to 50 GB", "--keep-for 720h --keep-bytes 50GB", ""},
		{"kept for seconds", "--keep-for 30s", "at least 1m0s"},
		{"kept for less than nothing", "--keep-for -1h", "at least 1m0s"},
		{"a size without its unit", "--keep-bytes 50", "with its unit"},
		{"a mirror of the hub", "--hub https://mirror.example/hf", ""},
		{"a hub over http", "--hub http://mirror.example", "https only"},
		{"a hub without a host", "--hub mirror.example", "https://HOST"},
		{"a hub with a query", "--hub https://mirror.example?x=1", "without a query"},
		{"no clients", "--max-clients 0", "at least 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config, err := fill(t, strings.Fields(tt.flags), nil, "")
			if err != nil {
				t.Fatal(err)
			}
			err = config.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v: want %q", err, tt.want)
			}
		})
	}
}

func TestTokenIsMadeOnceAndPrivate(t *testing.T) {
	t.Parallel()
	config := Config{Data: t.TempDir()}
	if _, err := Token(config, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without an agent: %v", err)
	}
	first, err := Token(config, true)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(config.Data, "token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if second, err := Token(config, false); err != nil || second != first || len(first) < 43 {
		t.Errorf("got %q, %v after %q", second, err, first)
	}
	if set, err := Token(Config{Data: config.Data, Token: "0123456789abcdef"}, false); err != nil || set != "0123456789abcdef" {
		t.Errorf("MUSTER_TOKEN: %q, %v", set, err)
	}
	if _, err := Token(Config{Token: "short"}, true); err == nil {
		t.Error("a short MUSTER_TOKEN is taken")
	}
	if err := os.WriteFile(filepath.Join(config.Data, "token"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Token(config, true); err == nil {
		t.Error("an empty token file is taken for a token")
	}
}
