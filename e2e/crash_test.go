package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/e2e/ordeal"
	"muster/shared/job"
)

// suffer ends so many agents.
func suffer(t *testing.T, trial *ordeal.Trial, deaths int) {
	t.Helper()
	for range deaths {
		if err := trial.Death(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// verdict ends a trial: every promise was kept, and there were promises to break.
func verdict(t *testing.T, trial *ordeal.Trial) {
	t.Helper()
	if err := trial.Finish(t.Context(), 20); err != nil {
		t.Error(err)
	}
	for _, broken := range trial.Ledger.Broken() {
		t.Error(broken)
	}
	totals := trial.Ledger.Totals()
	slices.Sort(trial.Restarts)
	t.Logf("%s; restarts take %s", totals, trial.Restarts[len(trial.Restarts)/2])
	if totals.Midway == 0 || totals.Jobs < totals.Deaths || totals.Succeeded == 0 || totals.Images < totals.Succeeded || totals.Remade == 0 || totals.Decisions == 0 {
		t.Errorf("the load was none: %s", totals)
	}
}

// kill -9 again and again, at random moments and at chosen ones: what was acknowledged is kept, and done once.
func TestAgentKilledAgainAndAgainLosesNothing(t *testing.T) {
	trial := ordeal.NewTrial(harness.Options{Data: t.TempDir(), Flags: []string{"--simulate", "2x H100, 2x RTX 4090"}}, rand.Uint64())
	trial.Steer = []string{"0", "3"}
	suffer(t, trial, 12)
	verdict(t, trial)
}

// The same with generators that are processes of their own: none of them outlives its agent.
func TestAgentWithGeneratorsKilledAgainAndAgainLosesNothing(t *testing.T) {
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{StepMilliseconds: 5})
	trial := ordeal.NewTrial(harness.Options{Data: t.TempDir(), Flags: []string{
		"--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models}}, rand.Uint64())
	trial.Program, trial.Steer = program, []string{"0", "5"}
	suffer(t, trial, 8)
	verdict(t, trial)
}

// The same on a disk on which a write lasts longer than anything else: who answers before it is made, is caught.
func TestAgentOnASlowDiskKilledAgainAndAgainLosesNothing(t *testing.T) {
	faulty := newFaulty(t)
	faulty.Slow(2 * time.Millisecond)
	trial := ordeal.NewTrial(harness.Options{Data: filepath.Join(faulty.Dir, "data"), Flags: []string{"--simulate", "2x H100, 2x RTX 4090"}}, rand.Uint64())
	trial.Steer, trial.Load = []string{"0", "3"}, time.Second
	suffer(t, trial, 5)
	faulty.Slow(0)
	verdict(t, trial)
}

// However the agent ends during an image, soon none of its sd-servers is left, and the image is made after the next start
// without having failed.
func TestNoGeneratorOutlivesTheAgent(t *testing.T) {
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{StepMilliseconds: 100})
	data := t.TempDir()
	flags := []string{"--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models}
	agent := startOn(t, data, flags...)
	eventually(t, "a device can generate", func() bool {
		status, _ := agent.Do(t.Context(), "POST", "/api/v1/jobs", job.Spec{Prompt: "a fox", Count: 2, Steps: 20}, nil)
		return status == http.StatusAccepted
	})
	for _, end := range []struct {
		name string
		how  func(*harness.Agent) error
	}{
		{"SIGTERM", (*harness.Agent).Stop},
		{"kill -9", func(a *harness.Agent) error { a.Kill(); return nil }},
	} {
		eventually(t, "an image is being made", func() bool {
			var running jobList
			get(t, agent, "/api/v1/jobs?state=running", &running)
			return len(running.Jobs) == 2 && running.Jobs[0].Progress.Step > 0
		})
		begun := time.Now()
		if err := end.how(agent); err != nil {
			t.Errorf("%s: %v", end.name, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: the agent took %s to end", end.name, took)
		}
		eventually(t, fmt.Sprintf("no sd-server is left after %s", end.name), func() bool { return len(ordeal.Processes(program)) == 0 })
		agent = startOn(t, data, flags...)
	}
	for _, j := range finished(t, agent, 2) {
		if j.State != job.Succeeded || j.Failures != 0 {
			t.Errorf("job %s is %s after %d failures: %s", j.ID, j.State, j.Failures, j.Error)
		}
	}
}
