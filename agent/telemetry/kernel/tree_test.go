package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// write puts a file below the root of a test.
func write(t *testing.T, root, inside, content string) string {
	t.Helper()
	path := filepath.Join(root, inside)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, root string) Tree {
	t.Helper()
	tree, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// Things in place of a kernel file must neither hang nor lead out of the root.
func TestHostileFiles(t *testing.T) { // traps 25, 42
	t.Parallel()
	root := t.TempDir()
	tree := open(t, root)
	secret := write(t, t.TempDir(), "secret", "77\n")
	write(t, root, "padded", "24\n"+strings.Repeat("\x00", 4093))
	write(t, root, "megabyte", strings.Repeat("1", 1<<20))
	write(t, root, "empty", "")
	for name, err := range map[string]error{
		"fifo": syscall.Mkfifo(filepath.Join(root, "fifo"), 0o644), "folder": os.Mkdir(filepath.Join(root, "folder"), 0o755),
		"out": os.Symlink(secret, filepath.Join(root, "out")), "in": os.Symlink("padded", filepath.Join(root, "in")),
	} {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	for name, want := range map[string]error{
		"fifo": ErrNotRegular, "folder": ErrNotRegular, "out": syscall.ELOOP, "in": syscall.ELOOP, "none": fs.ErrNotExist,
	} {
		if got, err := tree.Text(tree.Path(name)); !errors.Is(err, want) || got != "" {
			t.Errorf("%s: got %q, %v, want error %v", name, got, err, want)
		}
		if got := tree.Word(root, name); got != "" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	for name, want := range map[string]int{"padded": 2, "empty": 0, "megabyte": PageSize} {
		if got, err := tree.Text(tree.Path(name)); err != nil || len(got) != want {
			t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, want)
		}
	}
	if _, err := tree.Resolve("out"); !errors.Is(err, ErrOutside) {
		t.Errorf("link out of the root: got %v", err)
	}
	if got, err := tree.Resolve("in"); err != nil || got != tree.Path("padded") {
		t.Errorf("link inside: got %q, %v", got, err)
	}
	if v := tree.Decimal(root, "padded"); v == nil || *v != 24 {
		t.Errorf("padded number: got %v", v)
	}
	if b, err := tree.Big("megabyte", 100_000); err != nil || len(b) != 100_000 {
		t.Errorf("big file: got %d bytes, %v, want the limit", len(b), err)
	}
	if _, err := tree.Big("fifo", 1); !errors.Is(err, ErrNotRegular) {
		t.Errorf("big FIFO: got %v", err)
	}
	if _, err := Open(filepath.Join(root, "none")); err == nil || !strings.Contains(err.Error(), "system root") {
		t.Errorf("missing root: got %v", err)
	}
}

// What is longer than the buffer is cut; what is longer than a page comes whole into a buffer that holds it.
func TestReadFileByPages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, buffer, want int }{
		{10, PageSize, 10}, {PageSize, PageSize, PageSize}, {2 * PageSize, PageSize, PageSize},
		{PageSize, 4 * PageSize, PageSize}, {2*PageSize + 7, 4 * PageSize, 2*PageSize + 7}, {9 * PageSize, 4 * PageSize, 4 * PageSize},
	} {
		path := write(t, t.TempDir(), "f", strings.Repeat("x", c.file))
		if n, err := ReadFile(path, make([]byte, c.buffer)); n != c.want || err != nil {
			t.Errorf("%d bytes into %d: got %d, %v, want %d", c.file, c.buffer, n, err, c.want)
		}
	}
}

func TestPower(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]bool{
		"suspended\n": true, "suspending\n": true, "resuming\n": true, "suspended\x00\x00": true,
		"active\n": false, "unsupported\n": false, "error\n": false, "": false, "-": false,
	} {
		root := t.TempDir()
		tree := open(t, root)
		if status != "-" {
			write(t, root, "power/runtime_status", status)
			write(t, root, "power/control", "auto\n")
		}
		if got := tree.Asleep(tree.RuntimeStatusFile(tree.Path("")), make([]byte, 64)); got != want {
			t.Errorf("%q: asleep %v", status, got)
		}
		if got := tree.PowerControl(tree.Path("")); (got == "auto") != (status != "-") {
			t.Errorf("%q: control %q", status, got)
		}
	}
}

