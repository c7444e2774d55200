package nvml

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
)

func TestMultiprocessors(t *testing.T) { // trap 11
	t.Parallel()
	for _, c := range []struct {
		cores int
		c     capability
		want  *int
	}{
		{6912, capability{8, 0}, new(108)}, {16896, capability{9, 0}, new(132)}, {7424, capability{8, 9}, new(58)}, {2560, capability{7, 5}, new(40)},
		{5120, capability{7, 0}, new(80)}, {3584, capability{6, 0}, new(56)}, {3584, capability{6, 1}, new(28)}, {2880, capability{3, 5}, new(15)},
		{16897, capability{9, 0}, nil}, {0, capability{9, 0}, nil}, {-1, capability{9, 0}, nil}, {4096, capability{99, 0}, nil}, {4096, capability{}, nil},
	} {
		if got := multiprocessors(c.cores, c.c); !cmp.Equal(got, c.want) {
			t.Errorf("%d cores of %s: got %s", c.cores, c.c.text(), cmp.Diff(c.want, got))
		}
	}
}

func TestTexts(t *testing.T) { // traps 8, 9
	t.Parallel()
	for v, want := range map[int]string{12040: "12.4", 13010: "13.1", 11080: "11.8", 0: "", -1: ""} {
		if got := cudaText(v); got != want {
			t.Errorf("CUDA %d: got %q, want %q", v, got, want)
		}
	}
	for in, want := range map[string]string{"00000000:1A:00.0": "0000:1a:00.0", "0000:1a:00.0": "0000:1a:00.0", "00010000:E1:1F.7": "10000:e1:1f.7",
		"": "", "1A:00.0": "", "00000000:1A:20.0": "", "00000000:1A:00.9": "", "nonsense": ""} {
		if got := pciAddress(in); got != want {
			t.Errorf("bus id %q: got %q, want %q", in, got, want)
		}
	}
	if got := (capability{12, 0}).arch(); got != "sm_120" {
		t.Errorf("got %s, want sm_120", got)
	}
	if got := status(4711).String(); got != "NVML error 4711" {
		t.Errorf("got %q", got)
	}
}

func TestIntegrated(t *testing.T) { // trap 10
	t.Parallel()
	for _, c := range []struct {
		name string
		c    capability
		want bool
	}{
		{"NVIDIA GB10", capability{}, true}, {"Orin (nvgpu)", capability{8, 7}, true}, {"NVIDIA Thor", capability{11, 0}, true}, {"Xavier", capability{}, true},
		{"NVIDIA GB100", capability{10, 0}, false}, {"NVIDIA GH200 480GB", capability{9, 0}, false}, {"NVIDIA RTX 4090", capability{8, 9}, false}, {"", capability{}, false},
	} {
		if got := integrated(c.name, c.c); got != c.want {
			t.Errorf("%s %s: got %v", c.name, c.c.text(), got)
		}
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint64]gpu.Throttle{0: 0, 0x1: gpu.ThrottleIdle, 0x2: gpu.ThrottleUser, 0x4: gpu.ThrottlePower, 0x8: gpu.ThrottleHardware,
		0x10: gpu.ThrottleSync, 0x20: gpu.ThrottleThermal, 0x40: gpu.ThrottleThermal, 0x80: gpu.ThrottleHardware, 0x100: gpu.ThrottleOther, 0x200: gpu.ThrottlePower, 0x400: gpu.ThrottleOther, 1 << 40: gpu.ThrottleOther,
		0x44: gpu.ThrottlePower | gpu.ThrottleThermal} {
		if got := throttle(bits); got != want {
			t.Errorf("%#x: got %v, want %v", bits, got.Reasons(), want.Reasons())
		}
	}
}

func FuzzBusID(f *testing.F) {
	f.Add("00000000:1A:00.0")
	f.Add("::.")
	f.Fuzz(func(t *testing.T, s string) {
		if got := pciAddress(s); got != "" && pciAddress(got) != got {
			t.Errorf("%q: got %q, which is not stable", s, got)
		}
	})
}

func FuzzMeminfo(f *testing.F) {
	f.Add("MemTotal:       125000000 kB\nMemFree: 1 kB\nMemAvailable:   100000000 kB\n")
	f.Add("MemTotal: 1 kB\nMemAvailable: 2 kB\nMemTotal:18446744073709551615 kB")
	f.Fuzz(func(t *testing.T, text string) {
		if m, ok := mainMemory(text); ok && (m.total == 0 || m.used > m.total) {
			t.Errorf("%q: got %+v", text, m)
		}
	})
}
