package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/shared/job"
)

// ledger is what an agent acknowledged to its clients.
type ledger struct {
	mu        sync.Mutex
	seeds     map[string]int64 // by job
	cancelled map[string]bool  // asked for, whether it was acknowledged or not
}

// load submits sets and cancels some of their images until the agent is gone.
func (l *ledger) load(t *testing.T, agent *harness.Agent, firstSeed int64) {
	for n := int64(0); ; n++ {
		seed := firstSeed + 10*n
		var set struct {
			Jobs []job.Job `json:"jobs"`
		}
		status, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", job.Spec{Prompt: "a fox", Count: 2, Steps: 2, Width: 64, Height: 64, Seed: &seed}, &set)
		if status == 0 {
			return // killed
		}
		if err != nil || status != http.StatusAccepted {
			t.Errorf("submission: %d, %v", status, err)
			return
		}
		l.mu.Lock()
		for _, j := range set.Jobs {
			l.seeds[j.ID] = seed + int64(j.Ordinal)
		}
		drop := set.Jobs[n%2].ID
		l.cancelled[drop] = n%3 == 0
		l.mu.Unlock()
		if n%3 == 0 {
			_, _ = agent.Do(t.Context(), "DELETE", "/api/v1/jobs/"+drop, nil, nil)
		}
	}
}

// kill -9 again and again, each at another moment of a busy agent: what it acknowledged ends once, with its seed.
func TestAgentKilledAgainAndAgainLosesNothing(t *testing.T) {
	data := t.TempDir()
	const flag, machine = "--simulate", "2x H100, 2x RTX 4090"
	l := &ledger{seeds: map[string]int64{}, cancelled: map[string]bool{}}
	for round := range 5 {
		agent := startOn(t, data, flag, machine)
		killed := make(chan struct{})
		time.AfterFunc(time.Duration(rand.IntN(250))*time.Millisecond, func() {
			agent.Kill()
			close(killed)
		})
		var clients sync.WaitGroup
		for client := range 3 {
			clients.Go(func() { l.load(t, agent, int64(3*round+client)*1_000_000) })
		}
		clients.Wait()
		<-killed
	}
	agent := startOn(t, data, flag, machine)
	eventually(t, "everything has ended", func() bool {
		var queued, running jobList
		get(t, agent, "/api/v1/jobs?state=queued", &queued)
		get(t, agent, "/api/v1/jobs?state=running", &running)
		return len(queued.Jobs)+len(running.Jobs) == 0
	})
	images := map[string]string{}
	for id, seed := range l.seeds {
		var j job.Job
		get(t, agent, "/api/v1/jobs/"+id, &j)
		ended := j.State == job.Succeeded || j.State == job.Cancelled && l.cancelled[id]
		if !ended || j.Seed != seed || j.Failures != 0 || (j.State == job.Succeeded) != (j.ImageID != "") {
			t.Errorf("job %s is %s, image %q, seed %d (was %d), %d failures: %s", id, j.State, j.ImageID, j.Seed, seed, j.Failures, j.Error)
		}
		if other, twice := images[j.ImageID]; twice && j.ImageID != "" {
			t.Errorf("jobs %s and %s have one image", id, other)
		}
		images[j.ImageID] = id
	}
	t.Logf("%d jobs were acknowledged", len(l.seeds))
}

// generators counts the processes of a program.
func generators(program string) int {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	n := 0
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && path == program {
			n++
		}
	}
	return n
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
		eventually(t, fmt.Sprintf("no sd-server is left after %s", end.name), func() bool { return generators(program) == 0 })
		agent = startOn(t, data, flags...)
	}
	for _, j := range finished(t, agent, 2) {
		if j.State != job.Succeeded || j.Failures != 0 {
			t.Errorf("job %s is %s after %d failures: %s", j.ID, j.State, j.Failures, j.Error)
		}
	}
}
