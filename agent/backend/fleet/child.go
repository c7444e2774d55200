package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"muster/agent/process"
	"muster/shared/gpu"
)

// Child is a process that answers on a port of its own. A program's package embeds a pointer to one in what it knows of its child;
// whoever has the turn of its slot uses it.
type Child struct {
	Process *process.Child
	Port    int    // on loopback
	Close   func() // its idle connections
	Ready   bool   // it has answered
}

func (c *Child) base() *Child { return c }

// Why a child can't be used.
var (
	ErrPort  = errors.New("the port is taken by another program")
	ErrSlow  = errors.New("the child did not answer in time")
	ErrEnded = errors.New("the child ended")
)

// Await blocks until check gives nil. Its error is ErrSlow when that takes longer than limit from the child's start, ErrEnded when it
// ended, or one of check's that wraps ErrPort or one of final. When ctx ended, the child is left as it is for whoever comes next.
// longest is the pause between two checks that the shorter ones at the start lead up to.
func (c *Child) Await(ctx context.Context, limit, longest time.Duration, check func(context.Context) error, final ...error) error {
	pause := 20 * time.Millisecond
	for !c.Ready {
		err := check(ctx)
		switch {
		case err == nil:
			c.Ready = true
			return nil
		case errors.Is(err, ErrPort), slices.ContainsFunc(final, func(e error) bool { return errors.Is(err, e) }):
			return err
		case c.Process.Age() > limit:
			return ErrSlow
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.Process.Done():
			return ErrEnded
		case <-time.After(pause):
			pause = min(2*pause, longest)
		}
	}
	return nil
}

// Listens gives nil when it is the child that listens on its port, ErrPort when it is another program. What a program says of itself
// proves nothing.
func (c *Child) Listens() error {
	who, err := process.OwnerOf(c.Port, c.Process.PID())
	switch {
	case err != nil:
		return fmt.Errorf("can't tell who listens: %w", err)
	case who == process.Nobody:
		return errors.New("does not listen yet")
	case who == process.Foreign:
		return ErrPort
	}
	return nil
}

// Alive says whether a child that is ready still runs, alone on its port: else it is ErrEnded or ErrPort.
func (c *Child) Alive() error {
	if ended(c.Process) {
		return ErrEnded
	}
	if c.Listens() != nil {
		return ErrPort
	}
	return nil
}

// FreePort gives a port of loopback that nobody listens on now. Somebody may before a child does: see Child.Listens.
func FreePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port on loopback: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// PortTries is how many ports a start may find taken.
const PortTries = 5

var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// Folder is the private folder of a device's child within that of the fleet. It stays over restarts.
func Folder(dir string, dev gpu.Device) string {
	return filepath.Join(dir, "device-"+unsafeInName.ReplaceAllString(dev.ID, "_"))
}

// Environment is what the environment of every child begins with: it sees nothing of muster's own, and writes into its folder.
func Environment(dir string) []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8"}
}
