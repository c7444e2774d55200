package state

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/shared/gpu"
	"muster/shared/wire"
)

var nan = float32(math.NaN())

func column(s State, m Metric) []float32 { return s.Trends.Devices[0][m] }

func TestTrendPoints(t *testing.T) {
	t.Parallel()
	one := machine(1, 1)
	hello := wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 1000}}
	at := func(seq uint64, seconds int, utilization float64) wire.Event {
		return wire.Event{Snapshot: tick(one, seq, start.Add(time.Duration(seconds)*time.Second), utilization)}
	}
	lost := tick(one, 3, start.Add(4*time.Second), 99)
	lost.GPUs[0].State = gpu.StateLost
	for _, test := range []struct {
		name string
		in   []wire.Event
		want []float32
	}{
		{"the open bucket is not a point yet", []wire.Event{at(1, 0, 10), at(2, 1, 20)}, nil},
		{"a point is the mean of its bucket", []wire.Event{at(1, 0, 10), at(2, 1, 20), at(3, 2, 50)}, []float32{15}},
		{"skipped buckets are absent", []wire.Event{at(1, 0, 10), at(2, 7, 20)}, []float32{10, nan, nan}},
		{"last values of a lost device are not of now", []wire.Event{at(1, 0, 10), at(2, 2, 20), {Snapshot: lost}, at(4, 6, 30)}, []float32{10, 20, nan}},
		{"a clock that goes back starts anew", []wire.Event{at(1, 20, 10), at(2, 22, 20), at(3, 0, 30)}, nil},
		{"a gap longer than the window starts anew", []wire.Event{at(1, 0, 10), at(2, 2, 20), at(3, 4000, 30)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := apply(State{}, append([]wire.Event{hello, {Inventory: one}}, test.in...)...)
			if diff := cmp.Diff(test.want, column(s, Utilization), cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTrendsAreBounded(t *testing.T) {
	t.Parallel()
	one := machine(1, 1)
	s := apply(State{}, wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 1000}}, wire.Event{Inventory: one})
	for i := range 2 * (TrendPoints + 50) {
		s = s.Apply(wire.Event{Snapshot: tick(one, uint64(i+1), start.Add(time.Duration(i)*time.Second), float64(i))})
	}
	got := column(s, Utilization)
	if len(got) != TrendPoints || got[TrendPoints-1] != 696.5 {
		t.Errorf("%d points, the last %g", len(got), got[len(got)-1])
	}
}

func TestHistoryFillsTheTrends(t *testing.T) {
	t.Parallel()
	two := machine(1, 2)
	history := &wire.History{Start: start, StepMilliseconds: 1000, Devices: []wire.Series{
		{ID: "GPU-gone", UtilizationPercent: wire.Column{9, 9, 9, 9}},
		{ID: "GPU-0", UtilizationPercent: wire.Column{10, 20, math.NaN(), 40}, MemoryUsedPercent: wire.Column{1, 1, 1, 1},
			TemperatureCelsius: wire.Column{50, 50, 50, 50}, PowerWatts: wire.Column{5, 5, 5, 5}},
	}}
	s := apply(State{}, wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 1000}}, wire.Event{Inventory: two}, wire.Event{History: history})
	if diff := cmp.Diff([]float32{15, 40}, column(s, Utilization)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]float32{nan, nan}, s.Trends.Devices[1][Utilization], cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("unknown device: %s", diff)
	}
	s = apply(s, wire.Event{Snapshot: tick(two, 1, start.Add(4*time.Second), 60)}, wire.Event{Snapshot: tick(two, 2, start.Add(6*time.Second), 70)})
	if diff := cmp.Diff([]float32{15, 40, 60}, column(s, Utilization)); diff != "" {
		t.Errorf("after the next snapshots: %s", diff)
	}
}

func TestCoarseHistoryIsDrawnWithoutGaps(t *testing.T) {
	t.Parallel()
	one := machine(1, 1)
	history := &wire.History{Start: start, StepMilliseconds: 6000, Devices: []wire.Series{{ID: "GPU-0", UtilizationPercent: wire.Column{10, 20}}}}
	s := apply(State{}, wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 1000}}, wire.Event{Inventory: one}, wire.Event{History: history})
	if diff := cmp.Diff([]float32{10, 10, 10, 20, nan, nan}, column(s, Utilization), cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
}

func TestTrendsFollowTheirDevice(t *testing.T) {
	t.Parallel()
	two := machine(1, 2)
	s := apply(State{}, wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 1000}}, wire.Event{Inventory: two},
		wire.Event{Snapshot: tick(two, 1, start, 10)}, wire.Event{Snapshot: tick(two, 2, start.Add(2*time.Second), 20)})
	swapped := machine(2, 2)
	swapped.Devices[0].ID, swapped.Devices[1].ID = "GPU-new", "GPU-0"
	s = s.Apply(wire.Event{Inventory: swapped})
	if diff := cmp.Diff([]float32{nan}, s.Trends.Devices[0][Utilization], cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("new device: %s", diff)
	}
	if diff := cmp.Diff([]float32{10}, s.Trends.Devices[1][Utilization]); diff != "" {
		t.Errorf("moved device: %s", diff)
	}
}
