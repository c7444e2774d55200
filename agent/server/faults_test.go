package server

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"muster/agent/queue"
)

// refusesWork tries every way to change something, and fails unless each answers with that status and word, and everything that
// only reads goes on.
func (a *testAgent) refusesWork(status int, word, jobID string) {
	a.t.Helper()
	for _, ask := range [][3]string{
		{"POST", "/api/v1/jobs", `{"prompt":"x"}`}, {"POST", samplesPath + "?appearance=a+tall+man+with+a+beard", ""},
		{"DELETE", "/api/v1/jobs/" + jobID, ""}, {"POST", "/api/v1/devices/1/pause", ""}, {"PUT", "/api/v1/pool", `{"max_watts":500}`},
	} {
		r := a.ask(ask[0], ask[1], ask[2])
		if r.status != status || !strings.Contains(r.message(), word) || strings.Contains(r.message(), "internal") {
			a.t.Errorf("%s %s: %d %s, want %d and %q", ask[0], ask[1], r.status, r.body, status, word)
		}
	}
	for _, path := range []string{"jobs", "jobs/" + jobID, "jobs/export", "pool", "devices/1/control", "snapshot"} {
		if r := a.ask("GET", "/api/v1/"+path, ""); r.status != 200 {
			a.t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if d := a.queue.Steering().Devices; len(d) > 0 {
		a.t.Errorf("kept in memory, though not on the disk: %+v", d)
	}
}

func TestNearlyFullDisk(t *testing.T) {
	t.Parallel()
	var free atomic.Uint64
	free.Store(1 << 40)
	a := newAgentWith(t, queue.Options{Free: func(string) (uint64, uint64, error) { return free.Load(), 1 << 41, nil }})
	a.submitJobs(1)
	free.Store(1 << 20)
	r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x"}`)
	if r.status != http.StatusInsufficientStorage || !strings.Contains(r.message(), "disk_full") || !strings.Contains(r.message(), "delete something") {
		t.Errorf("%d %s", r.status, r.body)
	}
	// What needs next to no room still goes: a person must be able to clear up.
	jobID := a.queue.Active()[0].ID
	for _, ask := range [][2]string{{"DELETE", "jobs/" + jobID}, {"POST", "devices/1/pause"}} {
		if r := a.ask(ask[0], "/api/v1/"+ask[1], ""); r.status != 200 {
			t.Errorf("%s: %d %s", ask[1], r.status, r.body)
		}
	}
}

func TestDiskThatIsFullToTheBrim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	a := newAgentIn(t, dir, queue.Options{})
	job := a.submitJobs(1)[0]
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, bytes.Repeat([]byte("x"), 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	for range 200 { // until the log's own room is used up
		if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x","count":16}`); r.status != http.StatusAccepted {
			break
		}
	}
	a.refusesWork(http.StatusInsufficientStorage, "the disk is nearly full", job.ID)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x"}`); r.status != http.StatusAccepted {
		t.Errorf("once there is room: %d %s", r.status, r.body)
	}
}

const deadDisk = "MUSTER_TEST_DEAD_DISK"

// A disk that takes no write at all, for a reason other than room: a limit on this process's files does that, so the test is a
// child's.
func TestDiskThatCanNotBeWritten(t *testing.T) {
	t.Parallel()
	if os.Getenv(deadDisk) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskThatCanNotBeWritten$")
		cmd.Env = append(os.Environ(), deadDisk+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	a := newAgent(t)
	job := a.submitJobs(1)[0]
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = 1
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	a.refusesWork(http.StatusServiceUnavailable, "disk", job.ID)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x"}`); r.status != http.StatusAccepted {
		t.Errorf("once it can be: %d %s", r.status, r.body)
	}
}
