//go:build !cgo

package nvml

import (
	"context"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// driver can do nothing without cgo, which go-nvml needs.
type driver struct{}

const withoutCgo = "this build of muster can't read NVIDIA GPUs: build it with CGO_ENABLED=1 and gcc"

func (*driver) inventory(ctx context.Context, r *Reader, bus []busCard) telemetry.Found {
	found, _ := unread(bus, libraryNotFound, nil)
	for i := range found.Devices {
		found.Devices[i].Error = withoutCgo
		found.Problems = []string{withoutCgo}
	}
	return found
}

func (*driver) read(ctx context.Context, r *Reader, id string) (gpu.Reading, error) {
	return gpu.Reading{}, telemetry.ErrNoDriver
}
