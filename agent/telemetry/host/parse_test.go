package host

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"muster/shared/gpu"
)

// The variants of facts/telemetry.md 1.7.
func TestParseTorchVersion(t *testing.T) { // trap 41
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		want     gpu.Torch
	}{
		{"ROCm, typed", "from typing import Optional\n\n__all__ = ['__version__']\n__version__ = '2.3.1+rocm5.7'\ndebug = False\ncuda: Optional[str] = None\ngit_version = 'abc'\nhip: Optional[str] = '5.7.31921-d1770ee1b'\n",
			gpu.Torch{Version: "2.3.1+rocm5.7", HIP: "5.7.31921-d1770ee1b"}},
		{"CUDA, typed", "__version__ = '2.9.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\nxpu: Optional[str] = None\n",
			gpu.Torch{Version: "2.9.0+cu130", CUDA: "13.0"}},
		{"untyped", "__version__ = '1.13.1+cu117'\ndebug = False\ncuda = '11.8'\ngit_version = '49444c3e546bf240bed24a101e747422d1f8a0ee'\nhip = None\n",
			gpu.Torch{Version: "1.13.1+cu117", CUDA: "11.8"}},
		{"CPU", "__version__ = \"2.1.0+cpu\"\ncuda: Optional[str] = None\n", gpu.Torch{Version: "2.1.0+cpu"}},
		{"rocm and hip", "__version__ = '2.10.0'\nhip: Optional[str] = '7.0.51831'\nrocm: Optional[str] = '7.0.0'\n", gpu.Torch{Version: "2.10.0", HIP: "7.0.51831"}},
		{"rocm only", "__version__ = '2.11.0'\nhip: Optional[str] = None\nrocm: Optional[str] = '7.1.0'\n", gpu.Torch{Version: "2.11.0", HIP: "7.1.0"}},
		{"CRLF", "__version__ = '2.3.1'\r\ncuda: Optional[str] = '12.1'\r\n", gpu.Torch{Version: "2.3.1", CUDA: "12.1"}},
		{"comment, no end of line", "__version__='2.0' # built by hand", gpu.Torch{Version: "2.0"}},
		{"newer type", "__version__: str = '2.0'\ncuda: str | None = '12.1'\n", gpu.Torch{Version: "2.0", CUDA: "12.1"}},
		{"no version", "cuda = '11.8'\n", gpu.Torch{}},
		{"None as version", "__version__ = None\n", gpu.Torch{}},
		{"code is not run", "__version__ = open('/etc/passwd').read()\n", gpu.Torch{}},
		{"indented is not the module's", "  __version__ = '2.0'\n", gpu.Torch{}},
		{"terminal codes", "__version__ = '2.0\x1b[31m'\n", gpu.Torch{Version: "2.0[31m"}},
		{"empty", "", gpu.Torch{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseTorchVersion([]byte(tt.in))
			if ok != (tt.want.Version != "") || ok && got != tt.want {
				t.Errorf("%+v, %v: want %+v", got, ok, tt.want)
			}
		})
	}
}

func TestParseCPUInfo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in, model string
		count           int
	}{
		{"x86", "processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 7763 64-Core Processor\n", "AMD EPYC 7763 64-Core Processor", 2},
		{"ARM", "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\n\nprocessor\t: 1\n", "", 2},
		{"Raspberry", "processor\t: 0\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5", 1},
		{"old ARM", "Processor\t: ARMv7\nprocessor\t: 0\n", "", 1},
		{"empty", "", "", 0},
	} {
		model, count := parseCPUInfo([]byte(tt.in))
		if model != tt.model || count != tt.count {
			t.Errorf("%s: %q, %d: want %q, %d", tt.name, model, count, tt.model, tt.count)
		}
	}
}

