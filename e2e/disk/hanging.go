package disk

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Hanging is a folder seen through FUSE that answers nothing until it is let go, as one on a network does whose server is away. Only other
// programs may look into it meanwhile.
type Hanging struct {
	Dir string // where it is mounted

	goes   chan struct{}
	let    atomic.Bool
	waits  atomic.Int64
	server *fuse.Server
}

// NewHanging shows the folder backing in dir.
func NewHanging(backing, dir string) (*Hanging, error) {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: FUSE needs root and /dev/fuse", ErrNotHere)
	}
	h := &Hanging{Dir: dir, goes: make(chan struct{})}
	root, err := fs.NewLoopbackRoot(backing)
	if err != nil {
		return nil, err
	}
	h.server, err = fs.Mount(dir, &stuck{root.(*fs.LoopbackNode), h}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "hanging"}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHere, err)
	}
	return h, nil
}

// Waits is how many calls hang.
func (h *Hanging) Waits() int64 { return h.waits.Load() }

// LetGo lets everything be answered from now on.
func (h *Hanging) LetGo() {
	if h.let.CompareAndSwap(false, true) {
		close(h.goes)
	}
}

// Close lets go and unmounts it.
func (h *Hanging) Close() error {
	h.LetGo()
	return h.server.Unmount()
}

// stuck is a folder below which nothing is found in time.
type stuck struct {
	*fs.LoopbackNode
	h *Hanging
}

// Lookup finds what is in the folder.
func (s *stuck) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	s.h.waits.Add(1)
	<-s.h.goes
	s.h.waits.Add(-1)
	return s.LoopbackNode.Lookup(ctx, name, out)
}
