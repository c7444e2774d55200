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
	cmp.AllowUnexported(metrics{}, link{}),
	cmp.Comparer(func(a, b optional) bool { return a.known == b.known && (!a.known || a.value == b.value) }),
}

func TestGoldenMetrics(t *testing.T) { // 29
	t.Parallel()
	fan0 := known(0)
	for _, c := range []struct {
		file []string
		want metrics
	}{
		{[]string{"amd-sysfs", "rx6900xt", "card0", "device", "gpu_metrics"}, metrics{format: 1, content: 3, edge: known(56), junction: known(59), memory: known(54),
			activity: known(3), memoryActivity: known(0), watts: known(36), coreMHz: known(500), memoryMHz: known(1000), fanRPM: fan0, link: link{16, 16}, hasThrottle: true}},
		{[]string{"amd-sysfs", "rx7800xt", "card1", "device", "gpu_metrics"}, metrics{format: 1, content: 3, edge: known(24), junction: known(31), memory: known(48),
			activity: known(24), memoryActivity: known(0), watts: known(32), coreMHz: known(2011), memoryMHz: known(456), fanRPM: known(868), link: link{16, 16}, hasThrottle: true}},
		{[]string{"amd-gpu-metrics", "gpu_metrics"}, metrics{format: 1, content: 3, edge: known(36), junction: known(49), memory: known(36),
			activity: known(64), memoryActivity: known(6), watts: known(33), coreMHz: known(2165), memoryMHz: known(1000), fanRPM: fan0, link: link{8, 8}, hasThrottle: true}},
		{[]string{"amd-gpu-metrics", "gpu_metrics_apu"}, metrics{format: 2, content: 2, edge: known(81.75), activity: known(100), watts: known(18.844),
			coreMHz: known(1040), memoryMHz: known(687), hasThrottle: true, throttle: gpu.ThrottlePower}},
		{[]string{"amd-sysfs", "phoenix", "card1", "device", "gpu_metrics"}, metrics{format: 2, content: 1, edge: known(25), activity: known(79), watts: known(3.401),
			coreMHz: known(800), memoryMHz: known(400)}},
		{[]string{"amd-sysfs", "strixpoint", "card1", "device", "gpu_metrics"}, metrics{format: 3, content: 0, edge: known(38.12), activity: known(3), watts: known(9.839),
			coreMHz: known(849), memoryMHz: known(836)}},
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

func TestInvalidMetrics(t *testing.T) { // 29
	t.Parallel()
	captured, err := os.ReadFile(fixture.Path(t, "amd-gpu-metrics", "gpu_metrics_invalid"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"captured": captured, "empty": nil, "header only": blob(1, 3, 120, nil)[:4], "cut": blob(1, 3, 120, nil)[:119],
		"smaller than its version": blob(1, 3, 100, nil), "version 1.0": blob(1, 0, 96, nil), "version 1.9": blob(1, 9, 4000, nil),
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

// The Instinct tables: where link and clocks are differs from version to version.
func TestInstinctMetrics(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		content                    byte
		size, width, core, uclocks int
	}{{4, 288, 48, 240, 280}, {5, 360, 112, 312, 352}, {6, 1664, 60, 264, 304}, {7, 2208, 68, 296, 336}, {8, 3872, 68, 296, 336}} {
		b := blob(1, c.content, c.size, map[int]uint16{4: 61, 6: 55, 10: 550, 12: 99, 14: 40, c.width: 16, c.width + 2: 320, c.core: 2100, c.uclocks: 1300})
		got, ok := decodeMetrics(append(b, 0, 0, 0))
		want := metrics{format: 1, content: c.content, junction: known(61), memory: known(55), activity: known(99), memoryActivity: known(40),
			watts: known(550), coreMHz: known(2100), memoryMHz: known(1300), link: link{32, 16}}
		if diff := cmp.Diff(want, got, clean); !ok || diff != "" {
			t.Errorf("1.%d: ok %v (-want +got):\n%s", c.content, ok, diff)
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
	f.Add([]byte{4, 0, 1, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := decodeMetrics(b)
		if !ok && m != (metrics{}) {
			t.Errorf("refused, but gives %+v", m)
		}
		for _, o := range []optional{m.edge, m.junction, m.memory, m.activity, m.watts, m.coreMHz, m.fanRPM, m.percent()} {
			if o.known && (o.value < 0 || o.value >= 1<<32) {
				t.Errorf("value %v out of any table's range", o.value)
			}
		}
		if m.link != (link{}) && (generation(m.link.gigatransfers) == 0 || m.link.width < 1) {
			t.Errorf("link %+v", m.link)
		}
	})
}
