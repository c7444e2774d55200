package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// tree is a file system whose root may be a folder: absolute links in it lead to its own root, and ".." does not leave it.
// Paths in it are absolute.
type tree struct{ root string }

func newTree(sysroot string) tree {
	if sysroot == "" {
		return tree{"/"}
	}
	return tree{filepath.Clean(sysroot)}
}

// machine says that the tree is the machine itself.
func (t tree) machine() bool { return t.root == "/" }

var errLinks = errors.New("too many symbolic links")

// resolve gives the path without links, in the tree.
func (t tree) resolve(name string) (string, error) {
	rest := strings.Split(path.Clean("/"+name), "/")
	at, links := "/", 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := os.Lstat(t.outside(next))
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("resolve %s: %w", name, errLinks)
		}
		target, err := os.Readlink(t.outside(next))
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// outside gives the path on the machine of one without links.
func (t tree) outside(resolved string) string { return filepath.Join(t.root, resolved) }

// read gives at most limit bytes of a regular file.
func (t tree) read(name string, limit int) ([]byte, error) {
	f, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// readInto reads what fits, by one system call as kernel files want it.
func (t tree) readInto(name string, buffer []byte) ([]byte, error) {
	f, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.Read(buffer)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return buffer[:n], nil
}

// open opens a regular file and nothing else: opening a FIFO would wait for its writer.
func (t tree) open(name string) (*os.File, error) {
	resolved := name
	if !t.machine() {
		var err error
		if resolved, err = t.resolve(name); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(t.outside(resolved), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("read %s: not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// stat describes what the path leads to.
func (t tree) stat(name string) (fs.FileInfo, error) {
	resolved, err := t.resolve(name)
	if err != nil {
		return nil, err
	}
	return os.Lstat(t.outside(resolved))
}

// readlink gives where a link leads, which need not exist: those of /proc/PID/ns name what is no file.
func (t tree) readlink(name string) (string, error) {
	dir, err := t.resolve(path.Dir(name))
	if err != nil {
		return "", err
	}
	return os.Readlink(t.outside(path.Join(dir, path.Base(name))))
}

func (t tree) isDir(name string) bool {
	info, err := t.stat(name)
	return err == nil && info.IsDir()
}

// glob gives the paths that match a pattern of path.Match, by name with higher version numbers first: python3.11 before python3.9.
func (t tree) glob(pattern string) []string {
	paths := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		var next []string
		for _, p := range paths {
			if !strings.ContainsAny(part, "*?[") {
				next = append(next, path.Join(p, part))
				continue
			}
			resolved, err := t.resolve(p)
			if err != nil {
				continue
			}
			entries, err := os.ReadDir(t.outside(resolved))
			if err != nil {
				continue
			}
			var names []string
			for _, entry := range entries {
				if ok, _ := path.Match(part, entry.Name()); ok {
					names = append(names, entry.Name())
				}
			}
			slices.SortStableFunc(names, func(a, b string) int { return compareVersions(b, a) })
			for _, name := range names {
				next = append(next, path.Join(p, name))
			}
		}
		paths = next
	}
	return paths
}

// compareVersions orders strings by their runs of digits as numbers, and by their bytes else.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			da, db := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(da) != len(db) {
				return len(da) - len(db)
			}
			if c := strings.Compare(da, db); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// printable gives at most 128 bytes of s, without what does not print: it came from a file that anybody may have written.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 128)]
}
