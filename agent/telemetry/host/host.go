// Package host reads the machine itself.
package host

import (
	"context"
	"errors"

	"muster/shared/gpu"
)

type Reader struct{}

func New(sysroot, pythonPath string) *Reader { return &Reader{} }

func (r *Reader) Static(ctx context.Context) (gpu.Host, error) { return gpu.Host{}, errors.ErrUnsupported }

func (r *Reader) Read(ctx context.Context) (gpu.HostReading, error) {
	return gpu.HostReading{}, errors.ErrUnsupported
}
