package queue

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
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
