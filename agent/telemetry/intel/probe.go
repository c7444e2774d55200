package intel

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"

	"muster/agent/telemetry/kernel"
)

var buffers = sync.Pool{New: func() any { return new([kernel.PageSize]byte) }}

// probe reads the files of one device once, and counts how they failed.
type probe struct {
	kernel.Tree
	buf *[kernel.PageSize]byte

	answered int // gave a value
	gone     int // ENODEV, ENXIO: the device was taken away
	denied   int // EACCES, EPERM
}

func newProbe(t kernel.Tree) *probe {
	return &probe{Tree: t, buf: buffers.Get().(*[kernel.PageSize]byte)}
}

func (p *probe) release() { buffers.Put(p.buf) }

// bytes gives what is in the file, in a buffer that the next call overwrites; none when there is no path or it can't be read.
func (p *probe) bytes(path string) []byte {
	if path == "" {
		return nil
	}
	n, err := p.Read(path, p.buf[:])
	switch {
	case err == nil:
		return p.buf[:n]
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		p.gone++
	case errors.Is(err, fs.ErrPermission):
		p.denied++
	}
	return nil
}

// number reads a value and scales it to the unit; it counts only between low and high. A longer or other text is no value.
func (p *probe) number(path string, unit, low, high float64) (float64, bool) {
	b := p.bytes(path)
	if b == nil {
		return 0, false
	}
	v, ok := kernel.Number(b)
	if v /= unit; !ok || v < low || v > high {
		return 0, false
	}
	p.answered++
	return v, true
}

// set points to to a copy of the value when it is there.
func set[T any](to **T, v T, ok bool) {
	if ok {
		*to = &v
	}
}

// text gives what is in the file, without white space around it; "" when there is no path or it can't be read.
func (p *probe) text(path string) string { return string(kernel.Trim(p.bytes(path))) }
