package history

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
)

var exported = cmp.AllowUnexported(row{}, span{})

func someRow(slot int64) row {
	r := row{slot: slot, total: 16 << 30}
	for i := range r.spans {
		r.spans[i] = span{min: float64(i), mean: float64(i) + 0.5, max: float64(i) + 2, count: i + 1}
	}
	return r
}

func TestRowRoundTrip(t *testing.T) {
	t.Parallel()
	hole := someRow(7)
	hole.total, hole.spans[power] = 0, span{}
	large := someRow(178000000)
	large.spans[memory] = span{min: 1 << 37, mean: 1 << 37, max: 1 << 38, count: mostCount}
	cold := someRow(1)
	cold.spans[temperature] = span{min: -40, mean: -20.25, max: -1, count: 6}
	for _, want := range []row{someRow(0), someRow(177000000), hole, large, cold} {
		var b [rowSize]byte
		want.encode(b[:], 3)
		got, ok := decodeRow(b[:], want.slot, 3)
		if diff := cmp.Diff(want, got, exported); !ok || diff != "" {
			t.Errorf("%v (-want +got):\n%s", ok, diff)
		}
		if _, ok := decodeRow(b[:], want.slot+8640, 3); ok {
			t.Error("a row of another lap was taken")
		}
		if _, ok := decodeRow(b[:], want.slot, 4); ok {
			t.Error("a row of another device was taken")
		}
		for i := range b { // torn anywhere
			torn := b
			torn[i] ^= 0x40
			if _, ok := decodeRow(torn[:], want.slot, 3); ok {
				t.Fatalf("byte %d was changed, and the row taken", i)
			}
			if _, ok := decodeRow(b[:i], want.slot, 3); ok {
				t.Fatalf("%d bytes were taken for a row", i)
			}
		}
	}
	if _, ok := decodeRow(make([]byte, rowSize), 0, 3); ok {
		t.Error("zeros were taken for a row")
	}
}

// Counts beyond what a row holds do not wrap.
func TestRowCountSaturates(t *testing.T) {
	t.Parallel()
	r := someRow(1)
	r.spans[power].count = mostCount + 5
	var b [rowSize]byte
	r.encode(b[:], 0)
	if got, _ := decodeRow(b[:], 1, 0); got.spans[power].count != mostCount {
		t.Errorf("%d", got.spans[power].count)
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		a, b, want span
	}{
		{"nothing and nothing", span{}, span{}, span{}},
		{"nothing and one", span{}, once(3), once(3)},
		{"one and nothing", once(3), span{}, once(3)},
		{"two", once(1), once(2), span{1, 1.5, 2, 2}},
		{"weighted", span{0, 10, 20, 30}, span{-5, 40, 50, 10}, span{-5, 17.5, 50, 40}},
	} {
		if got := tt.a.with(tt.b); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	mean := span{}
	for range 1000 {
		mean = mean.with(once(0.1))
	}
	if mean.mean != 0.1 {
		t.Errorf("the mean of equal values is %v", mean.mean)
	}
}

func TestMemoryShareFollowsFromTotal(t *testing.T) {
	t.Parallel()
	var r row
	for _, used := range []uint64{1 << 30, 3 << 30} {
		v, ok := valuesOf(gpu.Device{}, &gpu.Reading{MemoryUsedBytes: &used, MemoryTotalBytes: ptr(uint64(16 << 30))})
		if !ok {
			t.Fatal("nothing reported")
		}
		r.add(v)
	}
	if got, want := r.of(gpu.MetricMemoryPercent), (span{6.25, 12.5, 18.75, 2}); got != want {
		t.Errorf("%+v: want %+v", got, want)
	}
	if got, want := r.of(gpu.MetricMemory), (span{1 << 30, 2 << 30, 3 << 30, 2}); got != want {
		t.Errorf("%+v: want %+v", got, want)
	}
	r.total = 0
	if got := r.of(gpu.MetricMemoryPercent); got != (span{}) {
		t.Errorf("a share of an unknown total: %+v", got)
	}
	v, _ := valuesOf(gpu.Device{MemoryBytes: ptr(uint64(4000))}, &gpu.Reading{MemoryUsedBytes: ptr(uint64(1000))})
	if got := v.of(gpu.MetricMemoryPercent); got.mean != 25 {
		t.Errorf("the total of the inventory: %+v", got)
	}
}

func FuzzDecodeRow(f *testing.F) {
	var b [rowSize]byte
	r := someRow(177000000)
	r.encode(b[:], 3)
	f.Add(b[:], int64(177000000), true)
	f.Add(make([]byte, rowSize), int64(0), false)
	f.Add([]byte("short"), int64(5), true)
	f.Fuzz(func(t *testing.T, b []byte, slot int64, sum bool) {
		if sum && len(b) >= rowSize { // give it the sum that it should have, so that what is behind the sum is tried too
			b = append([]byte{}, b[:rowSize]...)
			tagged := row{slot: slot}
			var head [rowSize]byte
			tagged.encode(head[:], 3)
			copy(b, head[:4])
			seal(b, 3)
		}
		r, ok := decodeRow(b, slot, 3)
		if !ok {
			return
		}
		if r.slot != slot || len(b) < rowSize || math.IsNaN(r.total) || r.total < 0 {
			t.Fatalf("%+v", r)
		}
		for _, m := range gpu.Metrics {
			s := r.of(m)
			if s.count < 0 || s.count > 0 && !(s.min <= s.mean && s.mean <= s.max) || math.IsInf(s.max, 0) {
				t.Fatalf("%s: %+v", m, s)
			}
		}
		var again [rowSize]byte
		r.encode(again[:], 3)
		if second, ok := decodeRow(again[:], slot, 3); !ok || second != r {
			t.Fatalf("%+v became %+v", r, second)
		}
	})
}
