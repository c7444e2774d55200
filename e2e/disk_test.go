package e2e

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/e2e/disk"
	"muster/e2e/harness"
	"muster/shared/gpu"
	"muster/shared/job"
)

// busy is a set that keeps both devices of slowMachine at work for seconds.
var busy = job.Spec{Prompt: "a fox in the snow", Count: 2, Width: 256, Height: 256, Steps: 60}

const slowMachine = "2x MI25"

// during starts an agent on a folder, lets spoil take the disk away while it makes the images of busy, and checks what must hold
// on any disk that fails: nothing is accepted, what is refused says why, the agent lives, telemetry goes on, the images are not
// lost, and when mend has put the disk right it works again as it is, without a restart.
func during(t *testing.T, data string, status int, says string, spoil, mend func() error) {
	t.Helper()
	agent := startOn(t, data, "--simulate", slowMachine, "--interval", "200ms")
	var set struct {
		Jobs []job.Job `json:"jobs"`
	}
	if _, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", busy, &set); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both images are being made", func() bool {
		var running jobList
		get(t, agent, "/api/v1/jobs?state=running", &running)
		return len(running.Jobs) == 2
	})
	if err := spoil(); err != nil {
		t.Fatal(err)
	}
	refused(t, agent, status, says)
	begun := snapshot(t, agent)
	eventually(t, "telemetry goes on", func() bool { return snapshot(t, agent) > begun+5 })
	eventually(t, "the images can't be stored", func() bool { return strings.Contains(agent.Stderr(), "could not be") })
	for _, j := range set.Jobs {
		get(t, agent, "/api/v1/jobs/"+j.ID, &j)
		if j.State.Terminal() {
			t.Errorf("job %s is %s on a disk that keeps nothing: %s", j.ID, j.State, j.Error)
		}
	}
	refused(t, agent, status, says)
	if _, err := agent.Do(t.Context(), "GET", "/healthz", nil, nil); err != nil {
		t.Error(err)
	}
	if err := mend(); err != nil {
		t.Fatal(err)
	}
	var more struct {
		Jobs []job.Job `json:"jobs"`
	}
	eventually(t, "a set is accepted again", func() bool {
		status, _ := agent.Do(t.Context(), "POST", "/api/v1/jobs", job.Spec{Prompt: "a fox", Steps: 2, Width: 64, Height: 64}, &more)
		return status == http.StatusAccepted
	})
	for _, j := range finished(t, agent, 3) {
		if j.State != job.Succeeded || j.Failures != 0 || j.Attempt != 1 {
			t.Errorf("job %s is %s at attempt %d after %d failures: %s", j.ID, j.State, j.Attempt, j.Failures, j.Error)
		}
	}
}

// refused fails the test unless a submission is refused in words that a person can act on.
func refused(t *testing.T, agent *harness.Agent, status int, says string) {
	t.Helper()
	got, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", busy, nil)
	if got != status || err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("a submission to a disk that fails: %d, %v: want %d and %q", got, err, status, says)
	}
}

func snapshot(t *testing.T, agent *harness.Agent) uint64 {
	t.Helper()
	var s gpu.Snapshot
	get(t, agent, "/api/v1/snapshot", &s)
	return s.Seq
}

func TestFullDiskRefusesAndLosesNothing(t *testing.T) {
	t.Parallel()
	image := newDisk(t, 192)
	empty := func() error { return nil }
	during(t, filepath.Join(image.Dir, "data"), http.StatusInsufficientStorage, "delete something",
		func() (err error) { empty, err = image.Fill(); return err },
		func() error { return empty() })
}

// A disk that the kernel made read-only, one that gives I/O errors, one that says it is full.
func TestDiskThatRefusesWritesLosesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		errno  syscall.Errno
		status int
		says   string
	}{
		{"read-only", syscall.EROFS, http.StatusServiceUnavailable, "read-only"},
		{"broken", syscall.EIO, http.StatusServiceUnavailable, "disk"},
		{"full", syscall.ENOSPC, http.StatusInsufficientStorage, "delete something"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			faulty := newFaulty(t)
			during(t, filepath.Join(faulty.Dir, "data"), tt.status, tt.says,
				func() error { faulty.Refuse(tt.errno); return nil },
				func() error {
					faulty.Refuse(0)
					if faulty.Refused() == 0 {
						t.Error("nothing was written to the disk: the test shows nothing")
					}
					return nil
				})
		})
	}
}

func newFaulty(t *testing.T) *disk.Faulty {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "seen"), 0o700); err != nil {
		t.Fatal(err)
	}
	faulty, err := disk.NewFaulty(t.TempDir(), filepath.Join(dir, "seen"))
	if errors.Is(err, disk.ErrNotHere) {
		t.Skip("NOT RUN: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := faulty.Close(); err != nil {
			t.Error(err)
		}
	})
	return faulty
}

// A disk that answers no write at all: a submission is told so in time, and counts once when the disk comes back.
func TestDiskThatHangsHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	image := newDisk(t, 192)
	agent := startOn(t, filepath.Join(image.Dir, "data"), "--simulate", slowMachine, "--interval", "200ms")
	freeze := func(flag string) error { return exec.Command("fsfreeze", flag, image.Dir).Run() }
	if err := freeze("--freeze"); err != nil {
		t.Skip("NOT RUN: fsfreeze: ", err)
	}
	thaw := func() error { return freeze("--unfreeze") }
	defer func() { _ = thaw() }()
	spec := job.Spec{Prompt: "a fox", Steps: 2, Width: 64, Height: 64}
	began := time.Now()
	status, err := agent.Ask(t.Context(), harness.Request{Method: "POST", Path: "/api/v1/jobs", Key: "once", Body: spec}, nil)
	if took := time.Since(began); status != http.StatusServiceUnavailable || took > 20*time.Second {
		t.Errorf("a submission to a disk that hangs: %d after %s, %v", status, took, err)
	}
	begun := snapshot(t, agent)
	eventually(t, "telemetry goes on", func() bool { return snapshot(t, agent) > begun+5 })
	if _, err := agent.Do(t.Context(), "GET", "/healthz", nil, nil); err != nil {
		t.Error(err)
	}
	if err := thaw(); err != nil {
		t.Fatal(err)
	}
	status, err = agent.Ask(t.Context(), harness.Request{Method: "POST", Path: "/api/v1/jobs", Key: "once", Body: spec}, nil)
	if err != nil || status >= 300 {
		t.Errorf("after the disk came back: %d, %v", status, err)
	}
	if j := finished(t, agent, 1)[0]; j.State != job.Succeeded {
		t.Errorf("job %s is %s: %s", j.ID, j.State, j.Error)
	}
}
