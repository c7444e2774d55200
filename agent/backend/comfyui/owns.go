package comfyui

import (
	"maps"

	"golang.org/x/sys/unix"

	"muster/agent/process"
)

// children are by their process number, which is that of their process group too. Nobody changes a set that was published.
type children map[int]*process.Child

// Owns says whether a process is one of the fleet's children, or was started by one and has stayed in its process group. It does
// not block. Numbers are those of this program's PID namespace.
func (f *Fleet) Owns(pid int) bool {
	if pid <= 0 {
		return false
	}
	group, err := unix.Getpgid(pid)
	if err != nil {
		return false
	}
	child := (*f.children.Load())[group]
	if child == nil {
		return false
	}
	select {
	case <-child.Done(): // its number may be somebody else's by now
		return false
	default:
		return true
	}
}

// publish changes the set of children. It needs mu.
func (f *Fleet) publish(change func(children)) {
	next := maps.Clone(*f.children.Load())
	change(next)
	f.children.Store(&next)
}
