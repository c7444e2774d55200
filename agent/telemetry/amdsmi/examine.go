package amdsmi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"muster/agent/telemetry"
)

// costs is what a machine lacks that has no AMD SMI: little, since sysfs has the rest.
const costs = "names as sold, serial numbers and the index of HIP, where sysfs has none"

// Examine says what AMD SMI is there, how it is read and what hinders it. It makes no call into the library, and may be called on a
// Reader that was never asked.
func (r *Reader) Examine(context.Context) []telemetry.Finding {
	if err := r.ready(); err != nil {
		return []telemetry.Finding{{Level: telemetry.LevelFault, Subject: "AMD SMI", Text: err.Error(), Costs: costs}}
	}
	library, s := r.connection.current()
	var findings []telemetry.Finding
	if library != nil {
		findings = append(findings, examineLibrary(library, s)...)
	}
	if address, yes := r.gate.closed(); yes {
		return append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: "AMD SMI", Text: "not asked: card " + address + " may fall asleep, which AMD SMI would prevent",
			Costs: costs, Mend: "echo on | sudo tee /sys/bus/pci/devices/" + address + "/power/control"})
	}
	if s == nil {
		findings = append(findings, r.examineAbsence()...)
	}
	return append(findings, r.examineNodes()...)
}

func examineLibrary(library *symbols, s *session) []telemetry.Finding {
	findings := []telemetry.Finding{{Level: telemetry.LevelOK, Subject: "libamd_smi.so", Text: library.path}}
	if s != nil {
		findings[0].Text = fmt.Sprintf("%s, version %s, read as %s", library.path, s.version, s.layout.rocm)
		if s.newer {
			findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: "libamd_smi.so", Mend: "update muster",
				Text:  fmt.Sprintf("version %s is newer than %s, the last that muster knows: what does not look right is left out", s.version, newest),
				Costs: "nothing, unless a value is left out below"})
		}
	}
	for _, symbol := range library.table() {
		if !library.has(symbol.name) {
			findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: symbol.name, Text: "the library lacks this function",
				Costs: symbol.costs + ", where sysfs has none", Mend: "update ROCm"})
		}
	}
	if s == nil {
		return findings
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, function := range slices.Sorted(maps.Keys(s.distrust)) {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: function, Text: "left out: " + s.distrust[function],
			Costs: costOf(library, function) + ", where sysfs has none", Mend: "update muster"})
	}
	return findings
}

func costOf(library *symbols, function string) string {
	for _, symbol := range library.table() {
		if symbol.name == function {
			return symbol.costs
		}
	}
	return ""
}

// examineAbsence says why there is no session.
func (r *Reader) examineAbsence() []telemetry.Finding {
	r.mu.Lock()
	refused := r.refused
	r.mu.Unlock()
	if refused == nil && r.connection.named == "" { // nobody asked yet
		if len(scan(r.tree)) == 0 {
			return nil
		}
		if paths := find(r.tree, os.Getenv); len(paths) > 0 {
			return []telemetry.Finding{{Level: telemetry.LevelOK, Subject: "libamd_smi.so", Text: paths[0] + ", not loaded"}}
		}
		refused = errNoLibrary
	}
	var why trouble
	if !errors.As(refused, &why) {
		return nil
	}
	finding := telemetry.Finding{Level: telemetry.LevelFault, Subject: "AMD SMI", Text: why.what, Costs: costs, Mend: why.mend}
	if why == errNoLibrary {
		finding.Level = telemetry.LevelNote // most people don't have ROCm, and need no more than sysfs
	}
	return []telemetry.Finding{finding}
}

// examineNodes looks whether this user may open the cards' render nodes, without opening them: that would wake a card. Nodes with
// the same trouble are one finding: on a machine of eight cards it is always the same.
func (r *Reader) examineNodes() []telemetry.Finding {
	const readWrite = 6
	var refused, missing []string
	for _, c := range scan(r.tree) {
		for _, name := range r.tree.List(filepath.Join(c.dir, "drm")) {
			if !strings.HasPrefix(name, "renderD") {
				continue
			}
			node := filepath.Join("/dev/dri", name)
			switch err := syscall.Access(r.tree.Path(node), readWrite); {
			case errors.Is(err, syscall.ENOENT):
				missing = append(missing, node)
			case err != nil:
				refused = append(refused, node)
			}
		}
	}
	var findings []telemetry.Finding
	if len(refused) > 0 {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: strings.Join(refused, ", "),
			Text: "this user may not open these render nodes of AMD cards", Costs: nodeCosts, Mend: mendGroups})
	}
	if len(missing) > 0 {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: strings.Join(missing, ", "),
			Text: "these render nodes of AMD cards are not there", Costs: nodeCosts, Mend: "in a container: start it with --device /dev/dri; else see the kernel log for amdgpu"})
	}
	return findings
}

const nodeCosts = "AMD SMI can't tell the cards' names and memory"