func TestScanPCI(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	link := func(inside, target string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, inside)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, inside)); err != nil {
			t.Fatal(err)
		}
	}
	pci := func(address, uevent string) string {
		t.Helper()
		write(t, root, "sys/devices/"+address+"/uevent", uevent)
		link("sys/bus/pci/devices/"+address, "../../../devices/"+address)
		return "sys/devices/" + address + "/"
	}
	dir := pci("0000:1a:00.0", "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\nPCI_SUBSYS_ID=1002:0C35\n")
	write(t, root, dir+"revision", "0x04\n")
	pci("0000:61:00.1", "DRIVER=snd_hda_intel\nPCI_CLASS=40300\nPCI_ID=1002:AAF8\n")
	pci("0000:70:00.0", "DRIVER=intel_vpu\nPCI_CLASS=120000\nPCI_ID=8086:7D1D\n") // a neural accelerator is no GPU
	pci("0000:75:00.0", "PCI_CLASS=120000\nPCI_ID=1002:74A1\n")
	dir = pci("0000:02:00.0", "DRIVER=ast\n") // a container hides the rest
	write(t, root, dir+"class", "0x030000\n")
	write(t, root, dir+"vendor", "0x1a03\n")
	write(t, root, dir+"device", "0x2000\n")
	link("sys/class/drm/card0-VGA-1/device", "../../../devices/0000:02:00.0")                         // trap 20
	write(t, root, "sys/devices/platform/simple-framebuffer.0/uevent", "DRIVER=simple-framebuffer\n") // a display, but not on the bus
	link("sys/class/drm/card0/device", "../../../devices/platform/simple-framebuffer.0")
	write(t, root, "sys/devices/0000:03:00.0/uevent", "DRIVER=amdgpu\n") // only DRM shows it, and no class
	link("sys/class/drm/card1/device", "../../../devices/0000:03:00.0")
	link("sys/bus/pci/devices/0000:99:00.0", t.TempDir())
	var got []string
	devices := ScanPCI(open(t, root))
	for _, d := range devices {
		got = append(got, d.String()+" "+d.Driver)
	}
	if want := "0000:02:00.0 ast, 0000:03:00.0 amdgpu, 0000:1a:00.0 amdgpu, 0000:75:00.0 "; strings.Join(got, ", ") != want {
		t.Fatalf("got %q, want %q", strings.Join(got, ", "), want)
	}
	if d := devices[0]; d.Vendor != 0x1a03 || d.Product != 0x2000 || d.Class != 0x030000 || d.Revision != nil {
		t.Errorf("by single files: got %+v", d)
	}
	if d := devices[2]; d.Vendor != VendorAMD || d.Product != 0x6860 || d.SubVendor != 0x1002 || d.SubProduct != 0x0c35 || d.Revision == nil || *d.Revision != 4 {
		t.Errorf("by uevent: got %+v", d)
	}
}

func TestAdapterNames(t *testing.T) { // trap 35
	t.Parallel()
	root := t.TempDir()
	write(t, root, "usr/share/hwdata/pci.ids", "1002  AMD\n\t6860  Vega 10 [Radeon Instinct MI25/MI25x2]\n\t\t1002 0c35  Radeon Instinct MI25 Board\n\t6861  Vega\n"+
		"1a03  ASPEED Technology, Inc.\n\t2000  ASPEED Graphics Family\n8086  Intel Corporation\n\t4680  AlderLake-S GT1 [UHD Graphics 770]\n")
	tree, names := open(t, root), Names{}
	for want, d := range map[string]PCIDevice{
		"AMD Radeon Instinct MI25 Board":   {Vendor: VendorAMD, Product: 0x6860, SubVendor: 0x1002, SubProduct: 0x0c35},
		"AMD Radeon Instinct MI25/MI25x2":  {Vendor: VendorAMD, Product: 0x6860},
		"ASPEED Graphics Family":           {Vendor: 0x1a03, Product: 0x2000},
		"Intel UHD Graphics 770":           {Vendor: VendorIntel, Product: 0x4680},
		"Matrox display adapter 102b:0522": {Vendor: 0x102b, Product: 0x0522},
		"PCI display adapter 9999:0001":    {Vendor: 0x9999, Product: 1},
	} {
		for range 2 {
			if got := names.Adapter(tree, d); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
}
