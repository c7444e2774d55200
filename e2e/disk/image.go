// Package disk gives disks that can be taken away: Image is a file system in a file whose power can be cut, Faulty one whose every
// write can be refused. Both need root; for tests and measurements only.
package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotHere is wrapped by the errors of a machine on which disks can't be made: without root, loop devices or FUSE.
var ErrNotHere = errors.New("a disk can't be made here")

// Image is an ext4 file system in a file, mounted through a loop device.
type Image struct {
	Dir string // where it is mounted

	folder string // of the files
	cuts   int
}

// NewImage makes a file system of that many megabytes, and mounts it below folder. Nothing of it is written before its time: the
// journal is committed when a program asks for that, and else every five minutes.
func NewImage(folder string, megabytes int64) (*Image, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: only root can mount", ErrNotHere)
	}
	i := &Image{Dir: filepath.Join(folder, "mounted"), folder: folder}
	if err := os.Mkdir(i.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(i.file(), nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(i.file(), megabytes<<20); err != nil {
		return nil, err
	}
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", i.file()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHere, err)
	}
	if err := i.mount(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHere, err)
	}
	return i, nil
}

func (i *Image) file() string { return filepath.Join(i.folder, fmt.Sprintf("disk-%d", i.cuts)) }

func (i *Image) mount() error {
	return run("mount", "-t", "ext4", "-o", "loop,commit=300", i.file(), i.Dir)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Cut cuts the power: it copies the device as it is, with what the file system has handed to it and without what is only in memory.
// Whoever writes must be stopped; the file system itself is not asked to write anything. Restore puts the copy in place.
func (i *Image) Cut() error {
	next := filepath.Join(i.folder, fmt.Sprintf("disk-%d", i.cuts+1))
	for range 50 {
		before, err := i.writes()
		if err != nil {
			return err
		}
		// A copy during which the kernel wrote something by itself is of no moment at all.
		if err := run("cp", "--sparse=always", i.file(), next); err != nil {
			return err
		}
		if after, err := i.writes(); err != nil || after == before {
			return err
		}
	}
	return fmt.Errorf("the device of %s does not come to rest", i.Dir)
}

// writes counts what was written to the device, and what is on its way (Documentation/block/stat.rst: fields 5 and 9).
func (i *Image) writes() (string, error) {
	var s unix.Stat_t
	if err := unix.Stat(i.Dir, &s); err != nil {
		return "", err
	}
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(s.Dev), unix.Minor(s.Dev)))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 9 {
		return "", fmt.Errorf("counters of the device of %s: %q, %w", i.Dir, text, err)
	}
	return fields[4] + " " + fields[8], nil
}

// Restore mounts what Cut left in place of the disk, which is dropped: the file system repairs itself from its journal.
func (i *Image) Restore() error {
	if err := i.unmount(); err != nil {
		return err
	}
	old := i.file()
	i.cuts++
	return errors.Join(os.Remove(old), i.mount())
}

// Close unmounts the disk. The files are left.
func (i *Image) Close() error { return i.unmount() }

// unmount waits for programs that are just ending.
func (i *Image) unmount() error {
	var err error
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		if err = unix.Unmount(i.Dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", i.Dir, err)
	}
	return nil
}

// Fill takes whatever is free, until empty is called.
func (i *Image) Fill() (empty func() error, err error) {
	f, err := os.CreateTemp(i.Dir, "filler-")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	empty = func() error { return os.Remove(f.Name()) }
	end := int64(0)
	for piece := int64(16 << 20); piece >= 4<<10; {
		switch err := unix.Fallocate(int(f.Fd()), 0, end, piece); {
		case errors.Is(err, unix.ENOSPC):
			piece /= 4
		case err != nil:
			return nil, errors.Join(err, empty())
		default:
			end += piece
		}
	}
	return empty, nil
}
