package wire

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/shared/gpu"
	"muster/shared/job"
)

func ptr[T any](v T) *T { return &v }

// full is a snapshot in which every device reports every value, as large as real ones get.
func full(devices int) *gpu.Snapshot {
	random := rand.New(rand.NewPCG(1, 2))
	tenth := func(limit float64) *float64 { return ptr(math.Round(random.Float64()*limit*10) / 10) }
	whole := func(limit float64) *float64 { return ptr(math.Round(random.Float64() * limit)) }
	s := &gpu.Snapshot{
		Seq: 1 << 20, Time: time.Date(2026, 11, 23, 12, 0, 0, 250e6, time.UTC), Revision: 3,
		Host: gpu.HostReading{CPUPercent: ptr(12.5), MemoryUsedBytes: ptr(uint64(123 << 20)), MemoryTotalBytes: ptr(uint64(256 << 30))},
	}
	for i := range devices {
		s.GPUs = append(s.GPUs, gpu.Reading{
			Index: gpu.Ref(i), State: gpu.StateOK,
			UtilizationPercent: tenth(100), MemoryUtilizationPercent: tenth(100),
			MemoryTotalBytes: ptr(uint64(80 << 30)), MemoryUsedBytes: ptr(uint64(random.IntN(80<<20)) << 10), MemoryReservedBytes: ptr(uint64(614 << 20)),
			SharedMemoryTotalBytes: ptr(uint64(256 << 30)), SharedMemoryUsedBytes: ptr(uint64(random.IntN(1<<20)) << 12),
			Temperatures: []gpu.Temperature{
				{Sensor: gpu.SensorEdge, Celsius: *tenth(99)}, {Sensor: gpu.SensorJunction, Celsius: *tenth(99)}, {Sensor: gpu.SensorMemory, Celsius: -1.5},
			},
			PowerWatts: tenth(700), PowerLimitWatts: ptr(700.0), CoreClockMHz: whole(2600), MemoryClockMHz: whole(10000),
			FanPercent: tenth(100), FanRPM: whole(5000), PCIeGeneration: ptr(5), PCIeWidth: ptr(16), Throttle: ptr(gpu.ThrottlePower | gpu.ThrottleOther),
			PerformanceState: ptr(8), EncoderPercent: whole(100), DecoderPercent: whole(100), MediaPercent: whole(100), Suspect: []string{"utilization_percent"},
		})
	}
	return s
}

func events() map[string]Event {
	sparse := &gpu.Snapshot{Seq: 1, Time: time.UnixMilli(0).UTC(), GPUs: []gpu.Reading{{State: gpu.StateStuck, AgeMilliseconds: 4200, MemoryUsedBytes: ptr(uint64(1025))}}}
	return map[string]Event{
		"hello":     {Hello: &Hello{Version: Version, Build: "v1", Instance: "x", Resume: 7, IntervalMilliseconds: 1000, Complete: true}},
		"inventory": {Inventory: &gpu.Inventory{Revision: 2, Devices: []gpu.Device{{ID: "GPU-1", Vendor: gpu.AMD, MemoryBytes: ptr(uint64(17163091968)), MultiprocessorCount: ptr(64)}}}},
		"full":      {Snapshot: full(8)},
		"sparse":    {Snapshot: sparse},
		"empty":     {Snapshot: &gpu.Snapshot{Time: time.UnixMilli(1).UTC(), GPUs: []gpu.Reading{}}},
		"details": {Details: &gpu.Report{Revision: 2, Devices: []gpu.Details{{
			Time: time.UnixMilli(9000).UTC(), EnergyJoules: ptr(1.5), ECC: &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr(uint64(3))},
			Links: []gpu.Link{{Kind: "NVLink", Active: true}}, Faults: []gpu.Fault{{Time: time.UnixMilli(1).UTC(), Kind: "XID", Code: 79}},
			Processes: []gpu.Process{{PID: 7, Type: gpu.ProcessBoth, MemoryBytes: ptr(uint64(1 << 30))}}, Absent: map[string]gpu.Absence{"fan_rpm": gpu.AbsentUnsupported},
		}, {Processes: []gpu.Process{}}}}},
		"history": {History: &History{Start: time.UnixMilli(5000).UTC(), StepMilliseconds: 2000, Devices: []Series{{
			ID: "GPU-1", UtilizationPercent: Column{math.NaN(), 0, 100}, MemoryUsedPercent: Column{1, 1, 1},
			TemperatureCelsius: Column{-3, math.NaN(), 40}, PowerWatts: Column{math.NaN(), math.NaN(), math.NaN()},
		}}}},
		"capacity": {Capacity: &Capacity{DefaultModel: "m", Models: []Model{{Name: "m", Title: "M"}}, Slots: []Slot{{Device: gpu.CPU, Backend: "builtin", Models: []string{"m"}}}, Policy: "predicted"}},
		"job":      {Job: &job.Job{ID: "01", State: job.Running, DeviceID: ptr(gpu.CPU), Prompt: "ein Fuchs", Seed: 4}},
		"error":    {Error: &Error{ID: "c1", Code: "bad", Message: "no"}},
	}
}

