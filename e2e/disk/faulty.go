package disk

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Faulty is a folder seen through FUSE whose every write can be refused, or made to last. A disk that the kernel made read-only after an error
// behaves so: files stay open, and reading goes on. (mount -o remount,ro itself is refused while a file is open for writing.)
type Faulty struct {
	Dir string // where it is mounted

	refusal atomic.Int32 // syscall.Errno; 0 for none
	delay   atomic.Int64 // of each write, time.Duration
	refused atomic.Int64
	server  *fuse.Server
}

// NewFaulty shows the folder backing in dir.
func NewFaulty(backing, dir string) (*Faulty, error) {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: FUSE needs root and /dev/fuse", ErrNotHere)
	}
	f := &Faulty{Dir: dir}
	root, err := fs.NewLoopbackRoot(backing)
	if err != nil {
		return nil, err
	}
	server, err := fs.Mount(dir, &node{root.(*fs.LoopbackNode), f}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "faulty"}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHere, err)
	}
	f.server = server
	return f, nil
}

// Refuse lets every write fail with an error from now on; 0 lets them succeed.
func (f *Faulty) Refuse(errno syscall.Errno) { f.refusal.Store(int32(errno)) }

// Slow lets every write and sync take so long from now on. One whose program dies meanwhile is not made.
func (f *Faulty) Slow(d time.Duration) { f.delay.Store(int64(d)) }

// take lets the time of a write pass; false when its program is killed before.
func (f *Faulty) take(ctx context.Context) bool {
	d := time.Duration(f.delay.Load())
	if d == 0 {
		return true
	}
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
		return true
	case <-ctx.Done():
	}
	// Any signal interrupts, those too with which Go's runtime reminds a thread of the others: no real disk minds those.
	if caller, ok := fuse.FromContext(ctx); ok && killed(caller.Pid) {
		return false
	}
	<-over.C
	return true
}

// killed says whether SIGKILL waits for a thread (SigPnd and ShdPnd of proc(5)), or it is gone.
func killed(thread uint32) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		if name, value, _ := strings.Cut(line, ":"); name == "SigPnd" || name == "ShdPnd" {
			if signals, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil && signals&(1<<(syscall.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// Refused counts the writes that failed.
func (f *Faulty) Refused() int64 { return f.refused.Load() }

// Close unmounts it.
func (f *Faulty) Close() error { return f.server.Unmount() }

// fault is the error of a write now.
func (f *Faulty) fault() syscall.Errno {
	errno := syscall.Errno(f.refusal.Load())
	if errno != fs.OK {
		f.refused.Add(1)
	}
	return errno
}

// node is a file or folder: what changes something asks the disk first.
type node struct {
	*fs.LoopbackNode
	disk *Faulty
}

// WrapChild is fs.NodeWrapChilder: what is below is a node too.
func (n *node) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{child.(*fs.LoopbackNode), n.disk}
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC) != 0 {
		if errno := n.disk.fault(); errno != fs.OK {
			return nil, 0, errno
		}
	}
	f, kind, errno := n.LoopbackNode.Open(ctx, flags)
	return watched(f, errno), kind, errno
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.disk.fault(); errno != fs.OK {
		return nil, nil, 0, errno
	}
	child, f, kind, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return child, watched(f, errno), kind, errno
}

// file is an open one whose reads and writes all come through here: the kernel would do them itself, if it could.
type file struct{ *fs.LoopbackFile }

func (file) PassthroughFd() (int, bool) { return 0, false }

func watched(f fs.FileHandle, errno syscall.Errno) fs.FileHandle {
	if errno != fs.OK {
		return nil
	}
	return file{f.(*fs.LoopbackFile)}
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.disk.fault(); errno != fs.OK {
		return nil, errno
	}
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}

func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if errno := n.disk.fault(); errno != fs.OK {
		return errno
	}
	return n.LoopbackNode.Rename(ctx, name, parent, newName, flags)
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	if errno := n.disk.fault(); errno != fs.OK {
		return errno
	}
	return n.LoopbackNode.Unlink(ctx, name)
}

func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno := n.disk.fault(); errno != fs.OK {
		return errno
	}
	return n.LoopbackNode.Setattr(ctx, f, in, out)
}

// Write is fs.NodeWriter: it comes before the file's own.
func (n *node) Write(ctx context.Context, f fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	if errno := n.disk.fault(); errno != fs.OK {
		return 0, errno
	}
	if !n.disk.take(ctx) {
		return 0, syscall.EINTR
	}
	return f.(fs.FileWriter).Write(ctx, data, offset)
}

// Fsync is fs.NodeFsyncer.
func (n *node) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	if errno := n.disk.fault(); errno != fs.OK {
		return errno
	}
	if !n.disk.take(ctx) {
		return syscall.EINTR
	}
	if file, ok := f.(fs.FileFsyncer); ok {
		return file.Fsync(ctx, flags)
	}
	return fs.OK // of a folder
}
