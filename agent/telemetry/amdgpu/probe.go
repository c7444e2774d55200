package amdgpu

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// metricsSize bounds a gpu_metrics file: the tables of the largest cards are longer than a page.
const metricsSize = 4 * kernel.PageSize

var buffers = sync.Pool{New: func() any { return new([metricsSize]byte) }}

// probe reads the files of one card once, and counts how they failed.
type probe struct {
	kernel.Tree
	buf *[metricsSize]byte

	answered int // gave a value
	absent   int // ENOENT
	gone     int // ENODEV: the device was taken away
	refused  int // EPERM: the driver doesn't want to
	denied   int // EACCES: this user may not

	cause    gpu.Absence            // why the last file gave no value; "" when it gave one, or there is none
	absences map[string]gpu.Absence // by field; nil for none
}

func newProbe(t kernel.Tree) *probe {
	return &probe{Tree: t, buf: buffers.Get().(*[metricsSize]byte)}
}

func (p *probe) release() { buffers.Put(p.buf) }

func (p *probe) reset() { *p = probe{Tree: p.Tree, buf: p.buf} }

// bytes gives what is in a text file, in a buffer that the next call overwrites; none when there is no path or it can't be read.
func (p *probe) bytes(path string) []byte { return p.read(path, kernel.PageSize) }

// blob is bytes for a file that may be longer than a page.
func (p *probe) blob(path string) []byte { return p.read(path, metricsSize) }

func (p *probe) read(path string, size int) []byte {
	p.cause = ""
	if path == "" {
		return nil
	}
	n, err := p.Read(path, p.buf[:size])
	if err == nil {
		return p.buf[:n]
	}
	p.cause = gpu.AbsentFailed
	switch {
	case isAbsent(err):
		p.absent++
		p.cause = ""
	case errors.Is(err, syscall.ENODEV):
		p.gone++
	case errors.Is(err, syscall.EOPNOTSUPP):
		p.cause = ""
	case errors.Is(err, syscall.EACCES):
		p.denied++
		p.cause = gpu.AbsentNoPermission
	case errors.Is(err, fs.ErrPermission):
		p.refused++
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.ETIME):
		p.cause = gpu.AbsentTimedOut
	}
	return nil
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// number reads a value and scales it to the unit; it counts only between low and high.
func (p *probe) number(path string, unit, low, high float64) (float64, bool) {
	b := p.bytes(path)
	if b == nil {
		return 0, false
	}
	v, ok := kernel.Number(b)
	if v /= unit; !ok || v < low || v > high {
		p.cause = gpu.AbsentFailed
		return 0, false
	}
	p.answered++
	return v, true
}

// field is number for a field of a Reading or Details: it notes why the field has no value.
func (p *probe) field(name, path string, unit, low, high float64) (float64, bool) {
	v, ok := p.number(path, unit, low, high)
	if !ok {
		p.note(name)
	}
	return v, ok
}

// note keeps why the last file gave no value for the field of that name.
func (p *probe) note(field string) {
	if p.cause == "" {
		return
	}
	if p.absences == nil {
		p.absences = map[string]gpu.Absence{}
	}
	p.absences[field] = p.cause
}

// filled forgets why the field had no value: another source had one.
func (p *probe) filled(field string) { delete(p.absences, field) }
