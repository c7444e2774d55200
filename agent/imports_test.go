package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// goPackage is what go list tells of a package of this module.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

func list(t *testing.T, env []string, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps,Standard"}, args...)...)
	cmd.Env = append(cmd.Environ(), env...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, complaint.String())
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// beside says which packages below agent may import which others that stand beside them, and why.
var beside = map[string][]string{
	"scheduler": {"queue", "images", "backend"},        // it records, keeps and makes
	"server":    {"queue", "feed", "images", "models"}, // it takes commands and shows what there is
}

// leaves are the packages below a part of agent that those beside them may import. A leaf of telemetry imports other leaves alone,
// one of backend the package backend too.
var leaves = map[string]bool{
	"muster/agent/telemetry/kernel": true, // the files of sysfs and proc
	"muster/agent/telemetry/fdinfo": true, // what every process does with GPUs
	"muster/agent/backend/exchange": true, // one HTTP exchange with a generator
	"muster/agent/backend/attach":   true, // a server that somebody else runs
	"muster/agent/backend/fleet":    true, // a child of our own for each device
	"muster/agent/backend/calls":    true, // what calls of one generator have in common
	"muster/agent/backend/answer":   true, // images within answers
	"muster/agent/backend/prompt":   true, // what a person's words must not do
	"muster/agent/backend/mask":     true, // what ties a process to one device
}

// group gives the part of agent that a package belongs to: "telemetry" for muster/agent/telemetry/nvml.
func group(path string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, "muster/agent/")
	name, _, _ = strings.Cut(rest, "/")
	return name, ok
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, nil, "muster/...") {
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, "muster/") || allowed(p.ImportPath, imported) {
				continue
			}
			t.Errorf("%s imports %s: see the rules in agent/imports_test.go", p.ImportPath, imported)
		}
	}
}

func allowed(from, to string) bool {
	switch {
	case strings.HasPrefix(from, "muster/shared/"):
		return strings.HasPrefix(to, "muster/shared/")
	case strings.HasPrefix(to, "muster/shared/"):
		return true
	case strings.HasPrefix(from, "muster/webapp/"):
		return strings.HasPrefix(to, "muster/webapp/")
	case strings.HasPrefix(from, "muster/e2e"):
		return true
	case to == "muster/webapp/dist":
		return strings.HasPrefix(from, "muster/agent/cmd/")
	}
	fromGroup, _ := group(from)
	if fromGroup == "cmd" {
		return true
	}
	toGroup, ok := group(to)
	if !ok {
		return false // only cmd imports agent itself
	}
	switch {
	case from == "muster/agent":
		return toGroup != "cmd"
	case leaves[to]:
		return fromGroup == toGroup && from != "muster/agent/"+toGroup
	case leaves[from] && fromGroup == toGroup:
		return to == "muster/agent/backend"
	case fromGroup == toGroup:
		return !nested(to) || from == to || strings.HasPrefix(from, to) || !nested(from) // a reader may import telemetry, not its sibling
	case toGroup == "process" || toGroup == "imagefile" || toGroup == "fixture" || toGroup == "durable":
		return true
	}
	return slices.Contains(beside[fromGroup], toGroup) && !nested(to)
}

func nested(path string) bool { return strings.Count(path, "/") > 2 }

func TestSharedIsAPureLeaf(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, []string{"GOOS=js", "GOARCH=wasm"}, "-deps", "muster/shared/...") {
		if !p.Standard && !strings.HasPrefix(p.ImportPath, "muster/shared/") {
			t.Errorf("shared depends on %s: it may use the standard library alone", p.ImportPath)
		}
	}
}

// heavy lists what the app must not carry to every browser, with the reason.
var heavy = map[string]string{
	"modernc.org/sqlite":        "the store is the agent's",
	"github.com/NVIDIA/go-nvml": "drivers are the agent's",
	"github.com/spf13/cobra":    "the command line is the agent's",
}

func TestTheAppStaysLight(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, []string{"GOOS=js", "GOARCH=wasm"}, "-deps", "muster/webapp/cmd/site") {
		if reason, ok := heavy[p.ImportPath]; ok {
			t.Errorf("the app depends on %s: %s", p.ImportPath, reason)
		}
	}
}
