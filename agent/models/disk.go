package models

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// partsDir holds what is being downloaded, in the models folder, so that a finished file is only renamed. List leaves it out.
const partsDir = ".muster-parts"

func partName(id string) string { return partsDir + "/" + id + ".part" }

// errNoRoom is wrapped when a model does not fit the disk.
var errNoRoom = errors.New("not enough room")

// reserve is what is left free for everything else: 2 GB, or 2 % of the disk if that is more, but never more than half of it, so
// that small disks can be used.
func reserve(total uint64) uint64 { return min(max(2_000_000_000, total/50), total/2) }

func diskFree(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// room says whether so many more bytes fit the disk. Where the free space can't be told they do: writing will tell.
func (l *Library) room(bytes int64) error {
	free, total, err := l.config.Free(l.config.Dir)
	if err != nil {
		l.log.Warn("free space is not known", "error", err)
		return nil
	}
	kept := reserve(total)
	if free >= kept && free-kept >= uint64(max(0, bytes)) {
		return nil
	}
	if bytes <= 0 {
		return fmt.Errorf("%w: the disk of %s has %s left, and %s are kept free: remove something there and install it again",
			errNoRoom, l.config.Dir, sizeWords(free), sizeWords(kept))
	}
	return fmt.Errorf("%w: %s are needed and %s are kept free, but the disk of %s has %s left: remove something there and install it again",
		errNoRoom, sizeWords(bytes), sizeWords(kept), l.config.Dir, sizeWords(free))
}

// openParts opens the models folder, with the folder of the parts in it.
func (l *Library) openParts() (*os.Root, error) {
	root, err := os.OpenRoot(l.config.Dir)
	if err != nil {
		return nil, onDisk(err)
	}
	err = root.Mkdir(partsDir, 0o755)
	if err == nil {
		err = syncFolder(root, ".")
	} else if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if err != nil {
		_ = root.Close()
		return nil, onDisk(err)
	}
	return root, nil
}

func syncFolder(root *os.Root, name string) error {
	folder, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// giveName gives a whole part its name, and never takes one that is there: os.ErrExist.
func giveName(root *os.Root, part, fileName string) error {
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	defer folder.Close()
	fd := int(folder.Fd())
	err = unix.Renameat2(fd, part, fd, fileName, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) {
		err = linkName(root, part, fileName) // this file system can't promise it by a rename
	}
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), syncFolder(root, partsDir))
}

// linkName is giveName where a file system can't rename without replacing: a link never replaces either. After a crash in between
// both names are the same file, see adopt.
func linkName(root *os.Root, part, fileName string) error {
	err := root.Link(part, fileName)
	switch {
	case err == nil:
		_ = root.Remove(part) // one that stays goes at the next start
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		return claimName(root, part, fileName)
	}
	return err
}

// claimName is giveName where there are no links either (exFAT): the name is taken by an empty file first, which never replaces.
func claimName(root *os.Root, part, fileName string) error {
	empty, err := root.OpenFile(fileName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = errors.Join(empty.Close(), root.Rename(part, fileName))
	if err != nil {
		_ = root.Remove(fileName)
	}
	return err
}
