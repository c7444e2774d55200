package main

import (
	"context"
	"fmt"
	"time"

	"muster/agent/feed"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// feedFigures counts encodings and times a publication, for one viewer and for many.
func feedFigures(context.Context) ([]figure, error) {
	const ticks = 100
	one, _ := publish(1, ticks)
	many, encodings := publish(5000, ticks)
	figures := []figure{
		{"encodings per tick, 5,000 viewers", fmt.Sprintf("%.2f", float64(encodings)/ticks), "1", ""},
		{"publishing a tick to 5,000 viewers", many.String(), "", "to one viewer " + one.String()},
	}
	for _, devices := range []int{8, 64} {
		frame, err := wire.Binary.Encode(wire.Event{Snapshot: fullSnapshot(devices)})
		if err != nil {
			return nil, err
		}
		text, err := wire.JSON.Encode(wire.Event{Snapshot: fullSnapshot(devices)})
		if err != nil {
			return nil, err
		}
		goal := map[int]string{8: "≤ 512", 64: "≤ 4096"}[devices]
		figures = append(figures, figure{fmt.Sprintf("bytes per frame, %d GPUs, every value", devices), fmt.Sprint(len(frame)), goal, fmt.Sprintf("as JSON %d", len(text))})
	}
	return figures, nil
}

// publish gives the mean time of a publication up to the last viewer having taken its frame, and the encodings it took.
func publish(viewers, ticks int) (time.Duration, uint64) {
	f := feed.New()
	var subscriptions []*feed.Subscription
	for range viewers {
		subscriptions = append(subscriptions, f.Subscribe(wire.Binary))
	}
	snapshot := fullSnapshot(8)
	before := f.Encodings()
	began := time.Now()
	for range ticks {
		next := *snapshot
		next.Seq++
		snapshot = &next
		f.Snapshot(snapshot)
		for _, s := range subscriptions {
			s.Take()
		}
	}
	took := time.Since(began) / time.Duration(ticks)
	return took.Round(time.Microsecond), f.Encodings() - before
}

func ptr[T any](v T) *T { return &v }

// fullSnapshot reports every value there is, as large as real ones get.
func fullSnapshot(devices int) *gpu.Snapshot {
	s := &gpu.Snapshot{Seq: 1 << 20, Time: time.Now().UTC(), Revision: 2}
	for i := range devices {
		v := float64(i)
		s.GPUs = append(s.GPUs, gpu.Reading{
			Index: gpu.Ref(i), State: gpu.StateOK, UtilizationPercent: ptr(97.3), MemoryUtilizationPercent: ptr(41.2),
			MemoryTotalBytes: ptr(uint64(80 << 30)), MemoryUsedBytes: ptr(uint64(77<<30 + i<<12)), MemoryReservedBytes: ptr(uint64(614 << 20)),
			SharedMemoryTotalBytes: ptr(uint64(256 << 30)), SharedMemoryUsedBytes: ptr(uint64(3<<30 + i<<12)),
			Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 71.5}, {Sensor: gpu.SensorJunction, Celsius: 83.1}, {Sensor: gpu.SensorMemory, Celsius: 88.9}},
			PowerWatts:   ptr(612.4 + v), PowerLimitWatts: ptr(700.0), CoreClockMHz: ptr(1980.0), MemoryClockMHz: ptr(2619.0),
			FanPercent: ptr(88.8), FanRPM: ptr(3120.0), PCIeGeneration: ptr(5), PCIeWidth: ptr(16), Throttle: ptr(gpu.ThrottlePower),
		})
	}
	return s
}
