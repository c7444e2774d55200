package amdsmi

import (
	"fmt"
	"os"
	"sync"
	"time"

	"muster/agent/telemetry/kernel"
)

// connection is the library, opened at most once and initialised again and again. No lock is held during a call into it.
type connection struct {
	named string // the library that a person named; "" searches
	tree  kernel.Tree

	mu      sync.Mutex
	library *symbols  // nil until one was opened
	session *session  // nil while not initialised
	inside  int       // calls under way, initialising included
	ending  bool      // the session ends when nobody is inside
	since   time.Time // when ending became true
	ended   sync.Cond
}

// session is from one initialisation to the next: handles and what is known of the structs are its own.
type session struct {
	*symbols
	version version
	layout  *layout
	newer   bool // than every version that the layouts were written for

	mu       sync.Mutex
	distrust map[string]string // by function, why its struct is left out
}

var (
	errNoLibrary = trouble{"libamd_smi.so was not found", "install ROCm's package amd-smi-lib, or name the library with --amdsmi"}
	errBusy      = trouble{"a call into AMD SMI has not returned", "if this stays, see the kernel log for amdgpu, and reboot"}
)

// connect gives the session, a new one where there is none.
func (c *connection) connect() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil && !c.ending {
		return c.session, nil
	}
	if c.inside > 0 {
		return nil, errBusy
	}
	c.inside++
	library := c.library
	c.mu.Unlock()
	var err error
	if library == nil {
		library, err = c.open()
	}
	var s *session
	if err == nil {
		s, err = begin(library)
	}
	c.mu.Lock()
	c.library, c.session = library, s
	c.exit()
	return s, err
}

// open loads the first library that can be used.
func (c *connection) open() (*symbols, error) {
	paths := find(c.tree, os.Getenv)
	if c.named != "" {
		paths = []string{c.named}
	}
	var first error = errNoLibrary
	for _, path := range paths {
		library, err := open(path)
		if err == nil {
			return library, nil
		}
		if first == errNoLibrary {
			first = err
		}
	}
	return nil, first
}

// initGPUs is AMDSMI_INIT_AMD_GPUS.
const initGPUs = 2

// begin initialises the library and finds out how to read it.
func begin(library *symbols) (*session, error) {
	if s := library.init(initGPUs); s != success {
		return nil, whyNot(s)
	}
	buf := make([]byte, bufferBytes)
	s := library.getVersion(&buf[0])
	v, ok := parseVersion(buf)
	if s != success || !ok {
		library.shutDown()
		return nil, trouble{fmt.Sprintf("%s does not tell its version (%s)", library.path, s), "reinstall ROCm's package amd-smi-lib"}
	}
	l, newer := layoutFor(v)
	if l == nil {
		library.shutDown()
		return nil, trouble{fmt.Sprintf("%s is version %s, older than ROCm 5.7, which muster can't read", library.path, v), "update ROCm"}
	}
	return &session{symbols: library, version: v, layout: l, newer: newer, distrust: map[string]string{}}, nil
}

// enter says whether a call with handles of that session may be made. If so, leave must follow.
func (c *connection) enter(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == nil || c.session != s || c.ending {
		return false
	}
	c.inside++
	return true
}

func (c *connection) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exit()
}

// end shuts the library down as soon as nobody is inside. It does not wait.
func (c *connection) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil || c.ending {
		return
	}
	c.ending, c.since = true, time.Now()
	c.inside++
	c.exit()
}

// wedgedAfter is how long a session may take to end before only another process gets further.
const wedgedAfter = 10 * time.Second

// wedged says whether the session can't end because a call doesn't return.
func (c *connection) wedged() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending && time.Since(c.since) > wedgedAfter
}

// wait returns when no session is left that end was called for.
func (c *connection) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.session != nil && c.ending || c.inside > 0 {
		c.ended.Wait()
	}
}

// exit counts a call as returned; after the last of an ending session it shuts the library down. mu is held, but not during that.
func (c *connection) exit() {
	c.inside--
	if c.inside == 0 && c.ending {
		s := c.session
		c.inside++
		c.mu.Unlock()
		s.shutDown()
		c.mu.Lock()
		c.inside--
		c.session, c.ending = nil, false
	}
	if c.inside == 0 {
		c.ended.Broadcast()
	}
}

// current gives the library and session for people; nil where there is none.
func (c *connection) current() (*symbols, *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.library, c.session
}

// distrustful says why the struct of a function is left out; "" when it isn't.
func (s *session) distrustful(function string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.distrust[function]
}

func (s *session) leaveOut(function, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.distrust[function] = why
}
