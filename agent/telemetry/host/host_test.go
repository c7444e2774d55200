package host

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"muster/agent/fixture"
	"muster/shared/gpu"
)

// tree writes files and links ("-> target") below a folder of the test's own.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func static(t *testing.T, r *Reader) gpu.Host {
	t.Helper()
	h, err := r.Static(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCapturedTree(t *testing.T) {
	t.Parallel()
	h := static(t, New(Config{SysRoot: fixture.Root(t, "amd-mi25x8")}))
	want := &gpu.Torch{Version: "2.3.1+rocm5.7", HIP: "5.7.31921-d1770ee1b", Path: "/usr/lib/python3/dist-packages/torch"}
	if diff := cmp.Diff(want, h.Torch); diff != "" {
		t.Error(diff)
	}
	if h.ROCmVersion != "5.7.0-63" || h.HIPVersion != "5.7.31921-d1770ee1b" {
		t.Errorf("ROCm %q, HIP %q", h.ROCmVersion, h.HIPVersion)
	}
	if h.CPUCount < 1 || h.MemoryBytes == 0 || h.Platform != runtime.GOOS || h.KernelVersion == "" || h.Name == "" {
		t.Errorf("the real machine: %+v", h)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	r := New(Config{SysRoot: plant(t, nil)})
	first, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.CPUPercent != nil {
		t.Errorf("CPU %v before any time passed", *first.CPUPercent)
	}
	if first.MemoryTotalBytes == nil || first.MemoryUsedBytes == nil || *first.MemoryUsedBytes > *first.MemoryTotalBytes {
		t.Errorf("%+v", first)
	}
}

func TestReadWithoutProcIsAnError(t *testing.T) {
	t.Parallel()
	r := New(Config{})
	r.proc = tree{plant(t, nil)}
	if got, err := r.Read(t.Context()); err == nil || got != (gpu.HostReading{}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := r.Static(t.Context()); err == nil {
		t.Error("Static found a machine without /proc")
	}
}

func TestReadMeasuresFromOneTimeToTheNext(t *testing.T) {
	t.Parallel()
	root := plant(t, map[string]string{"proc/stat": "cpu  100 0 0 900 0 0 0 0 0 0\n", "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 250 kB\n"})
	r := New(Config{})
	r.proc = tree{root}
	for i, tt := range []struct {
		stat string
		want *float64
	}{
		{"cpu  100 0 0 900 0 0 0 0 0 0\n", nil},
		{"cpu  125 0 0 975 0 0 0 0 0 0\n", ptr(25.0)},
		{"cpu  125 0 0 975 0 0 0 0 0 0\n", nil},
		{"garbage\n", nil},
		{"cpu  225 0 0 975 0 0 0 0 0 0\n", ptr(100.0)},
	} {
		if err := os.WriteFile(filepath.Join(root, "proc/stat"), []byte(tt.stat), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got.CPUPercent); diff != "" || *got.MemoryUsedBytes != 750<<10 {
			t.Errorf("reading %d: %s, memory %d", i, diff, *got.MemoryUsedBytes)
		}
	}
}

func ptr[T any](v T) *T { return &v }

const torchFile = "__version__ = '2.4.0+cu121'\ncuda: Optional[str] = '12.1'\nhip: Optional[str] = None\n"

// numbered is a version file that says from where it was taken.
func numbered(n string) string { return "__version__ = '" + n + "'\n" }

func TestTorchBelowASystemRoot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, python string
		files        map[string]string
		want         string // version; "" for none
	}{
		{"nothing", "", nil, ""},
		{"Debian", "", map[string]string{"usr/lib/python3/dist-packages/torch/version.py": numbered("1")}, "1"},
		{"pip as root", "", map[string]string{"usr/local/lib/python3.11/site-packages/torch/version.py": numbered("2")}, "2"},
		{"conda", "", map[string]string{"opt/conda/lib/python3.9/site-packages/torch/version.py": numbered("3")}, "3"},
		{"distribution before local", "", map[string]string{
			"usr/local/lib/python3.11/dist-packages/torch/version.py": numbered("local"), "usr/lib/python3/dist-packages/torch/version.py": numbered("dist"),
		}, "dist"},
		{"newer Python first", "", map[string]string{
			"usr/lib/python3.9/site-packages/torch/version.py": numbered("old"), "usr/lib/python3.11/site-packages/torch/version.py": numbered("new"),
		}, "new"},
		{"configured", "/srv/env/bin/python", map[string]string{
			"srv/env/bin/python": "-> /usr/bin/python3", "srv/env/pyvenv.cfg": "home = /usr/bin\n", "usr/bin/python3": "",
			"srv/env/lib/python3.11/site-packages/torch/version.py": numbered("env"), "usr/lib/python3/dist-packages/torch/version.py": numbered("dist"),
		}, "env"},
		{"configured without PyTorch", "/srv/env/bin/python", map[string]string{
			"srv/env/bin/python": "-> /usr/bin/python3", "srv/env/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n", "usr/bin/python3": "",
			"usr/lib/python3/dist-packages/torch/version.py": numbered("dist"),
		}, ""},
		{"environment that includes the system", "/srv/env/bin/python", map[string]string{
			"srv/env/bin/python": "-> /usr/bin/python3", "srv/env/pyvenv.cfg": "home = /usr/bin\r\nInclude-System-Site-Packages = True\r\n",
			"usr/bin/python3": "-> python3.11", "usr/bin/python3.11": "", "usr/lib/python3/dist-packages/torch/version.py": numbered("dist"),
		}, "dist"},
		{"environment that names itself", "/srv/env", map[string]string{
			"srv/env/pyvenv.cfg": "home = /srv\ninclude-system-site-packages = true\n", "srv/python3": "-> env",
		}, ""},
		{"folder of an environment", "/srv/env", map[string]string{"srv/env/lib/python3.12/site-packages/torch/version.py": numbered("env")}, "env"},
		{"folder of packages", "/srv/lib", map[string]string{"srv/lib/torch/version.py": numbered("lib")}, "lib"},
		{"configured through links", "/usr/local/bin/py", map[string]string{
			"usr/local/bin/py": "-> ../../../opt/conda/bin/python", "opt/conda/bin/python": "-> python3.9", "opt/conda/bin/python3.9": "",
			"opt/conda/lib/python3.9/site-packages/torch/version.py": numbered("conda"), "opt/conda/lib/python3.12/site-packages/torch/version.py": numbered("another's"),
		}, "conda"},
		{"link to an absolute path stays below", "", map[string]string{
			"usr/lib/python3/dist-packages/torch": "-> /srv/torch", "srv/torch/version.py": numbered("inside"),
		}, "inside"},
		{"link that leads nowhere", "", map[string]string{"usr/lib/python3/dist-packages/torch": "-> /nowhere"}, ""},
		{"link to itself", "", map[string]string{"usr/lib/python3/dist-packages": "-> dist-packages"}, ""},
		{"editable by pip", "", map[string]string{
			"usr/lib/python3/dist-packages/torch-2.5.dist-info/direct_url.json": `{"dir_info": {"editable": true}, "url": "file:///src/py%20torch"}`,
			"src/py torch/torch/version.py":                                     numbered("edit"),
		}, "edit"},
		{"installed from a folder", "", map[string]string{
			"usr/lib/python3/dist-packages/torch-2.5.dist-info/direct_url.json": `{"dir_info": {}, "url": "file:///src"}`, "src/torch/version.py": numbered("edit"),
		}, ""},
		{"editable by .pth", "", map[string]string{
			"usr/lib/python3/dist-packages/__editable__.torch-2.5.pth": "import x\r\n/src\r\n", "src/torch/version.py": numbered("edit"),
		}, "edit"},
		{"editable by .egg-link", "", map[string]string{"usr/lib/python3/dist-packages/torch.egg-link": "/src\n.", "src/torch/version.py": numbered("edit")}, "edit"},
		{"a folder in place of the file", "", map[string]string{"usr/lib/python3/dist-packages/torch/version.py/x": ""}, ""},
		{"a megabyte", "", map[string]string{"usr/lib/python3/dist-packages/torch/version.py": numbered("1") + strings.Repeat("x = 1\n", 200_000)}, "1"},
		{"a version after a megabyte", "", map[string]string{"usr/lib/python3/dist-packages/torch/version.py": strings.Repeat("x = 1\n", 200_000) + numbered("1")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := static(t, New(Config{SysRoot: plant(t, tt.files), Python: tt.python}))
			got := ""
			if h.Torch != nil {
				got = h.Torch.Version
			}
			if got != tt.want {
				t.Errorf("%+v: want %q", h.Torch, tt.want)
			}
		})
	}
}

func TestOnlyBelowTheSystemRoot(t *testing.T) {
	t.Parallel()
	outside := plant(t, map[string]string{"torch/version.py": torchFile, "share/hip/version": hipFile, ".info/version": "6.0.0\n"})
	root := plant(t, map[string]string{
		"usr/lib/python3/dist-packages": "-> " + outside,
		"usr/lib/python3.9":             "-> ../../../../../../../../../../" + outside,
		"opt/rocm":                      "-> " + outside,
	})
	r := New(Config{SysRoot: root})
	r.getenv = func(name string) string {
		return map[string]string{"VIRTUAL_ENV": outside, "ROCM_PATH": outside, "PATH": outside, "HOME": outside}[name]
	}
	if h := static(t, r); h.Torch != nil || h.ROCmVersion != "" || h.HIPVersion != "" {
		t.Errorf("found outside of the root: %+v, ROCm %q, HIP %q", h.Torch, h.ROCmVersion, h.HIPVersion)
	}
}

func TestTorchOfTheMachine(t *testing.T) {
	t.Parallel()
	dir := plant(t, map[string]string{
		"env/pyvenv.cfg": "home = /nowhere\n", "env/lib/python3.11/site-packages/torch/version.py": numbered("env"),
		"conda/bin/python3": "-> python3.12", "conda/bin/python3.12": "", "conda/lib/python3.12/site-packages/torch/version.py": numbered("path"),
		"home/.local/lib/python3.12/site-packages/torch/version.py": numbered("user"),
		"empty/x": "",
	})
	for _, tt := range []struct {
		name, python string
		env          map[string]string
		want         string
	}{
		{"the environment before PATH", "", map[string]string{"VIRTUAL_ENV": dir + "/env", "PATH": dir + "/conda/bin"}, "env"},
		{"PATH", "", map[string]string{"PATH": "relative:" + dir + "/empty:" + dir + "/conda/bin"}, "path"},
		{"packages of the user first", "", map[string]string{"PATH": dir + "/conda/bin", "HOME": dir + "/home"}, "user"},
		{"the configured one before all", dir + "/conda/bin/python3", map[string]string{"VIRTUAL_ENV": dir + "/env"}, "path"},
		{"a name on PATH", "python3.12", map[string]string{"PATH": dir + "/conda/bin", "VIRTUAL_ENV": dir + "/env"}, "path"},
		{"no Python", "", map[string]string{"PATH": dir + "/empty"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := New(Config{SysRoot: "/", Python: tt.python})
			r.getenv = func(name string) string { return tt.env[name] }
			got := ""
			if found := r.torch(); found != nil {
				got = found.Version
			}
			if got != tt.want {
				t.Errorf("%q: want %q", got, tt.want)
			}
		})
	}
}

// A FIFO has no writer here: opening it the usual way would wait for ever.
func TestFIFOInPlaceOfAFile(t *testing.T) {
	t.Parallel()
	root := plant(t, map[string]string{"usr/lib/python3/dist-packages/torch/x": "", "opt/rocm/.info/x": "", "opt/rocm/share/hip/x": ""})
	for _, name := range []string{"usr/lib/python3/dist-packages/torch/version.py", "opt/rocm/.info/version", "opt/rocm/share/hip/version"} {
		if err := syscall.Mkfifo(filepath.Join(root, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if h := static(t, New(Config{SysRoot: root})); h.Torch != nil || h.ROCmVersion != "" || h.HIPVersion != "" {
		t.Errorf("%+v", h)
	}
}

const hipFile = "HIP_VERSION_MAJOR=6\nHIP_VERSION_MINOR=3\nHIP_VERSION_PATCH=42131\nHIP_VERSION_GITHASH=fa1d09cbd\n"

func TestROCm(t *testing.T) { // trap 41
	t.Parallel()
	header := "#ifndef X\n#define HIP_VERSION_MAJOR 5\n#define HIP_VERSION_MINOR 7\n# define HIP_VERSION_PATCH 31921\n#define HIP_VERSION_GITHASH \"d1770ee1b\"\n#define HIP_VERSION (HIP_VERSION_MAJOR * 10000000)\n"
	for _, tt := range []struct {
		name      string
		files     map[string]string
		rocm, hip string
	}{
		{"none", nil, "", ""},
		{"usual", map[string]string{"opt/rocm/.info/version": "6.3.1-48\n", "opt/rocm/share/hip/version": hipFile}, "6.3.1-48", "6.3.42131-fa1d09cbd"},
		{"CRLF", map[string]string{"opt/rocm/.info/version": "6.3.1-48\r\n", "opt/rocm/share/hip/version": strings.ReplaceAll(hipFile, "\n", "\r\n")}, "6.3.1-48", "6.3.42131-fa1d09cbd"},
		{"old place", map[string]string{"opt/rocm/.info/version-dev": "5.2.0", "opt/rocm/bin/.hipVersion": hipFile}, "5.2.0", "6.3.42131-fa1d09cbd"},
		{"header only", map[string]string{"opt/rocm/include/hip/hip_version.h": header}, "", "5.7.31921-d1770ee1b"},
		{"alternatives", map[string]string{
			"opt/rocm": "-> /etc/alternatives/rocm", "etc/alternatives/rocm": "-> /opt/rocm-6.10.0",
			"opt/rocm-6.10.0/.info/version": "6.10.0-1", "opt/rocm-6.10.0/share/hip/version": hipFile,
		}, "6.10.0-1", "6.3.42131-fa1d09cbd"},
		{"newest of several", map[string]string{"opt/rocm-6.9.0/.info/version": "6.9.0", "opt/rocm-6.10.0/.info/version": "6.10.0"}, "6.10.0", ""},
		{"Debian", map[string]string{"usr/share/hip/version": "HIP_VERSION_MAJOR=5\nHIP_VERSION_MINOR=2\nHIP_VERSION_PATCH=21153\nHIP_VERSION_GITHASH=\n"}, "", "5.2.21153"},
		{"HIP of the same installation", map[string]string{"opt/rocm/.info/version": "6.0.0", "usr/share/hip/version": hipFile}, "6.0.0", ""},
		{"not a version", map[string]string{"opt/rocm/.info/version": "<html>"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := static(t, New(Config{SysRoot: plant(t, tt.files)}))
			if h.ROCmVersion != tt.rocm || h.HIPVersion != tt.hip {
				t.Errorf("ROCm %q, HIP %q: want %q, %q", h.ROCmVersion, h.HIPVersion, tt.rocm, tt.hip)
			}
		})
	}
}

func TestROCmPath(t *testing.T) {
	t.Parallel()
	dir := plant(t, map[string]string{".info/version": "7.0.0\n", "share/hip/version": hipFile})
	r := New(Config{SysRoot: "/"})
	r.getenv = func(name string) string { return map[string]string{"ROCM_PATH": dir}[name] }
	if rocm, hip := r.rocm(); rocm != "7.0.0" || hip != "6.3.42131-fa1d09cbd" {
		t.Errorf("%q, %q", rocm, hip)
	}
}
