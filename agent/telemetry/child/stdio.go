package child

import (
	"os"

	"golang.org/x/sys/unix"
)

// TakeStdio gives this process's stdin and stdout to the protocol alone: from now on a library that reads fd 0 finds nothing,
// and one that prints to fd 1 prints to stderr. Programs that a library starts (nvidia-modprobe) inherit neither.
func TakeStdio() (in, out *os.File, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	if in, err = move(unix.Stdin, int(null.Fd()), "stdin"); err != nil {
		return nil, nil, err
	}
	if out, err = move(unix.Stdout, unix.Stderr, "stdout"); err != nil {
		_ = in.Close()
		return nil, nil, err
	}
	return in, out, nil
}

// move gives what fd was under another number, and makes fd a copy of instead. Pipes are read and written without blocking, so
// that waiting for them holds no thread.
func move(fd, instead int, name string) (*os.File, error) {
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.Dup3(instead, fd, 0); err != nil {
		_ = unix.Close(moved)
		return nil, os.NewSyscallError("dup3", err)
	}
	var stat unix.Stat_t
	if unix.Fstat(moved, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFIFO {
		_ = unix.SetNonblock(moved, true)
	}
	return os.NewFile(uintptr(moved), name), nil
}
