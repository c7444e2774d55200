package amdgpu

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/agent/fixture"
	"muster/agent/telemetry"
	"muster/shared/gpu"
)

func kfdMachine(t *testing.T, elem ...string) machine {
	m := newMachine(t)
	m.copy("sys/class/kfd/kfd/topology", fixture.Path(t, append([]string{"amd-kfd"}, elem...)...))
	return m
}

// An old kernel: no gfx_target_version, no domain; one real node and its copy with another unique id.
func TestKFDMI25OldKernel(t *testing.T) { // trap 16
	t.Parallel()
	r, found := kfdMachine(t, "mi25-oldkernel", "topology").inventory()
	want := []gpu.Device{{ID: "GPU-c34ec50444dd0a6c", VendorIndex: ptr(0)}, {ID: "GPU-c34ec50444dd0a6d", VendorIndex: ptr(1)}}
	for i := range want {
		w := &want[i]
		w.Vendor, w.Name, w.PCIAddress, w.Arch, w.ComputeCapability = gpu.AMD, "AMD GPU 0x6860", "0000:19:00.0", "gfx900", "9.0"
		w.MultiprocessorCount, w.MemoryBytes, w.DriverVersion = ptr(64), ptr[uint64](17163091968), "in-tree 6.14.0"
	}
	if diff := cmp.Diff(want, found.Devices, cmpopts.IgnoreFields(gpu.Device{}, "Sources")); diff != "" {
		t.Fatalf("devices (-want +got):\n%s", diff)
	}
	reading := read(t, r, "GPU-c34ec50444dd0a6c")
	if diff := cmp.Diff(gpu.Reading{MemoryTotalBytes: ptr[uint64](17163091968), MemoryUsedBytes: ptr[uint64](14102528)}, reading); diff != "" {
		t.Errorf("reading (-want +got):\n%s", diff)
	}
}

func TestKFDMI210x8(t *testing.T) {
	t.Parallel()
	m := kfdMachine(t, "mi210x8")
	m.file("opt/amdgpu/share/libdrm/amdgpu.ids", "740F,\t02,\tAMD Instinct MI210\n")
	r, found := m.inventory()
	addresses := []string{"03", "26", "43", "63", "83", "a3", "c3", "e3"}
	ranks := []int{2, 3, 1, 0, 6, 7, 5, 4}
	if len(found.Devices) != 8 {
		t.Fatalf("got %d devices, want 8", len(found.Devices))
	}
	for i, d := range found.Devices {
		if d.PCIAddress != "0000:"+addresses[i]+":00.0" || *d.VendorIndex != ranks[i] {
			t.Errorf("device %d: got %s rank %d, want %s rank %d", i, d.PCIAddress, *d.VendorIndex, addresses[i], ranks[i])
		}
		if d.Name != "AMD Instinct MI210" || d.Arch != "gfx90a" || d.ComputeCapability != "9.0" || *d.MultiprocessorCount != 104 || d.MemoryBytes != nil {
			t.Errorf("device %d: got %+v", i, d)
		}
	}
	if found.Devices[3].ID != "GPU-1901ead3a2ecd4a6" {
		t.Errorf("got id %s, want the unique id of node 2 in hexadecimal", found.Devices[3].ID)
	}
	readError(t, r, found.Devices[0].ID, telemetry.ErrUnsupported)
}

// MI300X in CPX mode: 63 nodes (not 64) on 8 packages.
func TestKFDMI300XPartitions(t *testing.T) { // trap 23
	t.Parallel()
	_, found := kfdMachine(t, "mi300x-cpx", "topology").inventory()
	if len(found.Devices) != 8 {
		t.Fatalf("got %d devices, want 8", len(found.Devices))
	}
	ids, ranks := map[string]bool{}, map[int]bool{}
	for i, d := range found.Devices {
		parts, units := 8, 304
		if i == 7 {
			parts, units = 7, 266
		}
		if len(d.Partitions) != parts || *d.MultiprocessorCount != units || d.Arch != "gfx942" || d.ComputeCapability != "9.4" || *d.VendorIndex != 8*i {
			t.Errorf("device %d: got %d partitions, %d units, %s %s, rank %d", i, len(d.Partitions), *d.MultiprocessorCount, d.Arch, d.ComputeCapability, *d.VendorIndex)
		}
		ids[d.ID] = true
		for n, p := range d.Partitions {
			ids[p.ID], ranks[*p.VendorIndex] = true, true
			if p.ID != fmt.Sprintf("%s-p%d", d.ID, n) || *p.VendorIndex != 8*i+n || *p.MultiprocessorCount != 38 || p.PCIAddress != d.PCIAddress || p.ComputeCapability != "9.4" {
				t.Errorf("device %d partition %d: got %+v", i, n, p)
			}
		}
	}
	if len(ids) != 8+63 || len(ranks) != 63 {
		t.Errorf("got %d different ids and %d ranks, want %d and 63", len(ids), len(ranks), 8+63)
	}
	if d := found.Devices[0]; d.ID != "GPU-e3aa140f9a5f9e31" || d.PCIAddress != "0000:05:00.0" {
		t.Errorf("got %s at %s, want node 2's unique id and its location 1280", d.ID, d.PCIAddress)
	}
}

