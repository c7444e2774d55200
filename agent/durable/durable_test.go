package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	for _, content := range []string{"a longer one", "short", ""} {
		if err := Replace(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q, %v; want %q", got, err, content)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	only(t, path)
}

// What fails leaves the old content, and nothing beside it.
func TestReplaceThatFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.Mkdir(path, 0o700); err != nil { // a file can't take the place of a folder
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new")); err == nil {
		t.Error("it replaced a folder")
	}
	only(t, path)
	if err := Replace(filepath.Join(path, "none", "x"), nil); err == nil {
		t.Error("it wrote into a folder that is not there")
	}
}

func only(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}