func TestParseMeminfo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		want     memory
	}{
		{"usual", "MemTotal:       65835936 kB\nMemFree: 1 kB\nMemAvailable:   61234567 kB\n", memory{65835936 << 10, 61234567 << 10, true}},
		{"before 3.14", "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 20 kB\n", memory{100 << 10, 35 << 10, true}},
		{"total only", "MemTotal: 100 kB\n", memory{100 << 10, 0, false}},
		{"more available than there is", "MemTotal: 100 kB\nMemAvailable: 200 kB\n", memory{100 << 10, 100 << 10, true}},
		{"another unit", "MemTotal: 100 MB\n", memory{}},
		{"negative", "MemTotal: -100 kB\n", memory{}},
		{"empty", "", memory{}},
	} {
		got, ok := parseMeminfo([]byte(tt.in))
		if ok != (tt.want.total > 0) || ok && got != tt.want {
			t.Errorf("%s: %+v, %v: want %+v", tt.name, got, ok, tt.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	got, ok := parseStat([]byte("cpu  10 1 20 300 40 2 3 4 5 6\ncpu0 1 1 1 1\n"))
	if want := (cpuTimes{total: 380, idle: 340}); !ok || got != want {
		t.Errorf("%+v, %v: want %+v, without the guest's time, which is in user already", got, ok, want)
	}
	for _, in := range []string{"", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4", "cpu 1 2 3 x", "intr 1 2 3 4"} {
		if got, ok := parseStat([]byte(in)); ok {
			t.Errorf("%q: %+v", in, got)
		}
	}
	if p := (cpuTimes{200, 90}).percentSince(cpuTimes{100, 100}); *p != 100 {
		t.Errorf("idle ran backwards: %v %%", *p)
	}
	if p := (cpuTimes{50, 10}).percentSince(cpuTimes{100, 20}); p != nil {
		t.Errorf("time ran backwards: %v %%", *p)
	}
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	in := []string{"python3.9", "python3", "python3.11", "rocm-6.10.0", "rocm-6.9.1", "python3.10", "rocm-6.9"}
	slices.SortFunc(in, compareVersions)
	want := []string{"python3", "python3.9", "python3.10", "python3.11", "rocm-6.9", "rocm-6.9.1", "rocm-6.10.0"}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseTorchVersion(f *testing.F) {
	f.Add([]byte("__version__ = '2.3.1+rocm5.7'\r\nhip: Optional[str] = None\n"))
	f.Add([]byte("__version__ = \"\x00\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := parseTorchVersion(data)
		for _, s := range []string{got.Version, got.HIP, got.CUDA} {
			if len(s) > 128 || s != printable(s) {
				t.Fatalf("%q", s)
			}
		}
		if ok == (got.Version == "") {
			t.Fatalf("%v with %q", ok, got.Version)
		}
	})
}

func FuzzParseHIPVersion(f *testing.F) {
	f.Add([]byte(hipFile))
	f.Add([]byte("#define HIP_VERSION_MAJOR 5\n#define HIP_VERSION_MINOR 7\n#define HIP_VERSION_PATCH 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v := parseHIPVersion(data); v != "" && (strings.Count(v, ".") != 2 || strings.HasSuffix(v, "-") || v != strings.TrimSpace(v) || len(v) > 300) {
			t.Fatalf("%q", v)
		}
		if v := parseROCmVersion(data); len(v) > 128 || v != printable(v) {
			t.Fatalf("%q", v)
		}
	})
}

func FuzzParseProc(f *testing.F) {
	f.Add([]byte("cpu  10 1 20 300 40 2 3 4 5 6\n"))
	f.Add([]byte("MemTotal: 65835936 kB\nMemAvailable: 61234567 kB\n"))
	f.Add([]byte("processor\t: 0\nmodel name\t: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, ok := parseMeminfo(data); ok && m.available > m.total {
			t.Fatalf("%+v", m)
		}
		if now, ok := parseStat(data); ok {
			if p := now.percentSince(cpuTimes{1, 1}); p != nil && !(*p >= 0 && *p <= 100) {
				t.Fatalf("%+v: %v %%", now, *p)
			}
		}
		if model, count := parseCPUInfo(data); model != printable(model) || count < 0 {
			t.Fatalf("%q, %d", model, count)
		}
	})
}

func FuzzParseFoundPaths(f *testing.F) {
	f.Add([]byte(`{"dir_info": {"editable": true}, "url": "file:///src"}`))
	f.Add([]byte("/src\nimport x\n"))
	f.Add([]byte("home = /usr/bin\ninclude-system-site-packages = true\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range append(parseDirectURL(data), parsePaths(data)...) {
			if !strings.HasPrefix(p, "/") || strings.Contains(p+"/", "/../") {
				t.Fatalf("%q", p)
			}
		}
		parseEnvironment(data)
	})
}
