package amdgpu

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// machine is a system root that a test builds in a folder of its own.
type machine struct {
	t    testing.TB
	root string
}

func newMachine(t testing.TB) machine {
	m := machine{t, t.TempDir()}
	m.file("proc/sys/kernel/osrelease", "6.14.0\n")
	return m
}

func (m machine) path(inside string) string { return filepath.Join(m.root, inside) }

// file writes a file and the folders above it.
func (m machine) file(inside, content string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(inside)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(inside), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) remove(inside string) {
	m.t.Helper()
	if err := os.RemoveAll(m.path(inside)); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) link(inside, target string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(inside)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(target, m.path(inside)); err != nil {
		m.t.Fatal(err)
	}
}

// copy copies a captured folder.
func (m machine) copy(inside, from string) {
	m.t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		m.file(filepath.Join(inside, rel), string(b))
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// pci puts a device on the bus, as cardN when n is at least 0, and gives its folder.
func (m machine) pci(address string, n string) (dir string) {
	m.t.Helper()
	dir = "sys/devices/pci0000:00/" + address
	m.link("sys/bus/pci/devices/"+address, "../../../devices/pci0000:00/"+address)
	if n != "" {
		m.link("sys/class/drm/card"+n, "../../devices/pci0000:00/"+address+"/drm/card"+n)
		m.file(dir+"/drm/card"+n+"/dev", "226:"+n+"\n")
		m.link(dir+"/drm/card"+n+"/device", "../../../"+address)
	}
	return dir
}

// plain puts a plain MI25 on the bus: what a test changes of it is what the test is about.
func (m machine) plain(address, n string) (dir string) {
	m.t.Helper()
	dir = m.pci(address, n)
	for name, content := range map[string]string{
		"uevent":   "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\nPCI_SUBSYS_ID=1002:0C35\nPCI_SLOT_NAME=" + address + "\n",
		"revision": "0x00\n", "mem_info_vram_total": "17163091968\n", "mem_info_vram_used": "1000000000\n",
		"mem_info_gtt_total": "8342863872\n", "mem_info_gtt_used": "12337152\n", "gpu_busy_percent": "24\n",
		"power/runtime_status": "active\n",
		"pp_dpm_sclk":          "0: 852Mhz \n1: 991Mhz *\n", "pp_dpm_mclk": "0: 167Mhz *\n1: 500Mhz \n", "pp_dpm_pcie": "0: 8.0GT/s, x16 *\n",
		"pcie_bw":                  "85 0 256\n",
		"hwmon/hwmon4/name":        "amdgpu\n",
		"hwmon/hwmon4/temp1_label": "edge\n", "hwmon/hwmon4/temp1_input": "38000\n",
		"hwmon/hwmon4/temp2_label": "junction\n", "hwmon/hwmon4/temp2_input": "41000\n",
		"hwmon/hwmon4/temp3_label": "mem\n", "hwmon/hwmon4/temp3_input": "39000\n",
		"hwmon/hwmon4/power1_average": "8000000\n", "hwmon/hwmon4/power1_cap": "220000000\n",
		"hwmon/hwmon4/freq1_label": "sclk\n", "hwmon/hwmon4/freq1_input": "26000000\n",
		"hwmon/hwmon4/freq2_label": "mclk\n", "hwmon/hwmon4/freq2_input": "167000000\n",
	} {
		m.file(dir+"/"+name, content)
	}
	return dir
}

// node writes a KFD node's properties, "name value" each.
func (m machine) node(id string, lines ...string) {
	m.t.Helper()
	m.file("sys/class/kfd/kfd/topology/nodes/"+id+"/properties", strings.Join(lines, "\n")+"\n")
}

// inventory reads the machine with a new Reader.
func (m machine) inventory() (*Reader, telemetry.Found) {
	m.t.Helper()
	r := New(m.root)
	return r, inventory(m.t, r)
}

func inventory(t testing.TB, r *Reader) telemetry.Found {
	t.Helper()
	if r.patience == patience {
		r.patience = time.Minute // a busy machine that runs the tests is no silent card
	}
	found, err := r.Inventory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// only gives the one device of the machine and its reading.
func (m machine) only() (gpu.Device, gpu.Reading) {
	m.t.Helper()
	r, found := m.inventory()
	if len(found.Devices) != 1 {
		m.t.Fatalf("got %d devices, want 1", len(found.Devices))
	}
	return found.Devices[0], read(m.t, r, found.Devices[0].ID)
}

func read(t testing.TB, r *Reader, id string) gpu.Reading {
	t.Helper()
	reading, err := r.Read(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return reading
}

func details(t testing.TB, r *Reader, id string) gpu.Details {
	t.Helper()
	d, err := r.Details(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// readError gives the error of a Read that must fail with it.
func readError(t testing.TB, r *Reader, id string, want error) gpu.Reading {
	t.Helper()
	reading, err := r.Read(context.Background(), id)
	if !errors.Is(err, want) {
		t.Fatalf("Read: got error %v, want %v", err, want)
	}
	return reading
}

// faults stands between a Reader and the files: it notes what is opened and fails what it is told to.
type faults struct {
	mu     sync.Mutex
	opened []string
	fail   func(path string) error // nil for none
}

func watch(r *Reader, fail func(path string) error) *faults {
	f := &faults{fail: fail}
	r.read = func(path string, buf []byte) (int, error) {
		f.mu.Lock()
		f.opened = append(f.opened, path)
		f.mu.Unlock()
		if f.fail != nil {
			if err := f.fail(path); err != nil {
				return 0, err
			}
		}
		return kernel.ReadFile(path, buf)
	}
	return f
}

func (f *faults) forget() { f.opened = nil }

// matching gives the opened paths that contain one of the words.
func (f *faults) matching(words ...string) (paths []string) {
	for _, path := range f.opened {
		for _, word := range words {
			if strings.Contains(path, word) {
				paths = append(paths, path)
				break
			}
		}
	}
	return paths
}

func ptr[T any](v T) *T { return &v }
