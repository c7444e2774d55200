// Package kernel reads what the Linux kernel shows below a root folder: small files of sysfs and proc, the graphics devices on
// the PCI bus and their names. Every reader of kernel files uses it, so that a FIFO, a huge file, a link that leads out of the
// root or a device that goes away in between is met in one place.
//
// It is a leaf: it imports only the standard library, and every package below telemetry may import it.
package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// PageSize bounds one read of a text file of sysfs.
const PageSize = 4096

// Errors of files that are never opened or read.
var (
	ErrOutside    = errors.New("link leads out of the root")
	ErrNotRegular = errors.New("not a regular file")
)

// ReadFunc reads at most len(buf) bytes from the start of the regular file at a real path: by a single read(2), or page by page
// when the file fills one and the buffer is longer. ReadFile is the real one; tests put faults in its place.
type ReadFunc func(path string, buf []byte) (int, error)

// Tree reads files below one root folder. Paths given to it are of two kinds: "inside" ones ("sys/class/drm") go through
// Resolve, which follows links but never out of the root; what Resolve gives is a real path, opened without following a link.
// It may be used from several goroutines at once. The zero Tree is of no use.
type Tree struct {
	root string
	read ReadFunc
}

// Open gives the tree below a folder: "/" is this machine, another folder a capture of one.
func Open(sysroot string) (Tree, error) { return OpenWith(sysroot, ReadFile) }

// OpenWith is Open with another function in the place of ReadFile, for tests of faults.
func OpenWith(sysroot string, read ReadFunc) (Tree, error) {
	root, err := filepath.Abs(sysroot)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return Tree{}, fmt.Errorf("system root %s: %w", sysroot, err)
	}
	return Tree{root: root, read: read}, nil
}

// Machine says that the tree is this machine itself, and not a capture.
func (t Tree) Machine() bool { return t.root == "/" }

// Path joins an inside path to the root, without looking at it.
func (t Tree) Path(inside string) string { return filepath.Join(t.root, inside) }

// Read reads at most len(buf) bytes from the start of the regular file at a real path.
func (t Tree) Read(path string, buf []byte) (int, error) { return t.read(path, buf) }

// Resolve gives the real path of an inside path, or ErrOutside.
func (t Tree) Resolve(inside string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(t.root, inside))
	if err != nil {
		return "", err
	}
	return real, t.check(real)
}

// ResolveIn gives the real path of name in the real folder dir.
func (t Tree) ResolveIn(dir, name string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	return real, t.check(real)
}

func (t Tree) check(real string) error {
	if t.root == "/" || real == t.root || strings.HasPrefix(real, t.root+"/") {
		return nil
	}
	return fmt.Errorf("%s: %w", real, ErrOutside)
}

// Text gives the content of a small file up to the first NUL, without white space around it.
func (t Tree) Text(path string) (string, error) {
	buf := make([]byte, PageSize)
	n, err := t.read(path, buf)
	if err != nil {
		return "", err
	}
	return string(Trim(buf[:n])), nil
}

// Word is Text for callers to whom absent, unreadable and empty are the same: "".
func (t Tree) Word(dir, name string) string {
	s, err := t.Text(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return s
}

// Decimal reads a whole number; nil when it can't be read or isn't one.
func (t Tree) Decimal(dir, name string) *uint64 {
	v, err := strconv.ParseUint(t.Word(dir, name), 10, 64)
	if err != nil {
		return nil
	}
	return &v
}

// maxNames bounds a listing of a folder of sysfs: no real one comes near it.
const maxNames = 1 << 14

// List gives the names in a folder, unsorted; none when it can't be read.
func (t Tree) List(dir string) []string {
	names, _ := t.Names(dir, maxNames)
	return names
}

// Names gives at most limit names in a real folder, unsorted, and the error that kept it from listing more.
func (t Tree) Names(dir string, limit int) ([]string, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(limit)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// Big reads a data file of at most limit bytes, which may be longer than one read(2) gives.
func (t Tree) Big(inside string, limit int64) ([]byte, error) {
	path, err := t.Resolve(inside)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: %w", path, ErrNotRegular)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// ReadFile is the real ReadFunc. A raw read(2), because some hwmon files answer EAGAIN, for which os.ReadFile would poll
// forever; O_NONBLOCK, so that a FIFO in place of a file can't hang the open.
func ReadFile(path string, buf []byte) (int, error) {
	fd, err := retry(func() (int, error) {
		return syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	})
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return 0, &os.PathError{Op: "read", Path: path, Err: ErrNotRegular}
	}
	for n := 0; ; {
		more, err := retry(func() (int, error) { return syscall.Read(fd, buf[n:]) })
		if err != nil {
			return 0, &os.PathError{Op: "read", Path: path, Err: err}
		}
		n += more
		// A read of a binary attribute ends with the page, whatever the file and the buffer have left.
		if more <= 0 || n%PageSize != 0 || n == len(buf) {
			return n, nil
		}
	}
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}
