package history

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/shared/gpu"
	"muster/shared/wire"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

func open(t testing.TB, folder string, interval time.Duration) *Store {
	t.Helper()
	s, err := Open(folder, interval, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// machine is an inventory of devices with those IDs.
func machine(ids ...string) *gpu.Inventory {
	inventory := &gpu.Inventory{Revision: 1}
	for i, id := range ids {
		inventory.Devices = append(inventory.Devices, gpu.Device{ID: id, Index: gpu.Ref(i)})
	}
	return inventory
}

func shot(at time.Time, readings ...gpu.Reading) *gpu.Snapshot {
	return &gpu.Snapshot{Time: at, Revision: 1, GPUs: readings}
}

func busy(percent float64) gpu.Reading {
	return gpu.Reading{State: gpu.StateOK, UtilizationPercent: &percent}
}

// past is a store without files and with a snapshot every interval, in which device "a" measured its number as utilisation, unless
// that is NaN.
func pastOf(t testing.TB, interval time.Duration, values ...float64) *Store {
	s := open(t, "", interval)
	for i, v := range values {
		r := gpu.Reading{State: gpu.StateSuspended}
		if !math.IsNaN(v) {
			r = busy(v)
		}
		s.Record(machine("a"), shot(noon.Add(time.Duration(i)*interval), r))
	}
	return s
}

func TestWindow(t *testing.T) {
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
			got := pastOf(t, time.Second, tt.values...).Window([]string{"a"}, tt.window, tt.points)
			if diff := cmp.Diff(tt.want, got.Devices[0].UtilizationPercent, cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := tt.window.Milliseconds() / int64(tt.points); got.StepMilliseconds != want {
				t.Errorf("step %d ms: want %d", got.StepMilliseconds, want)
			}
			end := got.Start.Add(time.Duration(got.StepMilliseconds) * time.Millisecond * time.Duration(tt.points))
			if newest := noon.Add(time.Duration(len(tt.values)-1) * time.Second); !end.Equal(newest) {
				t.Errorf("ends %v: want %v", end, newest)
			}
		})
	}
}

func TestWindowOfNothing(t *testing.T) {
	t.Parallel()
	if got := open(t, "", time.Second).Window([]string{"a"}, time.Minute, 10); len(got.Devices) != 0 {
		t.Errorf("%+v", got)
	}
	for _, points := range []int{0, -1} {
		if got := pastOf(t, time.Second, 1).Window([]string{"a"}, time.Minute, points); len(got.Devices) != 0 {
			t.Errorf("%d points: %+v", points, got)
		}
	}
	got := pastOf(t, time.Second, 1).Window([]string{"never seen"}, time.Minute, 3)
	if c := got.Devices[0].PowerWatts; len(c) != 3 || !math.IsNaN(c[0]) {
		t.Errorf("%v: want columns of the same length, not reported", c)
	}
}

// Snapshots that come a little early or late keep their place.
func TestWindowForgivesJitter(t *testing.T) {
	t.Parallel()
	s := open(t, "", time.Second)
	for i := range 60 {
		jitter := time.Duration(i%7-3) * 40 * time.Millisecond
		s.Record(machine("a"), shot(noon.Add(time.Duration(i)*time.Second+jitter), gpu.Reading{PowerWatts: ptr(float64(i))}))
	}
	for i, v := range s.Window([]string{"a"}, time.Minute, 60).Devices[0].PowerWatts {
		if v != float64(i) {
			t.Fatalf("point %d holds %v", i, v)
		}
	}
}

func TestRingWraps(t *testing.T) {
	t.Parallel()
	values := make([]float64, 1500)
	for i := range values {
		values[i] = float64(i % 100)
	}
	got := pastOf(t, time.Second, values...).Window([]string{"a"}, recentWindow, 600).Devices[0].UtilizationPercent
	for i, v := range got {
		if v != float64((900+i)%100) {
			t.Fatalf("point %d is %v: want %d", i, v, (900+i)%100)
		}
	}
}

// What a device measured 10 minutes ago does not stand for what it did not measure now.
func TestNoOldValuesInHoles(t *testing.T) {
	t.Parallel()
	values := make([]float64, 900)
	for i := 700; i < 900; i++ {
		values[i] = math.NaN()
	}
	got := pastOf(t, time.Second, values...).Window([]string{"a"}, recentWindow, 600).Devices[0].UtilizationPercent
	for i, v := range got {
		if math.IsNaN(v) != (i >= 400) {
			t.Fatalf("point %d is %v", i, v)
		}
	}
}

func TestDeviceOfWhichNothingIsLeftIsForgotten(t *testing.T) {
	t.Parallel()
	s := pastOf(t, time.Second, 1, 2, 3)
	for i := range 630 {
		s.Record(machine(), shot(noon.Add(time.Duration(3+i)*time.Second)))
	}
	if len(s.devices) != 0 {
		t.Errorf("%d devices kept", len(s.devices))
	}
}

// A reader that names its devices anew each time costs neither memory nor files without bound.
func TestDevicesAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, "", time.Second)
	for i := range 3 * MaxDevices {
		s.Record(machine(fmt.Sprint(i), ""), shot(noon.Add(time.Duration(i)*time.Second), busy(1), busy(2)))
	}
	if len(s.devices) != MaxDevices {
		t.Errorf("%d devices: want %d", len(s.devices), MaxDevices)
	}
}

