package telemetry

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// past is a history with a tick every interval, in which device "a" measured its number as utilisation, unless that is NaN.
func past(interval time.Duration, values ...float64) *history {
	h := newHistory(interval)
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for i, v := range values {
		h.advance(start.Add(time.Duration(i) * interval))
		if !math.IsNaN(v) {
			h.record("a", &gpu.Reading{UtilizationPercent: &v})
		}
	}
	return h
}

func TestResample(t *testing.T) {
	t.Parallel()
	none := math.NaN()
	for _, tt := range []struct {
		name   string
		values []float64
		window time.Duration
		points int
		want   wire.Column
	}{
		{"one tick a point", []float64{1, 2, 3, 4}, 4 * time.Second, 4, wire.Column{1, 2, 3, 4}},
		{"means", []float64{1, 3, 5, 7}, 4 * time.Second, 2, wire.Column{2, 6}},
		{"before the start", []float64{1, 2}, 4 * time.Second, 4, wire.Column{none, none, 1, 2}},
		{"older than the window", []float64{1, 2, 3, 4}, 2 * time.Second, 2, wire.Column{3, 4}},
		{"a hole", []float64{1, none, none, 4}, 4 * time.Second, 4, wire.Column{1, none, none, 4}},
		{"a hole inside a mean", []float64{1, none, none, 4}, 4 * time.Second, 2, wire.Column{1, 4}},
		{"zero is a value", []float64{0, 0}, 2 * time.Second, 2, wire.Column{0, 0}},
		{"finer than measured", []float64{1, 2}, 2 * time.Second, 4, wire.Column{none, 1, none, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := past(time.Second, tt.values...).resample([]string{"a"}, tt.window, tt.points)
			if diff := cmp.Diff(tt.want, got.Devices[0].UtilizationPercent, cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := tt.window.Milliseconds() / int64(tt.points); got.StepMilliseconds != want {
				t.Errorf("step %d ms: want %d", got.StepMilliseconds, want)
			}
			end := got.Start.Add(time.Duration(got.StepMilliseconds) * time.Millisecond * time.Duration(tt.points))
			if newest := time.Date(2026, 11, 23, 12, 0, len(tt.values)-1, 0, time.UTC); !end.Equal(newest) {
				t.Errorf("ends %v: want %v", end, newest)
			}
		})
	}
}

func TestResampleOfNothing(t *testing.T) {
	t.Parallel()
	if got := newHistory(time.Second).resample([]string{"a"}, time.Minute, 10); len(got.Devices) != 0 {
		t.Errorf("%+v", got)
	}
	for _, points := range []int{0, -1} {
		if got := past(time.Second, 1).resample([]string{"a"}, time.Minute, points); len(got.Devices) != 0 {
			t.Errorf("%d points: %+v", points, got)
		}
	}
	got := past(time.Second, 1).resample([]string{"never seen"}, time.Minute, 3)
	if c := got.Devices[0].PowerWatts; len(c) != 3 || !math.IsNaN(c[0]) {
		t.Errorf("%v: want columns of the same length, not reported", c)
	}
}

// Ticks that come a little early or late keep their bucket.
func TestResampleForgivesJitter(t *testing.T) {
	t.Parallel()
	h := newHistory(time.Second)
	start := time.Now()
	for i := range 60 {
		jitter := time.Duration(i%7-3) * 40 * time.Millisecond
		h.advance(start.Add(time.Duration(i)*time.Second + jitter))
		h.record("a", &gpu.Reading{PowerWatts: ptr(float64(i))})
	}
	got := h.resample([]string{"a"}, time.Minute, 60).Devices[0].PowerWatts
	for i, v := range got {
		if v != float64(i) {
			t.Fatalf("bucket %d holds %v", i, v)
		}
	}
}

func TestRingWraps(t *testing.T) {
	t.Parallel()
	values := make([]float64, 1500)
	for i := range values {
		values[i] = float64(i % 100)
	}
	h := past(time.Second, values...)
	got := h.resample([]string{"a"}, historyWindow, 600).Devices[0].UtilizationPercent
	for i, v := range got {
		if v != float64((900+i)%100) {
			t.Fatalf("point %d is %v: want %d", i, v, (900+i)%100)
		}
	}
	if len(h.ticks) != 601 {
		t.Errorf("%d ticks kept: want 601", len(h.ticks))
	}
}

// What a device measured 10 minutes ago does not stand for what it did not measure now.
func TestRingHasNoOldValuesInHoles(t *testing.T) {
	t.Parallel()
	values := make([]float64, 900)
	for i := 700; i < 900; i++ {
		values[i] = math.NaN()
	}
	got := past(time.Second, values...).resample([]string{"a"}, historyWindow, 600).Devices[0].UtilizationPercent
	for i, v := range got {
		if math.IsNaN(v) != (i >= 400) {
			t.Fatalf("point %d is %v", i, v)
		}
	}
}

func TestDeviceOfWhichNothingIsLeftIsForgotten(t *testing.T) {
	t.Parallel()
	h := past(time.Second, 1, 2, 3)
	for i := range 605 {
		h.advance(h.start.Add(time.Duration(3+i) * time.Second))
	}
	if len(h.series) != 0 || len(h.written) != 0 {
		t.Errorf("%d series kept", len(h.series))
	}
}

func TestHistoryFollowsTheDeviceNotItsNumber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("b")
		f.listBy(func(context.Context) (Found, error) { return Found{Devices: []gpu.Device{device("b", 2)}}, nil })
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(20500 * time.Millisecond)
		if got := len(s.Temperatures(0)); got != 21 {
			t.Fatalf("%d temperatures after 21 ticks", got)
		}
		f.listBy(func(context.Context) (Found, error) {
			return Found{Devices: []gpu.Device{device("a", 1), device("b", 2)}}, nil
		})
		after(11 * time.Second)
		a, b := s.Temperatures(0), s.Temperatures(1)
		if len(a) != 1 || len(b) != 32 || b[0].Celsius != 40 || b[1].Time.Sub(b[0].Time) != time.Second || b[0].Time.Location() != time.UTC {
			t.Errorf("%d and %d temperatures: want 1 and 32", len(a), len(b))
		}
		if s.Temperatures(2) != nil || s.Temperatures(gpu.CPU) != nil {
			t.Error("temperatures of devices that do not exist")
		}
		h := s.History(10*time.Second, 10)
		if h.Devices[0].ID != "a" || h.Devices[1].MemoryUsedPercent[0] != 25 || !math.IsNaN(h.Devices[0].PowerWatts[0]) {
			t.Errorf("%+v", h)
		}
	})
}

func TestHistoryHasHolesWhileADeviceHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a")
		s, stop := run(t, Config{Readers: []Reader{f}})
		after(4500 * time.Millisecond)
		release := f.hang("a")
		after(5 * time.Second)
		column := s.History(10*time.Second, 10).Devices[0].UtilizationPercent
		want := wire.Column{50, 50, 50, 50, 50}
		for range 5 {
			want = append(want, math.NaN())
		}
		if diff := cmp.Diff(want, column, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		release()
		stop()
	})
}
