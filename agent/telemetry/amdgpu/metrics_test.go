package amdgpu

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/fixture"
	"muster/shared/gpu"
)

// blob is a table of a version with everything marked as unavailable but the 16-bit values at the given offsets.
func blob(format, content byte, size int, values map[int]uint16) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = 0xff
	}
	binary.LittleEndian.PutUint16(b, uint16(size))
	b[2], b[3] = format, content
	for offset, v := range values {
		binary.LittleEndian.PutUint16(b[offset:], v)
	}
	return b
}

func known(v float64) optional { return optional{v, true} }

// clean forgets the values of optionals that are not known.
var clean = cmp.Options{
	cmp.AllowUnexported(metrics{}, link{}, residency{}, xgmi{}),
	cmp.Comparer(func(a, b optional) bool { return a.known == b.known && (!a.known || a.value == b.value) }),
}

func TestGoldenMetrics(t *testing.T) { // trap 29
	t.Parallel()
	fan0 := known(0)
	for _, c := range []struct {
		file []string
		want metrics
	}{
		{[]string{"amd-sysfs", "rx6900xt", "card0", "device", "gpu_metrics"}, metrics{format: 1, content: 3, edge: known(56), junction: known(59), memory: known(54),
			activity: known(3), memoryActivity: known(0), watts: known(36), coreMHz: known(500), memoryMHz: known(1000), fanRPM: fan0, link: link{16, 16}, hasThrottle: true, media: known(0), energy: known(17691682)}},
		{[]string{"amd-sysfs", "rx7800xt", "card1", "device", "gpu_metrics"}, metrics{format: 1, content: 3, edge: known(24), junction: known(31), memory: known(48),
			activity: known(24), memoryActivity: known(0), watts: known(32), coreMHz: known(2011), memoryMHz: known(456), fanRPM: known(868), link: link{16, 16}, hasThrottle: true, media: known(0), energy: known(0)}},
		{[]string{"amd-gpu-metrics", "gpu_metrics"}, metrics{format: 1, content: 3, edge: known(36), junction: known(49), memory: known(36),
			activity: known(64), memoryActivity: known(6), watts: known(33), coreMHz: known(2165), memoryMHz: known(1000), fanRPM: fan0, link: link{8, 8}, hasThrottle: true, media: known(0), energy: known(3284043806)}},
		{[]string{"amd-gpu-metrics", "gpu_metrics_apu"}, metrics{format: 2, content: 2, edge: known(81.75), activity: known(100), watts: known(18.844),
			coreMHz: known(1040), memoryMHz: known(687), hasThrottle: true, throttle: gpu.ThrottlePower}},
		{[]string{"amd-sysfs", "phoenix", "card1", "device", "gpu_metrics"}, metrics{format: 2, content: 1, edge: known(25), activity: known(79), watts: known(3.401),
			coreMHz: known(800), memoryMHz: known(400), hasThrottle: true}},
		{[]string{"amd-sysfs", "strixpoint", "card1", "device", "gpu_metrics"}, metrics{format: 3, content: 0, edge: known(38.12), activity: known(3), watts: known(9.839),
			coreMHz: known(849), memoryMHz: known(836), media: known(0),
			// PROCHOT 28; SPL 1868, FPPT 92382 and SPPT 257; core 1795, graphics and SoC 0
			residency: residency{counts: [8]optional{0: known(94507), 1: known(1795), 2: known(28)}}}},
	} {
		t.Run(c.file[1], func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(fixture.Path(t, c.file...))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := decodeMetrics(b)
			if diff := cmp.Diff(c.want, got, clean); !ok || diff != "" {
				t.Errorf("ok %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestInvalidMetrics(t *testing.T) { // trap 29
	t.Parallel()
	captured, err := os.ReadFile(fixture.Path(t, "amd-gpu-metrics", "gpu_metrics_invalid"))
	if err != nil {
		t.Fatal(err)
	}
	understated := blob(1, 3, 120, nil)
	understated[0] = 40
	for name, b := range map[string][]byte{
		"captured": captured, "empty": nil, "header only": blob(1, 3, 120, nil)[:4], "cut": blob(1, 3, 120, nil)[:119],
		"smaller than its version": blob(1, 3, 100, nil), "longer than it says, which is too short": understated, "version 1.0": blob(1, 0, 96, nil), "version 1.9": blob(1, 9, 4000, nil),
		"version 2.0": blob(2, 0, 120, nil), "version 4.0": blob(4, 0, 500, nil),
	} {
		if m, ok := decodeMetrics(b); ok {
			t.Errorf("%s: got %+v, want it refused", name, m)
		}
	}
	if m, ok := decodeMetrics(blob(1, 3, 120, nil)); !ok || m.edge.known || m.watts.known || m.link != (link{}) || m.hasThrottle || m.fanRPM.known {
		t.Errorf("all unavailable: got %+v, %v", m, ok)
	}
}

// put writes values of 32 and 64 bits into a table.
func put(b []byte, words map[int]uint32, counters map[int]uint64) []byte {
	for at, v := range words {
		binary.LittleEndian.PutUint32(b[at:], v)
	}
	for at, v := range counters {
		binary.LittleEndian.PutUint64(b[at:], v)
	}
	return b
}

// The Instinct tables, laid out as the kernel's header says: where a field is differs from version to version.
func TestInstinctMetrics(t *testing.T) { // trap 29
	t.Parallel()
	for _, c := range []struct {
		content                                           byte
		size, width, core, uclocks, energy, replays, xgmi int
		video                                             []int // the first two engines
		counters                                          int   // cycles, then five residencies; 0 for none
		status                                            int
		parts                                             [2]int // the first dies of two partitions
	}{
		{4, 288, 48, 240, 280, 24, 88, 52, []int{16, 18}, 0, 0, [2]int{}},
		{5, 360, 112, 312, 352, 88, 152, 116, []int{16, 18}, 0, 0, [2]int{}},
		{6, 1664, 60, 264, 304, 16, 104, 64, []int{312 + 96, 312 + 168 + 98}, 32, 0, [2]int{312, 312 + 168}},
		{7, 2208, 68, 296, 336, 24, 112, 72, []int{344 + 96, 344 + 232 + 98}, 40, 264, [2]int{344, 344 + 232}},
		{8, 3872, 68, 296, 336, 24, 112, 72, []int{344 + 112, 344 + 440 + 114}, 40, 264, [2]int{344, 344 + 440}},
	} {
		values := map[int]uint16{4: 61, 6: 55, 10: 550, 12: 99, 14: 40, c.width: 16, c.width + 2: 320, c.core: 2100, c.uclocks: 1300,
			c.xgmi: 16, c.xgmi + 2: 32, c.video[0]: 10, c.video[1]: 40}
		words, want := map[int]uint32{}, metrics{format: 1, content: c.content, junction: known(61), memory: known(55), activity: known(99),
			memoryActivity: known(40), watts: known(550), coreMHz: known(2100), memoryMHz: known(1300), link: link{32, 16}, media: known(25),
			energy: known(65536000), replays: known(7), xgmi: xgmi{lanes: known(16), gigabits: known(32)}}
		if c.counters > 0 {
			words = map[int]uint32{c.counters: 1000, c.counters + 4: 1, c.counters + 8: 20, c.counters + 12: 300, c.counters + 16: 4000, c.counters + 20: 50000,
				c.parts[0]: 80, c.parts[0] + 4: 90, c.parts[1]: 5}
			want.residency = residency{cycles: known(1000), counts: [8]optional{0: known(20), 1: known(54300), 2: known(1)}}
			want.partitions = [maxPartitions]optional{known(85), known(5)}
		}
		if c.status > 0 {
			for at, v := range []uint16{1, 0, 2} {
				values[c.status+2*at] = v
			}
			want.xgmi.status = [maxLinks]linkStatus{linkUp, linkDown}
		}
		b := put(blob(1, c.content, c.size, values), words, map[int]uint64{c.energy: 65536000, c.replays: 7})
		got, ok := decodeMetrics(append(b, 0, 0, 0))
		if diff := cmp.Diff(want, got, clean); !ok || diff != "" {
			t.Errorf("1.%d: ok %v (-want +got):\n%s", c.content, ok, diff)
		}
		if e := got.joules(graphics{9, 4, 2}); e != known(1000) {
			t.Errorf("1.%d: %+v, want 1000 J", c.content, e)
		}
	}
}

// record is one attribute of gpu_metrics 1.9: values of that many bytes each.
func record(unit, kind, id uint64, width int, values ...uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, unit<<24|kind<<20|id<<10|uint64(len(values)))
	for _, v := range values {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], v)
		b = append(b, word[:width]...)
	}
	return b
}

// attributes is a gpu_metrics 1.9 of these records.
func attributes(count int32, records ...[]byte) []byte {
	b := []byte{0, 0, 1, 9}
	b = binary.LittleEndian.AppendUint32(b, uint32(count))
	for _, r := range records {
		b = append(b, r...)
	}
	binary.LittleEndian.PutUint16(b, uint16(len(b)))
	return b
}

// Types of attributes.
const (
	typeU8, typeS8, typeU16, typeS16, typeU32, typeS32, typeU64, typeS64 = 0, 1, 2, 3, 4, 5, 6, 7
)

func TestSelfDescribingMetrics(t *testing.T) { // trap 29
	t.Parallel()
	records := [][]byte{
		record(2, typeU16, 0, 2, 61), record(2, typeU16, 1, 2, 0xffff), record(3, typeU16, 3, 2, 550),
		record(10, typeU16, 4, 2, 99), record(10, typeU16, 5, 2, 40), record(0, typeU64, 7, 8, 65536000),
		record(0, typeU64, 9, 8, 1000), record(0, typeU64, 10, 8, 1), record(0, typeU64, 11, 8, 20), record(0, typeU64, 12, 8, 300),
		record(0, typeU64, 13, 8, 4000), record(0, typeU64, 14, 8, 50000), record(0, typeU16, 16, 2, 16), record(7, typeU16, 17, 2, 320),
		record(0, typeU16, 18, 2, 16), record(6, typeU16, 19, 2, 32), record(0, typeU64, 25, 8, 7), record(0, typeU16, 31, 2, 1, 0, 2, 1),
		record(1, typeU16, 33, 2, 2100, 2000), record(1, typeU16, 37, 2, 1300), record(10, typeU32, 40, 4, 80, 90, 0xffffffff),
		record(10, typeU16, 42, 2, 10, 40), record(2, typeU16, 48, 2, 50, 55, 0xffff, 53), record(2, typeU8, 900, 1, 1, 2, 3), // of a kernel to come
	}
	want := metrics{format: 1, content: 9, junction: known(61), memory: known(55), activity: known(99), memoryActivity: known(40), watts: known(550),
		coreMHz: known(2100), memoryMHz: known(1300), link: link{32, 16}, media: known(25), energy: known(65536000), replays: known(7),
		residency:  residency{cycles: known(1000), counts: [8]optional{0: known(20), 1: known(54300), 2: known(1)}},
		xgmi:       xgmi{known(16), known(32), [maxLinks]linkStatus{linkUp, linkDown, linkAbsent, linkUp}},
		partitions: [maxPartitions]optional{known(85)}}
	whole := attributes(int32(len(records)), records...)
	got, ok := decodeMetrics(append(whole, 0, 0))
	if diff := cmp.Diff(want, got, clean); !ok || diff != "" {
		t.Errorf("ok %v (-want +got):\n%s", ok, diff)
	}
	if got, ok := decodeMetrics(attributes(2, record(6, typeU16, 17, 2, 16), record(0, typeU16, 16, 2, 8))); !ok || got.link != (link{16, 8}) {
		t.Errorf("speed in whole GT/s: got %+v", got.link)
	}
	for name, b := range map[string][]byte{
		"more than there are": attributes(int32(len(records)+1), records...), "no value": attributes(1, record(3, typeU16, 3, 2)),
		"unknown type": attributes(1, record(3, 8, 3, 2, 1)), "value cut": attributes(1, record(3, typeU64, 3, 4, 1)), "no count": {6, 0, 1, 9, 0, 0}, "negative count": attributes(-5, records...),
		"shorter than it says": whole[:len(whole)-1],
	} {
		if got, ok := decodeMetrics(b); ok || got != (metrics{}) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	for name, b := range map[string][]byte{
		"another unit": attributes(1, record(9, typeU16, 3, 2, 550)), "negative": attributes(1, record(3, typeS16, 3, 2, 0xfffe)),
		"unavailable": attributes(1, record(3, typeS16, 3, 2, 0xffff)), "none": attributes(0),
	} {
		if got, ok := decodeMetrics(b); !ok || got.watts.known {
			t.Errorf("%s: got %v, %+v", name, ok, got.watts)
		}
	}
	if got, ok := decodeMetrics(attributes(1, record(3, typeS32, 3, 4, 550))); !ok || got.watts != known(550) {
		t.Errorf("signed: got %v, %+v", ok, got.watts)
	}
}

// The unit of the energy counter is certain for some cards only.
func TestJoules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		content byte
		g       graphics
		energy  optional
		want    optional
	}{
		{3, graphics{9, 0, 10}, known(65536), known(1)}, {1, graphics{9, 0, 8}, known(131072), known(2)},
		{3, graphics{10, 3, 0}, known(17691682), optional{}}, // a captured RX 6900 XT: 0.5 W on average if it were 2⁻¹⁶ J
		{3, graphics{9, 0, 10}, known(0), optional{}}, {7, graphics{}, known(65536), known(1)}, {9, graphics{}, optional{}, optional{}},
	} {
		got := metrics{format: 1, content: c.content, energy: c.energy}.joules(c.g)
		if got.known != c.want.known || got.known && got != c.want {
			t.Errorf("1.%d of %s: got %+v, want %+v", c.content, c.g.arch(), got, c.want)
		}
	}
}

