package amdgpu

import "fmt"

// graphics is the version of a chip's compute engine; the zero value means unknown.
type graphics struct{ major, minor, stepping int }

// decodeTarget reads KFD's gfx_target_version: 90010 is 9.0.10.
func decodeTarget(v uint64) graphics {
	if v < 10000 || v > 999999 {
		return graphics{}
	}
	return graphics{int(v / 10000), int(v / 100 % 100), int(v % 100)}
}

// arch gives the compiler's target, "gfx90a"; "" when unknown.
func (g graphics) arch() string {
	if g == (graphics{}) {
		return ""
	}
	return fmt.Sprintf("gfx%d%x%x", g.major, g.minor, g.stepping)
}

// capability gives major.minor as PyTorch shows it; "" when unknown.
func (g graphics) capability() string {
	if g == (graphics{}) {
		return ""
	}
	return fmt.Sprintf("%d.%d", g.major, g.minor)
}

// multiprocessors gives what PyTorch counts: compute units, but on RDNA (gfx10 and later) pairs of them.
func (g graphics) multiprocessors(computeUnits int) int {
	if g.major >= 10 {
		return computeUnits / 2
	}
	return computeUnits
}

// chips gives the engine by PCI device id, for kernels that don't report gfx_target_version, and cards without KFD node.
// Newer chips are only met with newer kernels. Source: gfxip_lookup_table of libhsakmt.
var chips = func() map[uint64]graphics {
	table := map[graphics][]uint64{
		{7, 0, 1}:  {0x67a0, 0x67a1, 0x67a2, 0x67a8, 0x67a9, 0x67aa, 0x67b0, 0x67b1, 0x67b8, 0x67b9, 0x67ba, 0x67be},
		{8, 0, 1}:  span(0x9870, 0x9877),
		{8, 0, 2}:  {0x6920, 0x6921, 0x6928, 0x6929, 0x692b, 0x692f, 0x6930, 0x6938, 0x6939},
		{8, 0, 3}:  append(span(0x67c0, 0x67df, 0x67e0, 0x67ff, 0x6980, 0x699f, 0x694c, 0x694f), 0x6fdf, 0x7300, 0x730f),
		{9, 0, 0}:  append(span(0x6860, 0x686e), 0x687f),
		{9, 0, 2}:  {0x15dd, 0x15d8},
		{9, 0, 4}:  append(span(0x69a0, 0x69a3), 0x69af),
		{9, 0, 6}:  append(span(0x66a0, 0x66a7), 0x66af),
		{9, 0, 8}:  span(0x7388, 0x7390),
		{9, 0, 10}: span(0x7408, 0x7410),
		{9, 0, 12}: {0x15e7, 0x1636, 0x1638, 0x164c},
		{10, 1, 0}: span(0x7310, 0x731f),
		{10, 1, 1}: {0x7360, 0x7362},
		{10, 1, 2}: span(0x7340, 0x734f),
		{10, 1, 3}: {0x13f9, 0x13fa, 0x13fb, 0x13fc, 0x13fe, 0x143f},
		{10, 3, 0}: append(span(0x73a0, 0x73ae), 0x73bf),
		{10, 3, 1}: span(0x73c0, 0x73df),
		{10, 3, 2}: span(0x73e0, 0x73ff),
		{10, 3, 3}: {0x163f},
		{10, 3, 4}: append(span(0x7420, 0x7424), 0x743f),
		{10, 3, 5}: {0x164d, 0x1681},
	}
	byID := map[uint64]graphics{}
	for g, ids := range table {
		for _, id := range ids {
			byID[id] = g
		}
	}
	return byID
}()

// span lists the ids of each pair of bounds, both included.
func span(bounds ...uint64) (ids []uint64) {
	for i := 0; i < len(bounds); i += 2 {
		for id := bounds[i]; id <= bounds[i+1]; id++ {
			ids = append(ids, id)
		}
	}
	return ids
}

// apus are the PCI device ids of parts that share the processor's memory.
var apus = func() map[uint64]bool {
	ids := append(span(0x1304, 0x131d, 0x9830, 0x983f, 0x9850, 0x985f, 0x9870, 0x9877), // Kaveri, Kabini, Mullins, Carrizo
		0x98e4, 0x15dd, 0x15d8, 0x15e7, 0x1636, 0x1638, 0x164c, // Stoney, Raven, Renoir and kin
		0x163f, 0x1435, 0x164d, 0x1681, 0x164e, 0x13c0, 0x1506, // Van Gogh, Yellow Carp, Raphael, Mendocino
		0x13f9, 0x13fa, 0x13fb, 0x13fc, 0x13fe, 0x143f, // Cyan Skillfish
		0x15bf, 0x15c8, 0x1900, 0x1901, 0x150e, 0x1586, 0x1114, // Phoenix, Hawk Point, Strix, Strix Halo, Krackan
		0x74a0) // MI300A
	set := make(map[uint64]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}()