func TestEveryEventSurvivesBothCodecs(t *testing.T) {
	t.Parallel()
	for name, want := range events() {
		for _, format := range Formats {
			t.Run(fmt.Sprint(name, format), func(t *testing.T) {
				t.Parallel()
				frame, err := format.Encode(want)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Decode(format, frame)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
					t.Errorf("changed on the way (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// The budgets of design/BENCHMARKS.md 2, with every value reported.
func TestBinarySnapshotKeepsItsBudget(t *testing.T) {
	t.Parallel()
	for devices, budget := range map[int]int{8: 512, 64: 4096} {
		frame, err := Binary.Encode(Event{Snapshot: full(devices)})
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) > budget {
			t.Errorf("%d devices take %d bytes: budget is %d", devices, len(frame), budget)
		}
	}
}

func TestNonsenseValuesAreAbsentOnTheWire(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]float64{"NaN": math.NaN(), "negative": -1, "infinite": math.Inf(1), "huge": 1e300} {
		frame, err := Binary.Encode(Event{Snapshot: &gpu.Snapshot{GPUs: []gpu.Reading{{UtilizationPercent: &value}}}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(Binary, frame)
		if err != nil {
			t.Fatal(err)
		}
		if v := got.Snapshot.GPUs[0].UtilizationPercent; v != nil {
			t.Errorf("%s arrived as %v: want absent", name, *v)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good, err := Binary.Encode(Event{Snapshot: full(2)})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		format Format
		frame  []byte
	}{
		"nothing":             {Binary, nil},
		"another version":     {Binary, append([]byte{9}, good[1:]...)},
		"unknown kind":        {Binary, []byte{Version, 200}},
		"cut":                 {Binary, good[:len(good)-1]},
		"more than a frame":   {Binary, append(good[:len(good):len(good)], 0)},
		"a million devices":   {Binary, []byte{Version, byte(kindSnapshot), 1, 1, 1, 0, 0xff, 0xff, 0x3f}},
		"text":                {JSON, []byte("hi")},
		"no event":            {JSON, []byte("{}")},
		"two events":          {JSON, []byte(`{"error":{"id":"a"},"hello":{}}`)},
		"an event and a tail": {JSON, []byte(`{"error":{"id":"a"}} x`)},
	} {
		if _, err := Decode(tt.format, tt.frame); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v: want ErrMalformed", name, err)
		}
	}
}

func TestDecodeCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		ok       bool
	}{
		{"submit", `{"submit":{"id":"a","spec":{"prompt":"x","device_id":"cpu"}}}`, true},
		{"cancel", `{"cancel":{"id":"a","job_id":"b"}}`, true},
		{"both", `{"cancel":{"id":"a"},"submit":{"id":"a"}}`, false},
		{"neither", `{}`, false},
		{"unknown field", `{"submit":{"id":"a","spec":{"promt":"x"}}}`, false},
		{"tail", `{"cancel":{"id":"a","job_id":"b"}}{}`, false},
		{"wrong type", `{"submit":{"id":"a","spec":{"width":"512"}}}`, false},
		{"not JSON", `cancel`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := DecodeCommand([]byte(tt.in))
			if (err == nil) != tt.ok {
				t.Errorf("%s: %v", tt.in, err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range events() {
		for _, format := range Formats {
			frame, err := format.Encode(e)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, format := range Formats {
			e, err := Decode(format, frame)
			if err != nil {
				continue
			}
			again, err := format.Encode(e)
			if err != nil {
				t.Fatalf("decoded but not encodable: %v", err)
			}
			if _, err := Decode(format, again); err != nil {
				t.Fatalf("encoded but not decodable: %v", err)
			}
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	f.Add([]byte(`{"submit":{"id":"a","spec":{"prompt":"x","count":4}}}`))
	f.Add([]byte(`{"cancel":{"id":"a","job_id":"b"}}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if c, err := DecodeCommand(frame); err == nil && (c.Submit == nil) == (c.Cancel == nil) {
			t.Fatalf("%q was taken as %+v", frame, c)
		}
	})
}

func BenchmarkEncodeSnapshot(b *testing.B) {
	for _, devices := range []int{8, 64} {
		for name, format := range map[string]Format{"json": JSON, "binary": Binary} {
			b.Run(fmt.Sprintf("%s/%d", name, devices), func(b *testing.B) {
				e := Event{Snapshot: full(devices)}
				b.ReportAllocs()
				for b.Loop() {
					frame, _ := format.Encode(e)
					b.ReportMetric(float64(len(frame)), "B/frame")
				}
			})
		}
	}
}

func TestLoadedOn(t *testing.T) {
	t.Parallel()
	c := Capacity{
		Slots:      []Slot{{Device: 2, Loaded: "a"}, {Device: 0, Loaded: "b"}, {Device: 1}},
		Generators: []Generator{{Device: new(gpu.Ref(1)), Loaded: "a"}, {Device: new(gpu.Ref(2)), Loaded: "a"}, {Loaded: "a"}},
	}
	if got := c.LoadedOn("a"); !slices.Equal(got, []gpu.Ref{1, 2}) {
		t.Errorf("%v", got)
	}
	if got := c.LoadedOn(""); got != nil {
		t.Errorf("no model: %v", got)
	}
}
