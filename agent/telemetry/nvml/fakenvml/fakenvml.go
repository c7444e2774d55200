// Package fakenvml builds a libnvidia-ml.so.1 that needs no hardware, for tests only: eight H100s, changed by a Scenario. Its
// source, testdata/fake.c, lists what a scenario can say.
package fakenvml

import (
	"bytes"
	_ "embed"
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

// Build links the library into a folder of the test's own and gives its path. It lacks the symbols in without, as older or
// newer drivers do. Without gcc the test is skipped.
func Build(t testing.TB, without ...string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed: the fake libnvidia-ml can't be built")
	}
	object, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fake.o"), string(object))
	args := []string{"-shared", "-Wl,-soname,libnvidia-ml.so.1", "-o", "libnvidia-ml.so.1", "fake.o"}
	if len(without) > 0 {
		write(t, filepath.Join(dir, "symbols"), "{ local: "+strings.Join(without, "; ")+"; };\n")
		args = append(args, "-Wl,--version-script=symbols")
	}
	link := exec.Command("gcc", args...)
	link.Dir = dir
	if out, err := link.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return filepath.Join(dir, "libnvidia-ml.so.1")
}

// compiled gives the object file, made once per process: only linking differs from test to test.
var compiled = sync.OnceValues(func() ([]byte, error) {
	header, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml/pkg/nvml").Output()
	if err != nil {
		return nil, fmt.Errorf("find nvml.h in go-nvml: %w", err)
	}
	dir, err := os.MkdirTemp("", "fakenvml")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	gcc := exec.Command("gcc", "-c", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations",
		"-I"+strings.TrimSpace(string(header)), "-o", filepath.Join(dir, "fake.o"), "-x", "c", "-")
	gcc.Stdin = bytes.NewReader(source)
	if out, err := gcc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gcc: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "fake.o"))
})

// Scenario is the file that tells a fake library what to do.
type Scenario struct {
	t    testing.TB
	path string
}

// NewScenario makes an empty one: eight healthy H100s.
func NewScenario(t testing.TB) Scenario {
	t.Helper()
	s := Scenario{t, filepath.Join(t.TempDir(), "scenario")}
	s.Set()
	return s
}

// Env is what the process that loads the library needs in its environment.
func (s Scenario) Env() string { return "FAKE_NVML_SCENARIO=" + s.path }

// Set replaces the scenario by these lines "key=value", at once and as a whole, also while the library is in use.
func (s Scenario) Set(lines ...string) {
	s.t.Helper()
	write(s.t, s.path+".new", strings.Join(lines, "\n")+"\n")
	if err := os.Rename(s.path+".new", s.path); err != nil {
		s.t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
