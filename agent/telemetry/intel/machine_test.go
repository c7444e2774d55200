package intel

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

func ptr[T any](v T) *T { return &v }

// machine is a system root that a test builds in a folder of its own. What is in the devices' folders stands in the kernel's
// documents that the package's comment names.
type machine struct {
	t    testing.TB
	root string
}

func newMachine(t testing.TB) machine {
	m := machine{t, t.TempDir()}
	m.file("proc/sys/kernel/osrelease", "6.17.0\n")
	m.file("proc/1/comm", "init\n")
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

func (m machine) files(dir string, files map[string]string) {
	m.t.Helper()
	for name, content := range files {
		m.file(filepath.Join(dir, name), content)
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

func (m machine) remove(inside string) {
	m.t.Helper()
	if err := os.RemoveAll(m.path(inside)); err != nil {
		m.t.Fatal(err)
	}
}

// pci puts a device on the bus below the devices in above, and gives its folder.
func (m machine) pci(address, uevent string, above ...string) (dir string) {
	m.t.Helper()
	inside := filepath.Join("pci0000:00", filepath.Join(above...), address)
	m.link("sys/bus/pci/devices/"+address, "../../../devices/"+inside)
	m.file("sys/devices/"+inside+"/uevent", uevent)
	return "sys/devices/" + inside
}

// bridge gives a bridge the files by which a card knows its own.
func (m machine) bridge(dir, product, speed, width string) {
	m.t.Helper()
	m.files(dir, map[string]string{"vendor": "0x8086\n", "device": product + "\n", "current_link_speed": speed + " GT/s PCIe\n",
		"max_link_speed": speed + " GT/s PCIe\n", "current_link_width": width + "\n", "max_link_width": width + "\n"})
}

const battlemage, alchemist, integrated = "pci-0000:03:00.0", "pci-0000:0a:00.0", "pci-0000:00:02.0"

// battlemage puts an Arc B580 with xe of Linux 6.17 behind its own switch: what a test changes of it is what the test is about.
func (m machine) battlemage() (dir string) {
	m.t.Helper()
	slot, upper := "sys/devices/pci0000:00/0000:00:01.0", "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0"
	dir = m.pci("0000:03:00.0", "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:E20B\nPCI_SUBSYS_ID=8086:1100\n", "0000:00:01.0/0000:01:00.0/0000:02:01.0")
	m.bridge(slot, "0x460d", "32.0", "8")
	m.bridge(upper, "0xe2ff", "16.0", "8")
	m.bridge(upper+"/0000:02:01.0", "0xe2f0", "2.5", "1")
	m.bridge(dir, "0xe20b", "2.5", "1")
	m.file(dir+"/power/runtime_status", "active\n")
	m.link(dir+"/driver", "/")
	m.file(dir+"/drm/card1/dev", "226:1\n")
	m.file(dir+"/drm/renderD129/dev", "226:129\n")
	m.files(dir+"/hwmon/hwmon5", map[string]string{
		"name": "xe\n", "energy1_input": "1000000000\n", "energy1_label": "card\n", "energy2_input": "700000000\n", "energy2_label": "pkg\n",
		"power1_max": "190000000\n", "power1_label": "card\n", "power2_max": "150000000\n", "power1_crit": "380000000\n",
		"temp2_input": "52000\n", "temp2_label": "pkg\n", "temp2_crit": "100000\n", "temp2_emergency": "110000\n", "temp2_max": "90000\n",
		"temp3_input": "60000\n", "temp3_label": "vram\n", "temp3_crit": "95000\n", "temp4_input": "48000\n", "temp4_label": "mctrl\n",
		"temp6_input": "61000\n", "temp6_label": "vram_ch_0\n", "fan1_input": "0\n", "fan2_input": "1210\n",
	})
	m.files(dir+"/tile0", map[string]string{
		"gt0/freq0/act_freq": "2850\n", "gt0/freq0/cur_freq": "2900\n", "gt0/freq0/rp0_freq": "2900\n", "gt0/freq0/max_freq": "2850\n",
		"gt0/freq0/throttle/status": "0\n", "gt0/freq0/throttle/reason_pl1": "0\n", "gt0/freq0/throttle/reason_thermal": "0\n",
		"gt0/gtidle/idle_residency_ms": "5000\n", "gt1/gtidle/idle_residency_ms": "9000\n", "gt1/freq0/act_freq": "0\n",
	})
	return dir
}

// alchemist puts an Arc A770 with i915 of Linux 6.12 behind its own switch.
func (m machine) alchemist() (dir string) {
	m.t.Helper()
	upper := "sys/devices/pci0000:00/0000:00:06.0/0000:08:00.0"
	dir = m.pci("0000:0a:00.0", "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:56A0\n", "0000:00:06.0/0000:08:00.0/0000:09:01.0")
	m.bridge(upper, "0x4fa0", "16.0", "16")
	m.bridge(dir, "0x56a0", "2.5", "1")
	m.file(dir+"/power/runtime_status", "active\n")
	m.link(dir+"/driver", "/")
	m.files(dir+"/hwmon/hwmon9", map[string]string{
		"name": "i915\n", "energy1_input": "50000000\n", "power1_max": "0\n", "power1_rated_max": "190000000\n", "temp1_input": "41000\n", "fan1_input": "900\n",
	})
	m.files(dir+"/hwmon/hwmon10", map[string]string{"name": "i915_gt0\n", "energy1_input": "7\n"})
	m.files(dir+"/drm/card2", map[string]string{
		"gt_act_freq_mhz": "1\n", "gt_RP0_freq_mhz": "2\n", "gt/gt0/rps_act_freq_mhz": "600\n", "gt/gt0/rps_RP0_freq_mhz": "2400\n",
		"gt/gt0/rc6_residency_ms": "100\n", "gt/gt0/throttle_reason_status": "1\n", "gt/gt0/throttle_reason_pl1": "0\n",
		"gt/gt0/throttle_reason_vr_tdc": "1\n", "gt/gt0/throttle_reason_prochot": "1\n",
	})
	m.file(dir+"/drm/renderD130/dev", "226:130\n")
	return dir
}

// integrated puts a UHD 770 with i915 of Linux 5.15: without hwmon, and with its files in the folder of the DRM card.
func (m machine) integrated() (dir string) {
	m.t.Helper()
	dir = m.pci("0000:00:02.0", "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:4680\n")
	m.file(dir+"/power/runtime_status", "active\n")
	m.link(dir+"/driver", "/")
	m.files(dir+"/drm/card0", map[string]string{"gt_act_freq_mhz": "350\n", "gt_cur_freq_mhz": "400\n", "gt_RP0_freq_mhz": "1550\n", "power/rc6_residency_ms": "77\n"})
	m.file(dir+"/drm/renderD128/dev", "226:128\n")
	m.file(dir+"/drm/card0-HDMI-A-1/status", "connected\n")
	m.file(dir+"/current_link_speed", "Unknown\n")
	return dir
}

// client opens a device's node in a process, as file number fd, and writes its fdinfo.
func (m machine) client(pid, fd, node, text string) {
	m.t.Helper()
	m.link("proc/"+pid+"/fd/"+fd, "/dev/dri/"+node)
	m.file("proc/"+pid+"/fdinfo/"+fd, text)
}

// reader gives a Reader that has made its Inventory.
func (m machine) reader() (*Reader, telemetry.Found) {
	m.t.Helper()
	r := New(m.root)
	return r, m.inventory(r)
}

func (m machine) inventory(r *Reader) telemetry.Found {
	m.t.Helper()
	found, err := r.Inventory(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

func device(t *testing.T, found telemetry.Found, id string) gpu.Device {
	t.Helper()
	for _, d := range found.Devices {
		if d.ID == id {
			return d
		}
	}
	t.Fatalf("no device %s in %v", id, found.Devices)
	return gpu.Device{}
}

func read(t *testing.T, r *Reader, id string) gpu.Reading {
	t.Helper()
	reading, err := r.Read(context.Background(), id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return reading
}

// journal notes which files are read, and lets a test put errors in their place.
type journal struct {
	mu    sync.Mutex
	read  []string
	fault func(path string) error // nil means none
}

func (j *journal) ReadFile(path string, buf []byte) (int, error) {
	j.mu.Lock()
	j.read = append(j.read, path)
	fault := j.fault
	j.mu.Unlock()
	if fault != nil {
		if err := fault(path); err != nil {
			return 0, &os.PathError{Op: "read", Path: path, Err: err}
		}
	}
	return kernel.ReadFile(path, buf)
}

// take gives what was read below the folder since the last call, without what is read of a sleeping device too.
func (j *journal) take(dir string) (paths []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, path := range j.read {
		rest, inside := strings.CutPrefix(path, dir+"/")
		if inside && strings.Contains(rest, "/") && rest != "power/runtime_status" || strings.Contains(path, "fdinfo") || strings.Contains(rest, "_link_") {
			paths = append(paths, path)
		}
	}
	j.read = nil
	return paths
}
