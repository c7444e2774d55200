// Package fakeamdsmi builds a libamd_smi.so that needs no hardware, for tests only: four MI25s, changed by a Scenario. Its
// source, testdata/fake.c, lists what a scenario can say.
package fakeamdsmi

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
// newer versions do. Without gcc the test is skipped.
func Build(t testing.TB, without ...string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed: the fake libamd_smi.so can't be built")
	}
	object, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fake.o"), string(object))
	args := []string{"-shared", "-Wl,-soname,libamd_smi.so.26", "-o", "libamd_smi.so.26", "fake.o"}
	if len(without) > 0 {
		write(t, filepath.Join(dir, "symbols"), "{ local: "+strings.Join(without, "; ")+"; };\n")
		args = append(args, "-Wl,--version-script=symbols")
	}
	link := exec.Command("gcc", args...)
	link.Dir = dir
	if out, err := link.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return filepath.Join(dir, "libamd_smi.so.26")
}

// compiled gives the object file, made once per process: only linking differs from test to test.
var compiled = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "fakeamdsmi")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	object := filepath.Join(dir, "fake.o")
	gcc := exec.Command("gcc", "-c", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-format-nonliteral", "-Wno-format-truncation", "-o", object, "-x", "c", "-")
	gcc.Stdin = bytes.NewReader(source)
	if out, err := gcc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gcc: %w\n%s", err, out)
	}
	return os.ReadFile(object)
})

// Scenario is the file that tells a fake library what to do.
type Scenario struct {
	t    testing.TB
	path string
}

// NewScenario makes an empty one: four healthy MI25s, and ROCm 7.2's library.
func NewScenario(t testing.TB) Scenario {
	t.Helper()
	s := Scenario{t, filepath.Join(t.TempDir(), "scenario")}
	s.Set()
	return s
}

// Env is what the process that loads the library needs in its environment.
func (s Scenario) Env() string { return "FAKE_AMDSMI_SCENARIO=" + s.path }

// Set replaces the scenario by these lines "key=value", at once and as a whole, also while the library is in use.
func (s Scenario) Set(lines ...string) {
	s.t.Helper()
	write(s.t, s.path+".new", strings.Join(lines, "\n")+"\n")
	if err := os.Rename(s.path+".new", s.path); err != nil {
		s.t.Fatal(err)
	}
}

// Calls lists the functions that were called since the last time, in their order, and forgets them.
func (s Scenario) Calls() []string {
	s.t.Helper()
	text, err := os.ReadFile(s.path + ".calls")
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	write(s.t, s.path+".calls", "")
	return strings.Fields(string(text))
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
