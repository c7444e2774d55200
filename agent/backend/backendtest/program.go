package backendtest

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// builder keeps one build of each fake for all tests of a process that run at the same time.
type builder struct {
	mu    sync.Mutex
	built map[string]*built // by the command's name
}

// built is a program in a folder of its own.
type built struct {
	dir   string
	users int
}

var programs = builder{built: map[string]*built{}}

// program puts the fake of that name ("fake-sd-server") into a folder of the test's own, called as the real one is, with its
// settings beside it.
func (b *builder) program(t testing.TB, command, name string, settings any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	shared := b.take(t, command)
	if err := os.Link(shared, path); err != nil {
		copyProgram(t, shared, path)
	}
	writeJSON(t, SettingsPath(path), settings)
	return path
}

// take builds the command, unless somebody uses a build of it now. The last test that uses it takes it away.
func (b *builder) take(t testing.TB, command string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.built[command]
	if p == nil {
		p = &built{dir: build(t, command)}
		b.built[command] = p
	}
	p.users++
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if p.users--; p.users == 0 {
			_ = os.RemoveAll(p.dir)
			delete(b.built, command)
		}
	})
	return filepath.Join(p.dir, command)
}

// build compiles the command into a new folder.
func build(t testing.TB, command string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", command+"-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, command), "muster/agent/backend/backendtest/cmd/"+command)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", command, err, out)
	}
	return dir
}

func copyProgram(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t testing.TB, path string, value any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