// The same with the cards on the bus: the partitions' function numbers are no PCI functions; the second card has a real
// function 1, which is a card and not a partition.
func TestPartitionsJoinCards(t *testing.T) { // trap 24
	t.Parallel()
	m := newMachine(t)
	m.plain("0000:05:00.0", "0")
	m.plain("0001:05:00.0", "1") // the same bus in another domain
	m.plain("0001:06:00.1", "2")
	node := func(id, domain, location, unique string) {
		m.node(id, "simd_count 80", "simd_per_cu 4", "gfx_target_version 90402", "device_id 29858", "domain "+domain, "location_id "+location, "unique_id "+unique)
		m.file("sys/class/kfd/kfd/topology/nodes/"+id+"/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 51522830336\n")
	}
	node("2", "1", "1280", "7")
	node("3", "1", "1281", "7")
	node("4", "0", "1280", "8")
	node("5", "0", "1283", "8")
	node("6", "1", "1537", "9")
	_, found := m.inventory()
	type brief struct {
		Address string
		Rank    int
		Parts   []string
	}
	var got []brief
	for _, d := range found.Devices {
		b := brief{Address: d.PCIAddress, Rank: *d.VendorIndex}
		for _, p := range d.Partitions {
			b.Parts = append(b.Parts, fmt.Sprint(p.ID, " ", *p.VendorIndex, " ", *p.MemoryBytes, " ", *p.MultiprocessorCount))
		}
		got = append(got, b)
	}
	want := []brief{
		{"0000:05:00.0", 2, []string{"GPU-0000000000000008-p0 2 51522830336 20", "GPU-0000000000000008-p3 3 51522830336 20"}},
		{"0001:05:00.0", 0, []string{"GPU-0000000000000007-p0 0 51522830336 20", "GPU-0000000000000007-p1 1 51522830336 20"}},
		{"0001:06:00.1", 4, nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// MI308X: 32 GPU nodes, four partitions of 20 units and 48 GiB on each of eight packages in two PCI domains; the order of the nodes is
// neither that of the addresses nor that of the render nodes.
func TestKFDMI308Domains(t *testing.T) { // trap 24
	t.Parallel()
	m := newMachine(t)
	buses := [2][4]uint{{0x0a, 0x80, 0xa4, 0xc8}, {0x0b, 0x81, 0xa5, 0xc9}}
	for i := range 32 {
		card, part := 7-i/4, i%4
		id := fmt.Sprint(2 + i)
		m.node(id, "simd_count 80", "simd_per_cu 4", "gfx_target_version 90402", "device_id 29858", fmt.Sprint("domain ", card/4),
			fmt.Sprint("location_id ", buses[card/4][card%4]<<8|uint(part)), fmt.Sprint("unique_id ", 100+card), fmt.Sprint("drm_render_minor ", 128+8*card+part))
		m.file("sys/class/kfd/kfd/topology/nodes/"+id+"/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 51539607552\n")
	}
	_, found := m.inventory()
	if len(found.Devices) != 8 {
		t.Fatalf("got %d devices, want 8", len(found.Devices))
	}
	for i, d := range found.Devices {
		want := fmt.Sprintf("%04x:%02x:00.0", i/4, buses[i/4][i%4])
		if d.PCIAddress != want || d.ID != fmt.Sprintf("GPU-%016x", 100+i) || len(d.Partitions) != 4 || *d.MultiprocessorCount != 80 || *d.MemoryBytes != 4*51539607552 {
			t.Errorf("device %d: got %s %s, %d partitions, %d units, %d bytes", i, d.ID, d.PCIAddress, len(d.Partitions), *d.MultiprocessorCount, *d.MemoryBytes)
		}
		for n, p := range d.Partitions {
			if *p.VendorIndex != (7-i)*4+n || *p.MultiprocessorCount != 20 || *p.MemoryBytes != 51539607552 {
				t.Errorf("device %d partition %d: got rank %d, %d units", i, n, *p.VendorIndex, *p.MultiprocessorCount)
			}
		}
	}
}

// A kernel without the domain line: a node joins the one card that has the rest of its address.
func TestJoinWithoutDomain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.plain("0002:19:00.0", "0")
	m.node("1", "simd_count 256", "simd_per_cu 4", "device_id 26720", "location_id 6400", "unique_id 5")
	device, _ := m.only()
	if device.ID != "GPU-0000000000000005" || device.PCIAddress != "0002:19:00.0" || *device.MultiprocessorCount != 64 {
		t.Errorf("got %+v", device)
	}
}