func TestResidency(t *testing.T) {
	t.Parallel()
	counts := func(cycles optional, power, thermal float64) residency {
		return residency{cycles: cycles, counts: [8]optional{0: known(power), 1: known(thermal)}}
	}
	for name, c := range map[string]struct {
		before, after residency
		want          gpu.Throttle
		known         bool
	}{
		"nothing before":     {residency{}, counts(known(1), 5, 5), 0, false},
		"nothing now":        {counts(known(1), 5, 5), residency{}, 0, false},
		"still":              {counts(known(1), 5, 5), counts(known(2), 5, 5), 0, true},
		"power":              {counts(known(1), 5, 5), counts(known(2), 6, 5), gpu.ThrottlePower, true},
		"both":               {counts(optional{}, 5, 5), counts(optional{}, 6, 6), gpu.ThrottlePower | gpu.ThrottleThermal, true},
		"no cycle passed":    {counts(known(2), 5, 5), counts(known(2), 6, 6), 0, false},
		"counters went back": {counts(known(9), 5, 5), counts(known(2), 0, 0), 0, true},
	} {
		if got, known := c.after.since(c.before); got != c.want || known != c.known {
			t.Errorf("%s: got %v, %v", name, got.Reasons(), known)
		}
	}
}

func TestThrottleReasons(t *testing.T) {
	t.Parallel()
	for bit, want := range map[int]gpu.Throttle{0: gpu.ThrottlePower, 7: gpu.ThrottlePower, 16: gpu.ThrottleCurrent, 23: gpu.ThrottleCurrent,
		32: gpu.ThrottleThermal, 36: gpu.ThrottleThermal, 47: gpu.ThrottleThermal, 56: gpu.ThrottleOther} {
		b := blob(1, 3, 120, nil)
		binary.LittleEndian.PutUint64(b[112:], 1<<bit)
		if m, _ := decodeMetrics(b); !m.hasThrottle || m.throttle != want {
			t.Errorf("bit %d: got %v", bit, m.throttle.Reasons())
		}
	}
}

