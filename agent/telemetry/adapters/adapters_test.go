package adapters

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/fixture"
	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// machine makes a root with PCI devices of these uevents, by address.
func machine(t *testing.T, uevents map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for address, uevent := range uevents {
		dir := filepath.Join(root, "sys/bus/pci/devices", address)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "uevent"), []byte(uevent), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func inventory(t *testing.T, root string) telemetry.Found {
	t.Helper()
	found, err := New(root).Inventory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAdapters(t *testing.T) { // traps 36, 44
	t.Parallel()
	found := inventory(t, machine(t, map[string]string{
		"0000:00:02.0": "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:4680\n",
		"0000:00:03.0": "PCI_CLASS=30000\nPCI_ID=8086:56A0\n",
		"0000:02:00.0": "DRIVER=ast\nPCI_CLASS=30000\nPCI_ID=1A03:2000\n",
		"0000:1a:00.0": "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\n",
		"0000:41:00.0": "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:2330\n",
		"0000:42:00.0": "DRIVER=nouveau\nPCI_CLASS=30000\nPCI_ID=10DE:1C03\n",
		"0000:43:00.0": "DRIVER=vfio-pci\nPCI_CLASS=30000\nPCI_ID=10DE:1C03\n",
		"0000:51:00.0": "PCI_CLASS=38000\nPCI_ID=1002:6860\n",
		"0000:52:00.0": "DRIVER=radeon\nPCI_CLASS=30000\nPCI_ID=1002:6818\n",
		"0000:61:00.0": "DRIVER=snd_hda_intel\nPCI_CLASS=40300\nPCI_ID=1002:AAF8\n",
	}))
	want := []gpu.Adapter{
		{PCIAddress: "0000:00:02.0", Name: "Intel display adapter 8086:4680", Driver: "i915"},
		{PCIAddress: "0000:00:03.0", Name: "Intel display adapter 8086:56a0"},
		{PCIAddress: "0000:02:00.0", Name: "ASPEED display adapter 1a03:2000", Driver: "ast"},
		{PCIAddress: "0000:1a:00.0", Name: "AMD display adapter 1002:6860", Driver: "amdgpu"},
		{PCIAddress: "0000:41:00.0", Name: "NVIDIA display adapter 10de:2330", Driver: "nvidia"},
		{PCIAddress: "0000:42:00.0", Name: "NVIDIA display adapter 10de:1c03", Driver: "nouveau"},
		{PCIAddress: "0000:43:00.0", Name: "NVIDIA display adapter 10de:1c03", Driver: "vfio-pci"},
		{PCIAddress: "0000:51:00.0", Name: "AMD display adapter 1002:6860"},
		{PCIAddress: "0000:52:00.0", Name: "AMD display adapter 1002:6818", Driver: "radeon"},
	}
	if diff := cmp.Diff(want, found.Adapters); diff != "" || len(found.Devices) != 0 {
		t.Errorf("got devices %v, adapters (-want +got):\n%s", found.Devices, diff)
	}
	for i, words := range [][2]string{{"0000:00:03.0", "modprobe i915"}, {"0000:42:00.0", "install NVIDIA's driver"}, {"0000:51:00.0", "modprobe amdgpu"}} {
		if len(found.Problems) != 3 || !strings.Contains(found.Problems[i], words[0]) || !strings.Contains(found.Problems[i], words[1]) {
			t.Fatalf("got problems %q, want one with %q", found.Problems, words)
		}
	}
}

// The BMC of the composed machine stands beside its eight cards, which another reader serves.
func TestCapturedMachine(t *testing.T) { // trap 20
	t.Parallel()
	found := inventory(t, fixture.Root(t, "amd-mi25x8"))
	if len(found.Adapters) != 9 || len(found.Problems) != 0 {
		t.Fatalf("got %v, problems %q", found.Adapters, found.Problems)
	}
	if want := (gpu.Adapter{PCIAddress: "0000:02:00.0", Name: "ASPEED display adapter 1a03:2000"}); found.Adapters[0] != want {
		t.Errorf("got %+v, want %+v", found.Adapters[0], want)
	}
}

func TestNothingToRead(t *testing.T) {
	t.Parallel()
	if found := inventory(t, t.TempDir()); len(found.Adapters)+len(found.Devices)+len(found.Problems) != 0 {
		t.Errorf("empty machine: got %+v", found)
	}
	r := New(filepath.Join(t.TempDir(), "none"))
	if _, err := r.Inventory(context.Background()); err == nil || !strings.Contains(err.Error(), "system root") {
		t.Errorf("missing root: got %v", err)
	}
	if _, err := r.Read(context.Background(), "pci-0000:02:00.0"); !errors.Is(err, telemetry.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(machine(t, map[string]string{"0000:02:00.0": "PCI_CLASS=30000\n"})).Inventory(ctx); err == nil {
		t.Error("cancelled inventory: got no error")
	}
}
