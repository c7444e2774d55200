package telemetry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/host"
	"muster/agent/telemetry/sim"
	"muster/shared/gpu"
)

// BenchmarkTick runs the sampler at its highest rate over simulated devices, for as many ticks as asked; what it costs, apart
// from waiting, is the process's CPU time and the allocations.
func BenchmarkTick(b *testing.B) {
	for _, devices := range []int{8, 64} {
		b.Run(fmt.Sprint(devices), func(b *testing.B) {
			machine, err := sim.Parse(fmt.Sprintf("%dx H100", devices))
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			ticks := 0
			sampler := telemetry.NewSampler(telemetry.Config{
				Readers: []telemetry.Reader{machine}, Host: host.New(host.Config{}), Interval: 100 * time.Millisecond,
				Publish: func(_ *gpu.Inventory, s *gpu.Snapshot) {
					if len(s.GPUs) != devices {
						b.Errorf("%d devices", len(s.GPUs))
					}
					if ticks++; ticks > b.N {
						cancel()
					}
				},
			})
			b.ReportAllocs()
			before := cpuTime(b)
			if err := sampler.Run(ctx); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/tick")
		})
	}
}
