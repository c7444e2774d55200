package queue

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// DefaultMinFree is 2 GB or 2 % of the disk, whichever is more, but never more than half of it, so that small disks can be used.
func DefaultMinFree(total uint64) uint64 {
	return min(max(2_000_000_000, total/50), total/2)
}

func diskFree(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// room gives ErrDiskFull when too little is free. Where the free space can't be told it gives nil: the commit will tell.
func (q *Queue) room() error {
	free, total, err := q.options.Free(q.dir)
	if err != nil {
		q.options.Log.Warn("free space is not known", "error", err)
		return nil
	}
	if least := q.options.MinFree(total); free < least {
		return fmt.Errorf("%w: %d MB are free where %s is, %d MB are kept: delete something there and send it again",
			ErrDiskFull, free/1e6, q.dir, least/1e6)
	}
	return nil
}
