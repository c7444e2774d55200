// Package fakenvml builds a libnvidia-ml.so.1 that needs no hardware, for tests and benchmarks only: eight H100s, changed by a
// Scenario. Its source, testdata/fake.c, lists what a scenario can say.
package fakenvml

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

//go:embed testdata/fake.c
var source []byte

// errNoCompiler says why nothing can be built.
var errNoCompiler = errors.New("gcc is not installed: the fake libnvidia-ml can't be built")

// Build links the library into a folder of the test's own and gives its path. It lacks the symbols in without, as older or
// newer drivers do. Without gcc the test is skipped.
func Build(t testing.TB, without ...string) string {
	t.Helper()
	path, err := Link(t.TempDir(), without...)
	switch {
	case errors.Is(err, errNoCompiler):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return path
}

// Link puts libnvidia-ml.so.1 into dir, without some symbols, and gives its path. It needs gcc, and to run inside the module.
func Link(dir string, without ...string) (path string, err error) {
	object, err := compiled()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "fake.o"), object, 0o644); err != nil {
		return "", err
	}
	args := []string{"-shared", "-Wl,-soname,libnvidia-ml.so.1", "-o", "libnvidia-ml.so.1", "fake.o"}
	if len(without) > 0 {
		hidden := "{ local: " + strings.Join(without, "; ") + "; };\n"
		if err := os.WriteFile(filepath.Join(dir, "symbols"), []byte(hidden), 0o644); err != nil {
			return "", err
		}
		args = append(args, "-Wl,--version-script=symbols")
	}
	link := exec.Command("gcc", args...)
	link.Dir = dir
	if out, err := link.CombinedOutput(); err != nil {
		return "", fmt.Errorf("link the fake libnvidia-ml: %w\n%s", err, out)
	}
	return filepath.Join(dir, "libnvidia-ml.so.1"), nil
}

// compiled gives the object file, made once per process: only linking differs from test to test.
var compiled = sync.OnceValues(func() ([]byte, error) {
	if _, err := exec.LookPath("gcc"); err != nil {
		return nil, errNoCompiler
	}
	header, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml/pkg/nvml").Output()
	if err != nil {
		return nil, fmt.Errorf("find nvml.h in go-nvml: %w", err)
	}
	dir, err := os.MkdirTemp("", "fakenvml")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	gcc := exec.Command("gcc", "-c", "-fPIC", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations",
		"-I"+strings.TrimSpace(string(header)), "-o", filepath.Join(dir, "fake.o"), "-x", "c", "-")
	gcc.Stdin = bytes.NewReader(source)
	if out, err := gcc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile the fake libnvidia-ml: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "fake.o"))
})

// Script is the path of the file that tells a fake library what to do. Without one, or while it is missing, the library has
// eight healthy H100s.
type Script string

// Env is what the process that loads the library needs in its environment.
func (s Script) Env() string { return "FAKE_NVML_SCENARIO=" + string(s) }

// Write replaces the script by these lines "key=value", at once and as a whole, also while the library is in use.
func (s Script) Write(lines ...string) error {
	if err := os.WriteFile(string(s)+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(string(s)+".new", string(s))
}

// Scenario is the Script of a test.
type Scenario struct {
	Script
	t testing.TB
}

// NewScenario makes an empty one: eight healthy H100s.
func NewScenario(t testing.TB) Scenario {
	t.Helper()
	s := Scenario{Script(filepath.Join(t.TempDir(), "scenario")), t}
	s.Set()
	return s
}

// Set is Write; the test fails when it does.
func (s Scenario) Set(lines ...string) {
	s.t.Helper()
	if err := s.Write(lines...); err != nil {
		s.t.Fatal(err)
	}
}
