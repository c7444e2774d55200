package queue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk gives a folder on a disk of its own; it needs the right to mount.
func smallDisk(t *testing.T, bytes string) string {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+bytes); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// SQLite calls it a disk I/O error: a person must be told that the disk is full.
func TestOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "2m")
	_, stop := running(t, dir, Options{})
	stop()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, bytes.Repeat([]byte("x"), 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "delete something") {
		t.Errorf("error %v: want one that says that the disk is full", err)
	}
	check(t, os.Remove(filler))
	running(t, dir, Options{})
}

// The disk becomes full to the last byte under a running queue, whatever its free space says: what was accepted stays, the rest is
// refused as it should be, and it goes on when there is room.
func TestDiskBecomesFullWhileRunning(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "6m")
	q, stop := running(t, dir, Options{})
	accepted := submit(t, q, 4)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, bytes.Repeat([]byte("x"), 8<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	refused := 0
	for n := range 200 { // the log has some room of its own
		asked := spec(4)
		asked.Prompt = strings.Repeat("x", 4000)
		jobs, _, err := q.Submit(t.Context(), fmt.Sprint(n), asked, asked)
		switch {
		case err == nil:
			accepted = append(accepted, jobs...)
		case errors.Is(err, ErrDiskFull) && strings.Contains(err.Error(), "delete something"):
			refused++
		default:
			t.Fatalf("submission %d: %v", n, err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	compareMirror(t, q)
	check(t, os.Remove(filler))
	accepted = append(accepted, submit(t, q, 4)...)
	stop()
	q, _ = running(t, dir, Options{})
	if active := q.Active(); !slices.Equal(ids(active), ids(accepted)) {
		t.Errorf("%d jobs after all, %d were accepted", len(active), len(accepted))
	}
	check(t, quickCheck(t.Context(), q.reader))
}

func TestOpenOnAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "6m")
	q, stop := running(t, dir, Options{})
	accepted := submit(t, q, 2)
	stop()
	check(t, unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if _, err := Open(t.Context(), dir, Options{}); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("error %v: want one that says what to do", err)
	}
	check(t, unix.Mount("none", dir, "", unix.MS_REMOUNT, ""))
	q, _ = running(t, dir, Options{})
	if !slices.Equal(ids(q.Active()), ids(accepted)) {
		t.Errorf("%d jobs", len(q.Active()))
	}
}
