package amdgpu

import (
	"slices"

	"muster/agent/telemetry/kernel"
)

// physical is one card: what the PCI bus says of it, what KFD says, or both.
type physical struct {
	address kernel.Address
	pci     *kernel.PCIDevice // nil for a card that only KFD shows, as in some containers
	nodes   []node            // in order of their ids; several on a partitioned card; none where KFD hides or doesn't know it
}

// partitionable says whether this chip can be split into partitions (MI300 and its successors).
func (g graphics) partitionable() bool { return g.major == 9 && (g.minor == 4 || g.minor == 5) }

// served says whether the device is a card of this package's.
func served(d kernel.PCIDevice) bool { return d.Vendor == kernel.VendorAMD && d.Driver == "amdgpu" }

// join puts nodes and cards together by PCI address, and by nothing else: card, node and HIP order all differ.
func join(devices []kernel.PCIDevice, nodes []node) []physical {
	var cards []physical
	for i := range devices {
		if served(devices[i]) {
			cards = append(cards, physical{address: devices[i].Address, pci: &devices[i]})
		}
	}
	served := len(cards)
	for _, n := range nodes {
		i, known := n.find(cards[:served])
		if !known {
			i, cards = n.findHidden(cards)
		}
		if i >= 0 {
			cards[i].nodes = append(cards[i].nodes, n)
		}
	}
	slices.SortStableFunc(cards, func(a, b physical) int { return a.address.Compare(b.address) })
	return cards
}

// find gives the card that the node belongs to; false when the bus shows none at its address, -1 when each that it shows
// has such a node already. A kernel that reports no domain may mean any.
func (n node) find(cards []physical) (i int, known bool) {
	for _, want := range []kernel.Address{n.address(), n.cardAddress()} {
		for i, c := range cards {
			have := c.address
			if !n.hasDomain {
				have.Domain = 0
			}
			if have != want {
				continue
			}
			if known = true; !c.has(n) {
				return i, true
			}
		}
	}
	return -1, known
}

// findHidden gives the place of a card that only KFD shows, adding it when the node is its first. Two of one address can both
// be real, told apart by unique id: kernels without the domain line hide in which domain they are.
func (n node) findHidden(cards []physical) (int, []physical) {
	at := n.cardAddress()
	for i, c := range cards {
		if c.pci == nil && c.address == at && c.nodes[0].uniqueID == n.uniqueID {
			if c.has(n) {
				return -1, cards
			}
			return i, cards
		}
	}
	return len(cards), append(cards, physical{address: at})
}

// has says whether the card already has a node at this very address.
func (c physical) has(n node) bool {
	return slices.ContainsFunc(c.nodes, func(m node) bool { return m.address() == n.address() })
}

// cardAddress is the address of the node's card: the node's own, without the partition's number.
func (n node) cardAddress() kernel.Address {
	a := n.address()
	if n.graphics().partitionable() {
		a.Function = 0
	}
	return a
}

// split says whether the card's nodes are partitions.
func (c physical) split() bool {
	return len(c.nodes) > 1 || len(c.nodes) == 1 && c.nodes[0].address().Function != c.address.Function
}

// deviceID is the PCI device id.
func (c physical) deviceID() uint64 {
	if c.pci != nil {
		return c.pci.Product
	}
	return c.nodes[0].deviceID
}

func (c physical) graphics() graphics {
	for _, n := range c.nodes {
		if g := n.graphics(); g != (graphics{}) {
			return g
		}
	}
	return chips[c.deviceID()]
}

// memory sums what KFD says of the nodes; nil when it says nothing.
func (c physical) memory() *uint64 {
	var sum uint64
	for _, n := range c.nodes {
		sum += n.memory
	}
	if sum == 0 {
		return nil
	}
	return &sum
}

// unified says whether the card computes in main memory: a node that is processor and GPU in one, a known part, or KFD
// counting the shared memory (GTT) as the device's own.
func (c physical) unified(vram, gtt *uint64) bool {
	if apus[c.deviceID()] {
		return true
	}
	for _, n := range c.nodes {
		if n.cpuCores > 0 {
			return true
		}
		if vram != nil && gtt != nil && n.memory != 0 && n.memory == *gtt && *gtt != *vram {
			return true
		}
	}
	return false
}
