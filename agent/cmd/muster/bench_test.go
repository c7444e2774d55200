package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/agent/scheduler/sim"
)

// bench runs muster bench schedule with that standard input, and gives what it prints.
func bench(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := command()
	var out bytes.Buffer
	cmd.SetArgs(append([]string{"bench", "schedule", "--data", t.TempDir()}, args...))
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

const benchTrace = `{"box": {"devices": [{"speed": 1.0, "vram_gib": 24}, {"speed": 0.5, "vram_gib": 24}]}, "models": {"m": {"file_gb": 6, "vram_gib": 10, "seconds": 10}}, "sets": [{"model": "m", "count": 4}]}`

func TestBenchReplaysATrace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "trace.json")
	if err := os.WriteFile(path, []byte(benchTrace), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--trace", "-", "--json"}, {"--trace", path, "--json"}} {
		out, err := bench(t, benchTrace, args...)
		if err != nil {
			t.Fatal(err)
		}
		var replay sim.Replay
		decoder := json.NewDecoder(strings.NewReader(out))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&replay); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if len(replay.Policies) != len(sim.Others)+1 || replay.Policies[0].Policy != "predicted" || replay.Policies[0].MeanS != 35 || replay.LowerBound.MeanS != 35 {
			t.Errorf("%v: %s", args, out)
		}
	}
	out, err := bench(t, benchTrace, "--trace", "-", "--policies", "predicted,round-robin")
	if err != nil || !strings.Contains(out, "round-robin  1     45.0 s") || !strings.Contains(out, "lower bound") || strings.Contains(out, "sed") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBenchComparesPolicies(t *testing.T) {
	t.Parallel()
	out, err := bench(t, "", "--box", "two", "--load", "0.3", "--disturbed=false", "--policies", "sed", "--seeds", "1", "--sets", "10", "--tune")
	if err != nil || !strings.Contains(out, "two at 0.30, undisturbed") || !strings.Contains(out, "sed") || !strings.Contains(out, "round-robin") || strings.Contains(out, "het4") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = bench(t, "", "--box", "two", "--disturbed", "--policies", "sed", "--seeds", "1", "--sets", "5", "--json")
	var figures []sim.Figures
	if err != nil || json.Unmarshal([]byte(out), &figures) != nil || len(figures) != 2*len(sim.Loads) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBenchMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--trace", "/does/not/exist"}, "/does/not/exist"},
		{[]string{"--trace", "-"}, "EOF"},
		{[]string{"--box", "mainframe"}, "het4, hom4, two, het8"},
		{[]string{"--load", "3"}, "0.01 to 2"},
		{[]string{"--telemetry", "late"}, "frozen or absent"},
		{[]string{"--policies", "best"}, "choose among predicted"},
		{[]string{"--seeds", "0"}, "--seeds must be 1 to 1000"},
		{[]string{"--sets", "100000"}, "--sets"},
	} {
		if _, err := bench(t, "", tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.want)
		}
	}
}
