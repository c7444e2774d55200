// Package fdinfo tells which processes have a GPU open, what they hold of its memory and how long its engines worked for them.
// Linux says so in /proc/PID/fdinfo for every open file of a DRM device; the format is described in
// Documentation/gpu/drm-usage-stats.rst of the kernel. Of other users' processes it says nothing without CAP_SYS_PTRACE.
//
// It is a leaf: it imports package kernel alone, and every package below telemetry may import it.
package fdinfo

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/agent/telemetry/kernel"
)

// Clients is what a device's clients were at one moment.
type Clients struct {
	Time time.Time
	// List has each client once, by process and id, though several files or processes may share it: it is counted for the
	// process with the lowest number.
	List []Client
	// Hidden counts the processes into which this user may not look, kernel threads left out.
	Hidden int
	// HidesOthers says that /proc does not even list other users' processes (its mount option hidepid).
	HidesOthers bool
	// Processes counts those that /proc lists; 0 when it lists none, as in a capture.
	Processes int
	// Cut says that there were more processes or files than are looked at.
	Cut bool
}

// Client is one opening of a device, by the process that holds it.
type Client struct {
	PID int
	// ID is the kernel's number of the client, unique on its device while it lives.
	ID     uint64
	Driver string // "amdgpu", "i915", "xe"
	// Address is where the device stands on the PCI bus; false in OnPCI when it isn't there.
	Address kernel.Address
	OnPCI   bool
	Regions []Region
	Engines []Engine
}

// Region is a kind of memory: "vram" and "gtt" of amdgpu, "system0" and "local0" of i915, "vram0" of xe.
type Region struct {
	Name string
	// ResidentBytes is what is there now (drm-resident-, else drm-memory-), TotalBytes what was allocated, wherever it is now.
	// nil means not reported.
	ResidentBytes, TotalBytes *uint64
}

// Engine is a kind of engine: "gfx", "compute" and "dec" of amdgpu, "render" and "video" of i915, "rcs" and "vcs" of xe.
type Engine struct {
	Name string
	// Capacity is how many engines of the kind there are, at least 1.
	Capacity uint64
	// BusyNanoseconds is how long they worked for this client in all. Newer drivers count Cycles instead, of TotalCycles that
	// passed. nil means not reported.
	BusyNanoseconds     *uint64
	Cycles, TotalCycles *uint64
	MaxMHz              float64 // 0 when not reported
}

// Region gives the region of that name.
func (c Client) Region(name string) (Region, bool) {
	i := slices.IndexFunc(c.Regions, func(r Region) bool { return r.Name == name })
	if i < 0 {
		return Region{}, false
	}
	return c.Regions[i], true
}

// Scanner finds the clients of devices. Its methods may be called from several goroutines at once: for one device at a time,
// a call that hangs in its driver keeps nobody else from theirs.
type Scanner struct {
	tree  kernel.Tree
	every time.Duration
	turn  chan struct{} // whose turn it is to walk; guards last
	last  *walk
}

// New gives a Scanner that looks for new processes and files at most once per every, and in between reads those it knows again.
func New(t kernel.Tree, every time.Duration) *Scanner {
	return &Scanner{tree: t, every: every, turn: make(chan struct{}, 1)}
}

// Nodes gives the names in /dev/dri of the device with that real folder in sysfs: "card1" and "renderD128".
func Nodes(t kernel.Tree, dir string) []string {
	drm, err := t.ResolveIn(dir, "drm")
	if err != nil {
		return nil
	}
	nodes := slices.DeleteFunc(t.List(drm), func(name string) bool {
		return strings.Contains(name, "-") || !strings.HasPrefix(name, "card") && !strings.HasPrefix(name, "renderD")
	})
	slices.Sort(nodes)
	return nodes
}

// Clients gives the clients of the device with these nodes. The error is the context's: a walk over /proc that was not done in
// time. It reads no file of another device, so that a driver that hangs costs its own device alone.
func (s *Scanner) Clients(ctx context.Context, nodes []string) (Clients, error) {
	w, err := s.look(ctx)
	if err != nil {
		return Clients{}, err
	}
	found := Clients{Processes: w.processes, Hidden: w.hidden, HidesOthers: w.hidesOthers, Cut: w.cut}
	buf := buffers.Get().(*[maxText]byte)
	defer buffers.Put(buf)
	seen := map[identity]bool{}
	for _, f := range w.of(nodes) {
		if err := ctx.Err(); err != nil {
			return Clients{}, err
		}
		n, err := s.tree.Read(f.path, buf[:])
		if err != nil {
			continue // the file was closed, or its process ended, since the walk
		}
		c, id, ok := parse(buf[:n])
		if !ok {
			continue
		}
		if id == (identity{}) {
			id.path = f.path
		}
		if !seen[id] {
			seen[id] = true
			c.PID = f.pid
			found.List = append(found.List, c)
		}
	}
	found.Time = time.Now()
	return found, nil
}

var buffers = sync.Pool{New: func() any { return new([maxText]byte) }}

// identity is what tells clients of one device apart: the kernel's number, else the file.
type identity struct {
	numbered bool
	id       uint64
	path     string
}