// The older tables have bits of each chip's own: what they mean is not told.
func TestThrottleOfOlderTables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		format, content byte
		size, at        int
	}{{1, 1, 96, 68}, {1, 2, 104, 68}, {2, 1, 120, 108}} {
		for bits, want := range map[uint32]gpu.Throttle{0: 0, 1 << 4: gpu.ThrottleOther} {
			if m, _ := decodeMetrics(put(blob(c.format, c.content, c.size, nil), map[int]uint32{c.at: bits}, nil)); !m.hasThrottle || m.throttle != want {
				t.Errorf("%d.%d, %x: got %v, %v", c.format, c.content, bits, m.hasThrottle, m.throttle.Reasons())
			}
		}
		if m, _ := decodeMetrics(blob(c.format, c.content, c.size, nil)); m.hasThrottle {
			t.Errorf("%d.%d, unavailable: got %v", c.format, c.content, m.throttle.Reasons())
		}
	}
}

// Format 2 counts activity in percent or hundredths of one, by firmware: only a value above 100 is certain.
func TestPercentOfAPU(t *testing.T) {
	t.Parallel()
	for raw, want := range map[uint16]optional{79: {}, 100: {}, 4200: known(42), 10000: known(100), 0xffff: {}} {
		m, _ := decodeMetrics(blob(2, 1, 120, map[int]uint16{28: raw}))
		if got := m.percent(); got.known != want.known || got.known && got.value != want.value {
			t.Errorf("%d: got %+v, want %+v", raw, got, want)
		}
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add(blob(1, 3, 120, map[int]uint16{4: 56}))
	f.Add(blob(1, 8, 3872, nil))
	f.Add(blob(2, 2, 128, nil))
	f.Add(blob(3, 0, 264, nil))
	f.Add(attributes(2, record(3, typeU16, 3, 2, 550), record(10, typeU32, 40, 4, 80, 90)))
	f.Add(attributes(1<<30, record(0, typeS64, 31, 8, 1)))
	f.Add([]byte{4, 0, 1, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := decodeMetrics(b)
		if !ok && m != (metrics{}) {
			t.Errorf("refused, but gives %+v", m)
		}
		for _, o := range []optional{m.edge, m.junction, m.memory, m.activity, m.watts, m.coreMHz, m.fanRPM, m.percent(), m.media, m.partitions[0]} {
			if o.known && (o.value < 0 || o.value > 1<<53) {
				t.Errorf("value %v out of any table's range", o.value)
			}
		}
		if m.link != (link{}) && (generation(m.link.gigatransfers) == 0 || m.link.width < 1) {
			t.Errorf("link %+v", m.link)
		}
	})
}
