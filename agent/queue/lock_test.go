package queue

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Between fork and exec a child holds a copy of every open file.
func TestFolderIsFreeWhileAChildIsBeingStarted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	child, err := unix.FcntlInt(first.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	if _, err := lockFolder(dir); err == nil {
		t.Error("the folder was locked twice")
	}
	unlockFolder(first)
	again, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlockFolder(again)
}
