package fdinfo

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/telemetry/kernel"
)

// Bounds of one walk. A machine beyond them is told of in Clients.Cut.
const (
	maxProcesses = 1 << 15
	maxFiles     = 1 << 13 // per process
	maxOpen      = 1 << 12 // of DRM devices in all
	maxText      = 1 << 14 // bytes of one fdinfo
)

// walk is where every process has a DRM device open. It is never changed once it is made.
type walk struct {
	at                time.Time
	nodes             map[string][]file // by name in /dev/dri
	open              int
	processes, hidden int
	hidesOthers, cut  bool
}

type file struct {
	pid  int
	path string // of its fdinfo
}

// of gives the files of these nodes by process.
func (w *walk) of(nodes []string) []file {
	var files []file
	for _, node := range nodes {
		files = append(files, w.nodes[node]...)
	}
	slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(a.pid, b.pid) })
	return files
}

// look gives the last walk, or a new one when it is too old.
func (s *Scanner) look(ctx context.Context) (*walk, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.last != nil && time.Since(s.last.at) < s.every {
		return s.last, nil
	}
	w, err := walkProcesses(ctx, s.tree)
	if err == nil {
		s.last = w
	}
	return w, err
}

func walkProcesses(ctx context.Context, t kernel.Tree) (*walk, error) {
	w := &walk{at: time.Now(), nodes: map[string][]file{}}
	proc, err := t.Resolve("proc")
	if err != nil {
		return w, nil
	}
	names, err := t.Names(proc, maxProcesses)
	w.cut = len(names) == maxProcesses
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	w.processes = len(pids)
	w.hidesOthers = err == nil && len(pids) > 0 && pids[0] != 1
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.process(t, proc, pid)
	}
	return w, nil
}

// process adds the DRM files of one process.
func (w *walk) process(t kernel.Tree, proc string, pid int) {
	dir, ok := inside(t, proc, strconv.Itoa(pid))
	if !ok {
		return
	}
	names, err := t.Names(filepath.Join(dir, "fd"), maxFiles)
	if errors.Is(err, fs.ErrPermission) && !kernelThread(t, dir) {
		w.hidden++
	}
	w.cut = w.cut || len(names) == maxFiles
	info := ""
	for _, name := range names {
		// The link is read and never followed: what it leads to can hang.
		target, err := os.Readlink(filepath.Join(dir, "fd", name))
		if err != nil {
			continue
		}
		node, ok := strings.CutPrefix(target, "/dev/dri/")
		if !ok {
			continue
		}
		if info == "" {
			if info, ok = inside(t, dir, "fdinfo"); !ok {
				return
			}
		}
		if w.open == maxOpen {
			w.cut = true
			return
		}
		w.open++
		node, _, _ = strings.Cut(node, " ") // "renderD128 (deleted)"
		w.nodes[node] = append(w.nodes[node], file{pid, filepath.Join(info, name)})
	}
}

// inside gives the path of a folder in a real one. The links of a captured /proc could lead out of its root; of the kernel's own
// these folders are never links.
func inside(t kernel.Tree, dir, name string) (string, bool) {
	if t.Machine() {
		return filepath.Join(dir, name), true
	}
	path, err := t.ResolveIn(dir, name)
	return path, err == nil
}

// kernelThread says whether the process is one of the kernel's own (PF_KTHREAD of include/linux/sched.h).
func kernelThread(t kernel.Tree, dir string) bool {
	const flag = 0x00200000
	stat := t.Word(dir, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name before it may hold anything
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&flag != 0
}
