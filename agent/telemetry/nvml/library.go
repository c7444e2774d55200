//go:build cgo

package nvml

import (
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// The files library*.go are the only ones that may call NVML. go-nvml binds lazily: calling a function that the installed
// library lacks ends the process ("symbol lookup error", no panic). So every method that calls one begins with
//
//	if !l.has("nvmlDeviceGetName") { return …, functionNotFound }
//
// naming every C symbol that go-nvml may choose for it. A test parses these files and go-nvml and compares.
// Results are our own status, because formatting go-nvml's calls into the library too.

// library is one loaded libnvidia-ml. Methods are safe for several goroutines, and hold no lock while NVML works.
type library struct {
	api  nvml.Interface
	own  *dl.DynamicLibrary // keeps the library mapped whatever go-nvml closes: calls that hang may still be inside
	left chan struct{}      // capacity 1: a visit has ended

	mu      sync.Mutex
	symbols map[string]bool     // present; replaced by each init
	visits  map[visit]time.Time // series of calls under way, with when they began
	last    visit
	open    bool      // initialised
	closed  time.Time // since when nobody is let in, because the connection is made anew or ended; zero when it is not
	epoch   int       // counts inits: handles and event sets of an older one are void

	set        nvml.EventSet     // nil without connection, or where there are no events
	registered map[handle]string // devices whose events arrive in set, with their Device.ID
}

// visit is a series of calls; 0 is none.
type visit uint64

// handle names a device to NVML, until the next init.
type handle struct{ device nvml.Device }

// libraryPaths are tried in this order: the dynamic linker's, WSL's, containers', NixOS's.
var libraryPaths = []string{"libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
	"/run/opengl-driver/lib/libnvidia-ml.so.1"}

// load opens the library, without initialising it; nil when there is none. path "" tries libraryPaths.
func load(path string) *library {
	paths := libraryPaths
	if path != "" {
		paths = []string{path}
	}
	for _, path := range paths {
		own := dl.New(path, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		if own.Open() == nil {
			return &library{api: nvml.New(nvml.WithLibraryPath(path)), own: own, left: make(chan struct{}, 1), visits: map[visit]time.Time{}}
		}
	}
	return nil
}

// has says whether the library exports one of the symbols.
func (l *library) has(names ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		present, known := l.symbols[name]
		if !known {
			present = l.own.Lookup(name) == nil
			if l.symbols == nil {
				l.symbols = map[string]bool{}
			}
			l.symbols[name] = present
		}
		if present {
			return true
		}
	}
	return false
}

// enter begins a series of calls; 0 while there is no connection, or it is being made anew. leave ends it.
func (l *library) enter() visit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open || !l.closed.IsZero() {
		return 0
	}
	l.last++
	l.visits[l.last] = time.Now()
	return l.last
}

func (l *library) leave(v visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.visits, v) // 0 is never there
	select {
	case l.left <- struct{}{}:
	default:
	}
}

// current gives the epoch; it doesn't change between enter and leave.
func (l *library) current() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// connected says whether init has succeeded and nothing has ended the connection since.
func (l *library) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// busy says for how long the connection has been in the making or ending; 0 when it is not.
func (l *library) busy(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.IsZero() {
		return 0
	}
	return max(1, now.Sub(l.closed))
}

// longest gives how long the oldest visit has lasted.
func (l *library) longest(now time.Time) (d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, began := range l.visits {
		d = max(d, now.Sub(began))
	}
	return d
}

// shut lets nobody in any more and waits for the visits to end: closing the library under a call that hangs could hang the GPU
// too. False when it took longer than patience; then everything is as before. reopen must follow.
func (l *library) shut(patience time.Duration) bool {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed.IsZero() {
		return false
	}
	l.closed = time.Now()
	for len(l.visits) > 0 {
		l.mu.Unlock()
		select {
		case <-l.left:
			l.mu.Lock()
		case <-timeout.C:
			l.mu.Lock()
			l.closed = time.Time{}
			return false
		}
	}
	return true
}

// reopen ends shut.
func (l *library) reopen(open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.closed = open, time.Time{}
}

// init connects to the driver, anew when there is a connection. It gives inUse, and has done nothing, when calls stay inside the
// library for longer than patience.
func (l *library) init(patience time.Duration) status {
	if !l.shut(patience) {
		return inUse
	}
	l.mu.Lock()
	again := l.open
	l.symbols = nil
	l.epoch++
	l.mu.Unlock()
	if again {
		l.closeEvents()
		l.shutdown()
	}
	s := l.initialise()
	if s == success {
		l.openEvents() // without it there are no faults
	}
	l.reopen(s == success)
	return s
}

// end closes the connection, or gives inUse as init does.
func (l *library) end(patience time.Duration) status {
	if !l.shut(patience) {
		return inUse
	}
	s := success
	if l.connected() {
		l.closeEvents()
		s = l.shutdown()
	}
	l.reopen(false)
	return s
}

func (l *library) initialise() status {
	if !l.has("nvmlInit", "nvmlInit_v2") {
		return functionNotFound
	}
	return status(l.api.Init())
}

func (l *library) shutdown() status {
	if !l.has("nvmlShutdown") {
		return functionNotFound
	}
	return status(l.api.Shutdown())
}
