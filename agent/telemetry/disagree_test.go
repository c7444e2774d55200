package telemetry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"muster/shared/gpu"
)

func TestDisagreements(t *testing.T) {
	t.Parallel()
	const gib = uint64(1 << 30)
	edge := func(c float64) []gpu.Temperature { return []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: c}} }
	for _, tt := range []struct {
		name string
		a, b gpu.Reading
		want []gpu.Disagreement
	}{
		{"alike", gpu.Reading{PowerWatts: ptr(100.0)}, gpu.Reading{PowerWatts: ptr(119.0)}, nil},
		{"apart", gpu.Reading{PowerWatts: ptr(100.0)}, gpu.Reading{PowerWatts: ptr(130.0)}, []gpu.Disagreement{{Field: "power_watts", Values: []gpu.Sourced{{Source: "fake: hwmon", Value: 100}, {Source: "fake", Value: 130}}}}},
		{"exactly a fifth", gpu.Reading{PowerWatts: ptr(100.0)}, gpu.Reading{PowerWatts: ptr(80.0)}, nil},
		{"small values", gpu.Reading{PowerWatts: ptr(8.0), MemoryUsedBytes: ptr(gib / 100)}, gpu.Reading{PowerWatts: ptr(18.0), MemoryUsedBytes: ptr(gib / 3)}, nil},
		{"memory", gpu.Reading{MemoryUsedBytes: ptr(gib), MemoryTotalBytes: ptr(8 * gib)}, gpu.Reading{MemoryUsedBytes: ptr(3 * gib), MemoryTotalBytes: ptr(16 * gib)}, []gpu.Disagreement{
			{Field: "memory_total_bytes", Values: []gpu.Sourced{{Source: "fake", Value: float64(8 * gib)}, {Source: "fake", Value: float64(16 * gib)}}},
			{Field: "memory_used_bytes", Values: []gpu.Sourced{{Source: "fake", Value: float64(gib)}, {Source: "fake", Value: float64(3 * gib)}}},
		}},
		{"temperatures of one sensor", gpu.Reading{Temperatures: edge(40)}, gpu.Reading{Temperatures: append(edge(60), gpu.Temperature{Sensor: gpu.SensorJunction, Celsius: 90})}, []gpu.Disagreement{
			{Field: "temperatures", Values: []gpu.Sourced{{Source: "fake (edge)", Value: 40}, {Source: "fake (edge)", Value: 60}}},
		}},
		{"a zero beside a load", gpu.Reading{UtilizationPercent: ptr(0.0), CoreClockMHz: ptr(500.0)}, gpu.Reading{UtilizationPercent: ptr(99.0), CoreClockMHz: ptr(2500.0)}, []gpu.Disagreement{
			{Field: "utilization_percent", Values: []gpu.Sourced{{Source: "fake", Value: 0}, {Source: "fake", Value: 99}}},
			{Field: "core_clock_mhz", Values: []gpu.Sourced{{Source: "fake", Value: 500}, {Source: "fake", Value: 2500}}},
		}},
		{"suspect anyway", gpu.Reading{UtilizationPercent: ptr(100.0), Suspect: []string{"utilization_percent"}}, gpu.Reading{UtilizationPercent: ptr(0.0)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				first, second := newDetailed("a"), newFake("a")
				listed := device("a", 1)
				listed.Sources = map[string]string{"power_watts": "hwmon"}
				first.listBy(func(context.Context) (Found, error) { return Found{Devices: []gpu.Device{listed}}, nil })
				own := gpu.Disagreement{Field: "own"}
				first.tell("a", func(context.Context) (gpu.Details, error) {
					return gpu.Details{Disagreements: []gpu.Disagreement{own}}, nil
				})
				first.answerBy("a", func(context.Context) (gpu.Reading, error) { return tt.a, nil })
				second.answerBy("a", func(context.Context) (gpu.Reading, error) { return tt.b, nil })
				s, stop := run(t, Config{Readers: []Reader{first, second}})
				after(time.Second)
				if diff := cmp.Diff(append(tt.want, own), s.Report().Devices[0].Disagreements); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				// What is old does not contradict what is new.
				second.failWith("a", ErrSuspended)
				after(10 * time.Second)
				if got := s.Report().Devices[0].Disagreements; len(got) != 1 {
					t.Errorf("with a reader that has nothing: %+v", got)
				}
				stop()
			})
		})
	}
}

// A hung driver's last value is not held against what another measures now.
func TestOldValuesDoNotDisagree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newDetailed("a"), newFake("a")
		s, stop := run(t, Config{Readers: []Reader{first, second}})
		after(500 * time.Millisecond)
		release := second.hang("a")
		after(time.Second)
		first.answerBy("a", func(context.Context) (gpu.Reading, error) { return gpu.Reading{PowerWatts: ptr(900.0)}, nil })
		after(20 * time.Second)
		if got := s.Report().Devices[0].Disagreements; len(got) != 0 {
			t.Errorf("%+v", got)
		}
		release()
		after(10 * time.Second)
		if got := s.Report().Devices[0].Disagreements; len(got) != 1 || got[0].Field != "power_watts" {
			t.Errorf("once both answer: %+v", got)
		}
		stop()
	})
}
