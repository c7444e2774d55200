package process

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCauseDoesNotRepeatThePath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]string{filepath.Join(dir, "missing"): "no such file or directory", dir: "is a directory", "no-such-program-anywhere": "executable file not found in $PATH"} {
		_, err := exec.LookPath(path)
		if err == nil {
			t.Fatalf("%s is a program", path)
		}
		if got := Cause(err); got.Error() != want || strings.Contains(got.Error(), path) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
