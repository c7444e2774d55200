package gpu

import (
	"math"
	"reflect"
	"testing"
)

func ptr[T any](v T) *T { return &v }

// used is the reading of a device of 1000 bytes.
func used(bytes uint64) Reading {
	return Reading{State: StateOK, MemoryTotalBytes: ptr(uint64(1000)), MemoryUsedBytes: ptr(bytes)}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	full := used(125)
	for _, tt := range []struct {
		name string
		in   Reading
		want float64
	}{
		{"in use", full, 0.125},
		{"empty", used(0), 0},
		{"full", used(1000), 1},
		{"more than there is", used(2000), 1},
		{"suspended, memory known", Reading{State: StateSuspended, MemoryTotalBytes: full.MemoryTotalBytes, MemoryUsedBytes: full.MemoryUsedBytes}, 0.125},
		{"stuck, with last values", Reading{State: StateStuck, MemoryTotalBytes: full.MemoryTotalBytes, MemoryUsedBytes: full.MemoryUsedBytes}, 1},
		{"lost, with last values", Reading{State: StateLost, MemoryTotalBytes: full.MemoryTotalBytes, MemoryUsedBytes: full.MemoryUsedBytes}, 1},
		{"no state", Reading{MemoryTotalBytes: full.MemoryTotalBytes, MemoryUsedBytes: full.MemoryUsedBytes}, 1},
		{"total not reported", Reading{State: StateOK, MemoryUsedBytes: ptr(uint64(1))}, 1},
		{"use not reported", Reading{State: StateOK, MemoryTotalBytes: ptr(uint64(1))}, 1},
		{"total of zero", Reading{State: StateOK, MemoryTotalBytes: ptr(uint64(0)), MemoryUsedBytes: ptr(uint64(0))}, 1},
		{"nothing", Reading{}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.in.Load(); got != tt.want {
				t.Errorf("%v: want %v", got, tt.want)
			}
		})
	}
}

func TestEveryUnusableStateIsFullyLoaded(t *testing.T) {
	t.Parallel()
	for _, state := range States {
		r := used(125)
		r.State = state
		if got := r.Load(); (got == 1) == (state == StateOK || state == StateSuspended) {
			t.Errorf("%s: load %v", state, got)
		}
	}
}

// The rules of facts/api.md, "Least loaded device and order".
func TestOrderByLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		loads []float64
		order []Ref
		least *Ref
	}{
		{"the example", []float64{0.5, 0.1, 0.8, 0.3}, []Ref{1, 3, 0, 2}, ptr(Ref(1))},
		{"none", nil, []Ref{}, nil},
		{"one", []float64{1}, []Ref{0}, ptr(Ref(0))},
		{"device 0 unreadable", []float64{1, 0.125}, []Ref{1, 0}, ptr(Ref(1))},
		{"equal loads keep device order", []float64{0.2, 0.2, 0.1, 0.2}, []Ref{2, 0, 1, 3}, ptr(Ref(2))},
		{"all equal", []float64{0, 0, 0}, []Ref{0, 1, 2}, ptr(Ref(0))},
		{"all unreadable", []float64{1, 1}, []Ref{0, 1}, ptr(Ref(0))},
		{"unreadable comes after nearly full", []float64{math.NaN(), 0.999}, []Ref{1, 0}, ptr(Ref(1))},
		{"unreadable comes after full", []float64{math.NaN(), 1, 0}, []Ref{2, 1, 0}, ptr(Ref(2))},
		{"12.5, 25, 37.5 %", []float64{0.125, 0.25, 0.375}, []Ref{0, 1, 2}, ptr(Ref(0))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := OrderByLoad(tt.loads); !reflect.DeepEqual(got, tt.order) {
				t.Errorf("order %v: want %v", got, tt.order)
			}
			got := LeastLoaded(tt.loads)
			if (got == nil) != (tt.least == nil) || got != nil && *got != *tt.least {
				t.Errorf("least loaded %v: want %v", got, tt.least)
			}
		})
	}
}

// By memory as the device reports it for all programs, over a snapshot.
func TestOrderOfASnapshot(t *testing.T) {
	t.Parallel()
	unreadable := Reading{State: StateNoPermission}
	for _, tt := range []struct {
		name string
		in   []Reading
		want []Ref
	}{
		{"the example", []Reading{used(500), used(100), used(800), used(300)}, []Ref{1, 3, 0, 2}},
		{"device 0 unreadable", []Reading{unreadable, used(125)}, []Ref{1, 0}},
		{"unreadable after full", []Reading{unreadable, used(1000), used(999)}, []Ref{2, 1, 0}},
		{"none", nil, []Ref{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := OrderByLoad((Snapshot{GPUs: tt.in}).Loads()); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v: want %v", got, tt.want)
			}
		})
	}
}

func TestOrderByLoadDoesNotChangeItsInput(t *testing.T) {
	t.Parallel()
	loads := []float64{0.5, 0.1}
	OrderByLoad(loads)
	if loads[0] != 0.5 || loads[1] != 0.1 {
		t.Errorf("%v", loads)
	}
}

func TestHealthOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		celsius *float64
		want    Health
	}{
		{nil, HealthUnknown},
		{ptr(-5.0), HealthHealthy}, {ptr(0.0), HealthHealthy}, {ptr(59.99), HealthHealthy},
		{ptr(60.0), HealthWarm}, {ptr(74.99), HealthWarm},
		{ptr(75.0), HealthHot}, {ptr(84.99), HealthHot},
		{ptr(85.0), HealthCritical}, {ptr(120.0), HealthCritical},
	} {
		if got := HealthOf(tt.celsius); got != tt.want {
			t.Errorf("%v: %s: want %s", tt.celsius, got, tt.want)
		}
	}
}

func TestRoundGiB(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		bytes uint64
		want  float64
	}{
		{0, 0}, {1, 0}, {17163091968, 15.98}, {2 * 17163091968, 31.97}, {16 << 30, 16}, {512 << 20, 0.5}, {math.MaxUint64, 17179869184},
	} {
		if got := RoundGiB(tt.bytes); got != tt.want {
			t.Errorf("%d: %v: want %v", tt.bytes, got, tt.want)
		}
	}
}
