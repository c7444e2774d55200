package fleet

import (
	"errors"
	"maps"
	"sync"

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
	return child != nil && !ended(child) // or its number may be somebody else's by now
}

// ended says whether a child has.
func ended(child *process.Child) bool {
	select {
	case <-child.Done():
		return true
	default:
		return false
	}
}

// publish changes the set of children. It needs mu.
func (f *Fleet) publish(change func(children)) {
	next := maps.Clone(*f.children.Load())
	change(next)
	f.children.Store(&next)
}

// stopAll ends children side by side. Its error wraps process.ErrStuck when one does not end.
func stopAll(last []*process.Child) error {
	stuck := make([]error, len(last))
	var stopping sync.WaitGroup
	for i, child := range last {
		stopping.Go(func() { stuck[i] = child.Stop() })
	}
	stopping.Wait()
	return errors.Join(stuck...)
}
