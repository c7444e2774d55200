package intel

import "slices"

// family are the devices of one graphics architecture. Ids that are in none are of a device that this table does not know.
type family struct {
	arch     string // as Intel names it, in lower case
	discrete bool   // a card with memory of its own
	// ownSwitch says that the card's GPU and audio stand behind a PCIe switch on the card, so that the GPU's own link is inside it.
	ownSwitch bool
	ids       []uint16
}

// families are from include/drm/intel/pciids.h of Linux; their architectures from drivers/gpu/drm/xe/xe_pci.c.
var families = []family{
	{"xe-lp", true, false, []uint16{0x4905, 0x4906, 0x4907, 0x4908, 0x4909}}, // DG1
	{"xe-lp", false, false, []uint16{ // Tiger, Rocket, Alder and Raptor Lake
		0x9a40, 0x9a49, 0x9a59, 0x9a60, 0x9a68, 0x9a70, 0x9a78, 0x9ac0, 0x9ac9, 0x9ad9, 0x9af8,
		0x4c80, 0x4c8a, 0x4c8b, 0x4c8c, 0x4c90, 0x4c9a,
		0x4680, 0x4682, 0x4688, 0x468a, 0x468b, 0x4690, 0x4692, 0x4693,
		0x46a0, 0x46a1, 0x46a2, 0x46a3, 0x46a6, 0x46a8, 0x46aa, 0x462a, 0x4626, 0x4628,
		0x46b0, 0x46b1, 0x46b2, 0x46b3, 0x46c0, 0x46c1, 0x46c2, 0x46c3, 0x46d0, 0x46d1, 0x46d2, 0x46d3, 0x46d4,
		0xa780, 0xa781, 0xa782, 0xa783, 0xa788, 0xa789, 0xa78a, 0xa78b,
		0xa720, 0xa721, 0xa7a0, 0xa7a1, 0xa7a8, 0xa7a9, 0xa7aa, 0xa7ab, 0xa7ac, 0xa7ad,
	}},
	{"xe-hpg", true, true, []uint16{ // DG2: Arc A and Flex
		0x5690, 0x5691, 0x5692, 0x5693, 0x5694, 0x5695, 0x5696, 0x5697,
		0x56a0, 0x56a1, 0x56a2, 0x56a3, 0x56a4, 0x56a5, 0x56a6, 0x56b0, 0x56b1, 0x56b2, 0x56b3,
		0x56ba, 0x56bb, 0x56bc, 0x56bd, 0x56be, 0x56bf, 0x56c0, 0x56c1, 0x56c2,
	}},
	{"xe-hpc", true, false, []uint16{ // Ponte Vecchio: Data Center GPU Max
		0x0b69, 0x0b6e, 0x0bd4, 0x0bd5, 0x0bd6, 0x0bd7, 0x0bd8, 0x0bd9, 0x0bda, 0x0bdb, 0x0be0, 0x0be1, 0x0be5,
	}},
	{"xe-lpg", false, false, []uint16{0x7d40, 0x7d41, 0x7d45, 0x7d55, 0x7d60, 0x7d67, 0x7dd5, 0xb640}}, // Meteor Lake, Arrow Lake U and S
	{"xe-lpg+", false, false, []uint16{0x7d51, 0x7dd1}},                                                // Arrow Lake H
	{"xe2", false, false, []uint16{0x6420, 0x64a0, 0x64b0}},                                            // Lunar Lake
	{"xe2", true, true, []uint16{ // Battlemage: Arc B
		0xe202, 0xe209, 0xe20b, 0xe20c, 0xe20d, 0xe210, 0xe211, 0xe212, 0xe216, 0xe220, 0xe221, 0xe222, 0xe223,
	}},
	{"xe3", false, false, []uint16{ // Panther and Wildcat Lake
		0xb080, 0xb081, 0xb082, 0xb083, 0xb084, 0xb085, 0xb086, 0xb087, 0xb08f, 0xb090, 0xb0a0, 0xb0b0, 0xfd80, 0xfd81,
	}},
}

// familyOf gives the family of a PCI device id; false for one that the table lacks.
func familyOf(product uint64) (family, bool) {
	for _, f := range families {
		if slices.ContainsFunc(f.ids, func(id uint16) bool { return uint64(id) == product }) {
			return f, true
		}
	}
	return family{}, false
}

// cardNames are what pci.ids calls the cards, for machines without that table.
var cardNames = map[uint64]string{
	0x4905: "Iris Xe MAX Graphics", 0x4906: "Iris Xe Pod", 0x4908: "Iris Xe Graphics", 0x4909: "Iris Xe MAX 100",
	0x5690: "Arc A770M", 0x5691: "Arc A730M", 0x5692: "Arc A550M", 0x5693: "Arc A370M", 0x5694: "Arc A350M", 0x5696: "Arc A570M",
	0x5697: "Arc A530M", 0x56a0: "Arc A770", 0x56a1: "Arc A750", 0x56a2: "Arc A580", 0x56a5: "Arc A380", 0x56a6: "Arc A310",
	0x56b0: "Arc Pro A30M", 0x56b1: "Arc Pro A40/A50", 0x56b2: "Arc Pro A60M", 0x56b3: "Arc Pro A60",
	0x56ba: "Arc A380E", 0x56bb: "Arc A310E", 0x56bc: "Arc A370E", 0x56bd: "Arc A350E", 0x56be: "Arc A750E", 0x56bf: "Arc A580E",
	0x56c0: "Data Center GPU Flex 170", 0x56c1: "Data Center GPU Flex 140", 0x56c2: "Data Center GPU Flex 170V",
	0x0b69: "Data Center GPU Max 1450", 0x0b6e: "Data Center GPU Max 1100C", 0x0bd4: "Data Center GPU Max 1550VG",
	0x0bd5: "Data Center GPU Max 1550", 0x0bd6: "Data Center GPU Max 1550", 0x0bd7: "Data Center GPU Max 1350",
	0x0bd8: "Data Center GPU Max 1350", 0x0bd9: "Data Center GPU Max 1100", 0x0bda: "Data Center GPU Max 1100",
	0x0bdb: "Data Center GPU Max 1100",
	0xe20b: "Arc B580", 0xe20c: "Arc B570", 0xe211: "Arc Pro B60", 0xe212: "Arc Pro B50", 0xe222: "Arc Pro B65", 0xe223: "Arc Pro B70",
}
