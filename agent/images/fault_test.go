package images

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failingDisk lets the n-th call fail, and with lasts every one after it, and keeps the names of those that failed and of those
// that worked.
type failingDisk struct {
	disk
	errno  syscall.Errno
	lasts  bool
	at     int // from 1; 0 lets every call work
	calls  int
	failed []string
	done   []string
}

func (d *failingDisk) do(what string, call func() error) error {
	d.calls++
	if d.at > 0 && (d.calls == d.at || d.lasts && d.calls > d.at) {
		d.failed = append(d.failed, what)
		return &fs.PathError{Op: what, Path: "x", Err: d.errno}
	}
	err := call()
	if err == nil {
		d.done = append(d.done, what)
	}
	return err
}

func (d *failingDisk) Lstat(name string) (info fs.FileInfo, err error) {
	err = d.do("lstat", func() error { info, err = d.disk.Lstat(name); return err })
	return info, err
}

func (d *failingDisk) Chtimes(name string, accessed, modified time.Time) error {
	return d.do("chtimes", func() error { return d.disk.Chtimes(name, accessed, modified) })
}

func (d *failingDisk) Mkdir(name string, mode fs.FileMode) error {
	return d.do("mkdir", func() error { return d.disk.Mkdir(name, mode) })
}

func (d *failingDisk) Rename(from, to string) error {
	return d.do("rename", func() error { return d.disk.Rename(from, to) })
}

func (d *failingDisk) Remove(name string) error {
	return d.do("remove", func() error { return d.disk.Remove(name) })
}

func (d *failingDisk) Sync(folder string) error {
	return d.do("sync "+folder, func() error { return d.disk.Sync(folder) })
}

func (d *failingDisk) Create(name string) (f file, err error) {
	err = d.do("create", func() error { f, err = d.disk.Create(name); return err })
	return &failingFile{f, d}, err
}

type failingFile struct {
	file
	disk *failingDisk
}

// Write fails after half of the content was written, as a disk does that becomes full.
func (f *failingFile) Write(content []byte) (n int, err error) {
	err = f.disk.do("write", func() error { n, err = f.file.Write(content); return err })
	if err != nil && n == 0 {
		n, _ = f.file.Write(content[:len(content)/2])
	}
	return n, err
}

func (f *failingFile) Sync() error { return f.disk.do("sync file", f.file.Sync) }

func (f *failingFile) Close() error {
	err := f.disk.do("close", func() error { return nil })
	return errors.Join(err, f.file.Close())
}

// after says whether follows was done once more after the last of what; true when there is none.
func (d *failingDisk) after(what, follows string) bool {
	last := func(name string) int { return len(d.done) - 1 - slices.Index(reversed(d.done), name) }
	return !slices.Contains(d.done, what) || slices.Contains(d.done, follows) && last(follows) > last(what)
}

func reversed(names []string) []string {
	names = slices.Clone(names)
	slices.Reverse(names)
	return names
}

// Each call of the disk fails in turn, in a new folder, in one that is there, and for an image that is there: a Put that says it
// kept the image has it on the disk, one that does not says why, and the next one works.
func TestEveryCallOfPutFails(t *testing.T) {
	t.Parallel()
	image, neighbour := picture(t, 20, 20, 1), picture(t, 20, 20, 2)
	for _, before := range []string{"a new folder", "a folder that is there", "an image that is there"} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
			for _, lasts := range []bool{false, true} {
				t.Run(fmt.Sprint(before, ", ", errno, ", lasts ", lasts), func(t *testing.T) {
					t.Parallel()
					for n := 1; ; n++ {
						dir := t.TempDir()
						s := store(t, dir)
						id, err := s.Put(t.Context(), image)
						check(t, err)
						switch before {
						case "a new folder":
							check(t, s.root.RemoveAll(id[:2]))
						case "a folder that is there":
							check(t, s.root.Remove(path(id, imageSuffix)))
						}
						d := &failingDisk{disk: rootDisk{s.root}, errno: errno, lasts: lasts, at: n}
						s = store(t, dir) // another process
						s.disk = d
						s.failsOnce(t, d, image, dir)
						_, err = s.Put(t.Context(), neighbour)
						check(t, err)
						if len(d.failed) == 0 {
							if n < 4 {
								t.Errorf("only %d calls", n)
							}
							break
						}
					}
				})
			}
		}
	}
}

func (s *Store) failsOnce(t *testing.T, d *failingDisk, image []byte, dir string) {
	t.Helper()
	id, err := s.Put(t.Context(), image)
	d.at = 0                                                                                            // the disk is well again
	if err == nil && slices.ContainsFunc(d.failed, func(what string) bool { return what != "lstat" }) { // what can't be seen is written
		t.Errorf("these failed, and the image counts as kept: %v", d.failed)
	}
	if err != nil {
		if len(d.failed) == 0 || !errors.Is(err, d.errno) || errors.Is(err, ErrDiskFull) != (d.errno == syscall.ENOSPC) {
			t.Errorf("these failed: %v: %v", d.failed, err)
		}
		if id, err = s.Put(t.Context(), image); err != nil {
			t.Fatalf("once the disk is well: %v", err)
		}
	}
	f, err := s.Open(id)
	check(t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, image) {
		t.Errorf("%d bytes of %d, %v", len(got), len(image), err)
	}
	for _, order := range [][2]string{{"mkdir", "sync ."}, {"create", "sync file"}, {"create", "rename"}, {"sync file", "rename"}, {"rename", "sync " + id[:2]}, {"chtimes", "sync " + id[:2]}} {
		if !d.after(order[0], order[1]) {
			t.Errorf("no %s after %s: %v", order[1], order[0], d.done)
		}
	}
	if !slices.Contains(d.done, "sync .") {
		t.Errorf("whether the folder is on the disk is not known: %v", d.done)
	}
	if _, err := s.Sweep(t.Context(), func(string) bool { return true }, 0); err != nil {
		t.Error(err)
	}
	for _, name := range names(t, dir) {
		if strings.HasPrefix(name, tmpPrefix) {
			t.Errorf("left behind: %s", name)
		}
	}
}
