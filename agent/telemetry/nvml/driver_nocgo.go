//go:build !cgo

package nvml

import (
	"context"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// driver can do nothing without cgo, which go-nvml needs.
type driver struct{}

const withoutCgo = "this build of muster can't read NVIDIA GPUs: build it with CGO_ENABLED=1 and gcc"

func (*driver) inventory(ctx context.Context, r *Reader, bus []busCard, _ *care) telemetry.Found {
	found, _ := unread(bus, libraryNotFound, nil)
	for i := range found.Devices {
		found.Devices[i].Error = withoutCgo
		found.Problems = []string{withoutCgo}
	}
	return found
}

func (*driver) read(context.Context, *Reader, string) (gpu.Reading, error) {
	return gpu.Reading{}, telemetry.ErrNoDriver
}

func (*driver) details(context.Context, *Reader, string) (gpu.Details, error) {
	return gpu.Details{}, telemetry.ErrNoDriver
}

func (*driver) throughput(context.Context, *Reader, string) (gpu.PCIeThroughput, error) {
	return gpu.PCIeThroughput{}, telemetry.ErrNoDriver
}

func (*driver) recall([]gpu.Device) {}

func (*driver) wedged(*Reader, time.Time) bool { return false }

func (*driver) close() {}

// Examine says that this build can't read NVIDIA GPUs, where there are any.
func (r *Reader) Examine(context.Context) []telemetry.Finding {
	if len(served(r.scanBus(new(kernel.Names)))) == 0 {
		return nil
	}
	return []telemetry.Finding{{Level: telemetry.LevelFault, Subject: "NVIDIA", Text: withoutCgo, Costs: "every value of NVIDIA GPUs",
		Mend: "CGO_ENABLED=1 make build"}}
}
