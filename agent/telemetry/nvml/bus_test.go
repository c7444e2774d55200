package nvml

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"muster/agent/telemetry/kernel"
)

// trap 4
func TestBuildsWithoutCgo(t *testing.T) {
	t.Parallel()
	build := exec.Command("go", "build", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// trap 44: of a mixed machine only NVIDIA's cards are this reader's, by address.
func TestMixedMachine(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for address, uevent := range map[string]string{
		"0000:41:00.0": "DRIVER=nvidia\nPCI_CLASS=30000\nPCI_ID=10DE:2204\n", "0000:41:00.1": "DRIVER=snd_hda_intel\nPCI_CLASS=40300\nPCI_ID=10DE:1AEF\n",
		"0001:01:00.0": "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:2330\n", "0000:c1:00.0": "PCI_CLASS=30000\nPCI_ID=10DE:1B06\n",
		"0000:03:00.0": "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\n", "0000:00:02.0": "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:3E92\n",
		"0000:81:00.0": "DRIVER=vfio-pci\nPCI_CLASS=30000\nPCI_ID=10DE:1B06\n", "0000:05:00.0": "DRIVER=ast\nPCI_CLASS=30000\nPCI_ID=1A03:2000\n",
	} {
		write(t, filepath.Join(root, "sys/bus/pci/devices", address, "uevent"), uevent)
	}
	r := newReader("", tree(t, root))
	for range 3 {
		found, refused := unread(r.scanBus(new(kernel.Names)), driverNotLoaded, nil)
		var got []string
		for _, d := range found.Devices {
			got = append(got, d.ID)
		}
		if len(got) != 3 || got[0] != "pci-0000:41:00.0" || got[1] != "pci-0000:c1:00.0" || got[2] != "pci-0001:01:00.0" || len(refused) != 3 {
			t.Errorf("got %q", got)
		}
	}
}

func TestWorth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files   map[string]string
		library string
		want    bool
	}{
		"nothing":        {nil, "", false},
		"configured":     {nil, "/opt/libnvidia-ml.so.1", true},
		"a card":         {map[string]string{"sys/bus/pci/devices/0000:41:00.0/uevent": "PCI_CLASS=30000\nPCI_ID=10DE:2204\n"}, "", true},
		"its sound":      {map[string]string{"sys/bus/pci/devices/0000:41:00.1/uevent": "PCI_CLASS=40300\nPCI_ID=10DE:1AEF\n"}, "", false},
		"another's card": {map[string]string{"sys/bus/pci/devices/0000:41:00.0/uevent": "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\n"}, "", false},
		"a node":         {map[string]string{"dev/nvidiactl": ""}, "", true},
		"a module":       {map[string]string{"proc/driver/nvidia/version": "NVRM version: x\n"}, "", true},
		"WSL":            {map[string]string{"dev/dxg": ""}, "", true},
		"Tegra":          {map[string]string{"dev/nvhost-ctrl": ""}, "", true},
	} {
		root := t.TempDir()
		for path, text := range c.files {
			write(t, filepath.Join(root, path), text)
		}
		if got := Worth(root, c.library); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if Worth(filepath.Join(t.TempDir(), "none"), "") {
		t.Error("a root that isn't there is worth a try")
	}
	began := time.Now()
	Worth("/", "")
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func tree(t testing.TB, root string) kernel.Tree {
	t.Helper()
	tree, err := kernel.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