func TestHistoryFollowsTheDeviceNotItsNumber(t *testing.T) {
	t.Parallel()
	s := open(t, "", time.Second)
	warm := func(celsius float64) gpu.Reading {
		return gpu.Reading{Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: celsius}}, MemoryUsedBytes: ptr(uint64(1000)), MemoryTotalBytes: ptr(uint64(4000))}
	}
	for i := range 21 {
		s.Record(machine("b"), shot(noon.Add(time.Duration(i)*time.Second), warm(40)))
	}
	s.Record(machine("a", "b"), shot(noon.Add(21*time.Second), busy(1), warm(40.333)))
	a, b := s.Temperatures("a"), s.Temperatures("b")
	if len(a) != 0 || len(b) != 22 || b[21].Celsius != 40.33 || b[1].Time.Sub(b[0].Time) != time.Second || b[0].Time.Location() != time.UTC || !b[0].Time.Equal(noon) {
		t.Errorf("%v and %v", a, b)
	}
	if got := s.Temperatures("c"); got == nil || len(got) != 0 {
		t.Errorf("unknown device: %v", got)
	}
	h := s.Window([]string{"a", "b"}, 10*time.Second, 10)
	if h.Devices[0].ID != "a" || h.Devices[1].MemoryUsedPercent[0] != 25 || !math.IsNaN(h.Devices[0].PowerWatts[0]) {
		t.Errorf("%+v", h)
	}
}

// A device that hangs keeps its last values with a growing age: they were measured once.
func TestHolesWhileADeviceHangs(t *testing.T) {
	t.Parallel()
	s := open(t, "", time.Second)
	value := 50.0
	for i := range 10 {
		r := gpu.Reading{UtilizationPercent: &value}
		if i >= 5 {
			r.State, r.AgeMilliseconds = gpu.StateStuck, int64(i-4)*1000
		} else {
			r = busy(50)
		}
		s.Record(machine("a"), shot(noon.Add(time.Duration(i)*time.Second), r))
	}
	want := wire.Column{50, 50, 50, 50, 50}
	for range 5 {
		want = append(want, math.NaN())
	}
	if diff := cmp.Diff(want, s.Window([]string{"a"}, 10*time.Second, 10).Devices[0].UtilizationPercent, cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatCountsAsNewMeasurement(t *testing.T) {
	t.Parallel()
	reading := busy(10)
	late := busy(20)
	late.AgeMilliseconds = 400
	for _, tt := range []struct {
		name   string
		after  time.Duration // of the second snapshot
		second gpu.Reading
		count  int
	}{
		{"the next tick", time.Second, busy(20), 2},
		{"the next tick of a reader that gives the same pointers", time.Second, reading, 2},
		{"a snapshot between two ticks", 700 * time.Millisecond, reading, 1},
		{"a slow answer, seen late", time.Second, late, 2},
		{"the same moment", 0, busy(20), 1},
		{"back in time", -time.Hour, busy(20), 1},
		{"older than what is there", 200 * time.Millisecond, late, 1},
		{"nothing reported", time.Second, gpu.Reading{MemoryTotalBytes: ptr(uint64(1))}, 1},
		{"a number that is none", time.Second, busy(math.Inf(1)), 1},
	} {
		s := open(t, "", time.Second)
		s.Record(machine("a"), shot(noon, reading))
		s.Record(machine("a"), shot(noon.Add(tt.after), tt.second))
		if got := s.devices["a"].recent.count; got != tt.count {
			t.Errorf("%s: %d measurements, want %d", tt.name, got, tt.count)
		}
	}
}

func TestSnapshotOfOtherDevicesIsIgnored(t *testing.T) {
	t.Parallel()
	s := open(t, "", time.Second)
	s.Record(nil, shot(noon, busy(1)))
	s.Record(machine("a"), nil)
	s.Record(&gpu.Inventory{Revision: 2, Devices: machine("a").Devices}, shot(noon, busy(1)))
	s.Record(machine("a"), shot(noon, busy(1), busy(2))) // more readings than devices
	if len(s.devices) != 1 {
		t.Errorf("%v", s.devices)
	}
}

// What was measured before the machine slept is not of the last minutes: the monotonic clock stood still meanwhile.
func TestSleepLeavesAGap(t *testing.T) {
	t.Parallel()
	s := open(t, "", time.Second)
	for i := range 3 {
		s.Record(machine("a"), shot(noon.Add(time.Duration(i)*time.Second), busy(1)))
	}
	s.Record(machine("a"), shot(noon.Add(8*time.Hour), busy(2)))
	h := s.Window([]string{"a"}, recentWindow, 600).Devices[0].UtilizationPercent
	for i, v := range h {
		if math.IsNaN(v) != (i < 599) {
			t.Fatalf("point %d is %v", i, v)
		}
	}
	// Set back, what is known stays known, and what comes counts.
	s.Record(machine("a"), shot(noon, busy(3)))
	s.Record(machine("a"), shot(noon.Add(time.Second), busy(4)))
	if got := s.devices["a"].recent.count; got != 5 {
		t.Errorf("%d measurements: want 5", got)
	}
}
