package server

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"muster/agent/telemetry/sim"
	"muster/shared/gpu"
)

const grafana = "../../build/grafana/"

// simulatedMachine is what a scrape shows of a machine made up of those cards.
func simulatedMachine(t *testing.T, cards string) *testAgent {
	t.Helper()
	machine, err := sim.Parse(cards)
	if err != nil {
		t.Fatal(err)
	}
	found, err := machine.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inventory := &gpu.Inventory{Revision: 1, Devices: found.Devices}
	snapshot := &gpu.Snapshot{Seq: 1, Time: time.Now(), Revision: 1}
	report := &gpu.Report{Revision: 1}
	for i := range inventory.Devices {
		inventory.Devices[i].Index = gpu.Ref(i)
		defer machine.Busy(inventory.Devices[i].ID, 1<<30)()
		reading, err := machine.Read(t.Context(), inventory.Devices[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		details, err := machine.Details(t.Context(), inventory.Devices[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		snapshot.GPUs, report.Devices = append(snapshot.GPUs, reading), append(report.Devices, details)
	}
	return newAgentOf(t, inventory, snapshot, report)
}

var (
	metricName = regexp.MustCompile(`muster_[a-z_]+`)
	selector   = regexp.MustCompile(`(muster_[a-z_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
)

// names gives the metrics of a scrape, each with its labels.
func namesOf(t *testing.T, a *testAgent) map[string]string {
	found := map[string]string{}
	for sample := range samples(t, a) {
		name, labels, _ := strings.Cut(sample, "{")
		found[name] += labels
	}
	return found
}

// What simulated cards never have: faults, encoders in use, partitions and the like. A machine that has everything stands for it.
var neverSimulated = map[string]bool{
	"muster_gpu_recent_faults": true, "muster_gpu_partition_memory_used_bytes": true, "muster_gpu_encoder_utilization_ratio": true,
	"muster_gpu_decoder_utilization_ratio": true, "muster_gpu_media_utilization_ratio": true,
}

func TestDashboardAsksForWhatThereIs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(grafana + "muster.json")
	if err != nil {
		t.Fatal(err)
	}
	inventory, snapshot, report := everything()
	all := namesOf(t, newAgentOf(t, inventory, snapshot, report))
	simulated := namesOf(t, simulatedMachine(t, "2x MI25, 1x H100, 1x RTX 4090"))
	asked := map[string]bool{}
	for _, name := range metricName.FindAllString(string(text), -1) {
		asked[name] = true
		if _, ok := all[name]; !ok {
			t.Errorf("%s is no metric", name)
		}
		if _, ok := simulated[name]; !ok && !neverSimulated[name] {
			t.Errorf("%s has no value on a simulated machine", name)
		}
	}
	if len(asked) < 30 {
		t.Errorf("only %d metrics are asked for", len(asked))
	}
	expressions := strings.ReplaceAll(string(text), `\"`, `"`)
	for _, match := range selector.FindAllStringSubmatch(expressions, -1) {
		for _, label := range labelName.FindAllStringSubmatch(match[2], -1) {
			if label[1] != "instance" && !strings.Contains(all[match[1]], label[1]+`="`) {
				t.Errorf("%s has no label %s", match[1], label[1])
			}
		}
	}
}

// dashboard is what an import into Grafana reads.
type dashboard struct {
	ID            *int
	UID, Title    string
	SchemaVersion int
	Time          map[string]string
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []struct {
		ID          int
		Type, Title string
		GridPos     struct{ H, W, X, Y int }
		Datasource  struct{ Type, UID string }
		Targets     []struct {
			RefID, Expr string
			Datasource  struct{ Type, UID string }
		}
	}
}

func TestDashboardCanBeImported(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(grafana + "muster.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.ID != nil || d.UID == "" || len(d.UID) > 40 || d.Title == "" || d.SchemaVersion < 36 || d.SchemaVersion > 39 || d.Time["from"] == "" {
		t.Errorf("id %v, uid %q, title %q, schema %d, time %v", d.ID, d.UID, d.Title, d.SchemaVersion, d.Time)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name+":"+v.Type)
	}
	if got := strings.Join(variables, " "); got != "datasource:datasource instance:query device:query" {
		t.Errorf("variables are %s", got)
	}
	var rows []string
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] {
			t.Errorf("panel %q has the id %d of another", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] || target.Datasource.UID != "${datasource}" || target.Expr == "" || balance(target.Expr) != nil {
				t.Errorf("panel %q: %+v: %v", p.Title, target, balance(target.Expr))
			}
			refs[target.RefID] = true
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" || p.Title == "" {
			t.Errorf("panel %q asks for nothing, or not of the chosen data source", p.Title)
		}
	}
	want := "Overview, Utilisation and memory, Temperature, power and clocks, Throttling, Faults, Processes and work"
	if got := strings.Join(rows, ", "); got != want {
		t.Errorf("rows are %s", got)
	}
}

// balance finds brackets and quotes that do not match.
func balance(expr string) error {
	var open []rune
	quoted := false
	for _, c := range expr {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case strings.ContainsRune("({[", c):
			open = append(open, c)
		case strings.ContainsRune(")}]", c):
			if len(open) == 0 || strings.IndexRune("({[", open[len(open)-1]) != strings.IndexRune(")}]", c) {
				return fmt.Errorf("%q has no beginning", c)
			}
			open = open[:len(open)-1]
		}
	}
	if quoted || len(open) > 0 {
		return fmt.Errorf("%q is left open", string(open))
	}
	return nil
}

// The table for those who come from DCGM names only metrics that there are, and no exported one is missing from it and from the
// dashboard both.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(grafana + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	board, err := os.ReadFile(grafana + "muster.json")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range exported {
		name := nameOfMetric(f.desc)
		known[name] = true
		if !strings.Contains(string(readme)+string(board), name) && !strings.HasPrefix(name, "muster_host_") && !strings.HasPrefix(name, "muster_gpu_shared_memory_") && !strings.HasPrefix(name, "muster_gpu_partition_") {
			t.Errorf("%s stands neither in the README nor in the dashboard", name)
		}
	}
	for _, name := range metricName.FindAllString(string(readme), -1) {
		if !known[name] && !strings.HasSuffix(name, "_") {
			t.Errorf("the README names %s, which is no metric", name)
		}
	}
}
