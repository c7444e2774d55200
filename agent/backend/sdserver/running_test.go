package sdserver

import (
	"errors"

	"golang.org/x/sys/unix"
)

// running says whether a process exists; one that is dead but not reaped counts.
func running(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }
