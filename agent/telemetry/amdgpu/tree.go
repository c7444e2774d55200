package amdgpu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// attributeSize bounds one read of a kernel file: sysfs gives at most a page.
const attributeSize = 4096

var (
	errOutside    = errors.New("link leads out of the root")
	errNotRegular = errors.New("not a regular file")
)

// tree reads files below one root folder. Paths given to it are of two kinds: "inside" ones ("sys/class/drm") go through
// resolve, which follows links but never out of the root; what resolve gives is a real path, opened without following a link.
type tree struct {
	root string // real path of the root
	// read reads at most len(buf) bytes of the regular file at a real path by a single read(2). Tests put faults in its place.
	read func(path string, buf []byte) (int, error)
}

func openTree(sysroot string, read func(string, []byte) (int, error)) (tree, error) {
	root, err := filepath.Abs(sysroot)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return tree{}, fmt.Errorf("system root %s: %w", sysroot, err)
	}
	return tree{root: root, read: read}, nil
}

// resolve gives the real path of an inside path, or errOutside.
func (t tree) resolve(inside string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(t.root, inside))
	if err != nil {
		return "", err
	}
	return real, t.check(real)
}

// resolveIn gives the real path of name in the real folder dir.
func (t tree) resolveIn(dir, name string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	return real, t.check(real)
}

func (t tree) check(real string) error {
	if t.root == "/" || real == t.root || strings.HasPrefix(real, t.root+"/") {
		return nil
	}
	return fmt.Errorf("%s: %w", real, errOutside)
}

// text gives the content of a small file up to the first NUL, without white space around it.
func (t tree) text(path string) (string, error) {
	buf := make([]byte, attributeSize)
	n, err := t.read(path, buf)
	if err != nil {
		return "", err
	}
	return string(trim(buf[:n])), nil
}

// word is text for callers to whom absent, unreadable and empty are the same: "".
func (t tree) word(dir, name string) string {
	s, err := t.text(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return s
}

// decimal reads a whole number; nil when it can't be read or isn't one.
func (t tree) decimal(dir, name string) *uint64 {
	v, err := strconv.ParseUint(t.word(dir, name), 10, 64)
	if err != nil {
		return nil
	}
	return &v
}

// list gives the names in a folder, unsorted; none when it can't be read.
func (t tree) list(dir string) []string {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(1 << 14) // a bound, no real folder of sysfs comes near it
	return names
}

// big reads a data file of at most limit bytes, which may be longer than one read(2) gives.
func (t tree) big(inside string, limit int64) ([]byte, error) {
	path, err := t.resolve(inside)
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
		return nil, fmt.Errorf("read %s: %w", path, errNotRegular)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// readFile is the real tree.read. One raw read(2), because some hwmon files answer EAGAIN, for which os.ReadFile would poll
// forever; O_NONBLOCK, so that a FIFO in place of a file can't hang the open.
func readFile(path string, buf []byte) (int, error) {
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
		return 0, &os.PathError{Op: "read", Path: path, Err: errNotRegular}
	}
	n, err := retry(func() (int, error) { return syscall.Read(fd, buf) })
	if err != nil {
		return 0, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return n, nil
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// trim cuts at the first NUL (some captures and drivers pad with them) and takes off white space.
func trim(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return bytes.TrimSpace(b)
}
