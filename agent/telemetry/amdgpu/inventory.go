package amdgpu

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"muster/agent/telemetry"
	"muster/agent/telemetry/fdinfo"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// Inventory lists the cards that amdgpu serves by PCI address. It reads nothing that could wake a card, and waits for the firmware of
// none longer than for all.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	t, err := kernel.OpenWith(r.root, r.read)
	if err != nil {
		return telemetry.Found{}, err
	}
	devices := kernel.ScanPCI(t)
	found := telemetry.Found{}
	before, cards := r.known(), map[string]*card{}
	driver := driverVersion(t)
	if r.scanner == nil {
		r.scanner = fdinfo.New(t, walkEvery)
	}
	topology := readTopology(t)
	r.hidden.Store(int32(topology.hidden))
	var listed []*card
	for _, p := range join(devices, topology.nodes) {
		if err := ctx.Err(); err != nil {
			return telemetry.Found{}, fmt.Errorf("inventory of AMD devices: %w", err)
		}
		if r.tornOut(p) {
			continue
		}
		c := r.newCard(t, p, topology, driver, before, cards)
		cards[c.device.ID] = c
		listed = append(listed, c)
	}
	surveyAll(ctx, listed, before, r.patience)
	for _, c := range listed {
		c.describeFacts()
		c.describeReadings()
		found.Devices = append(found.Devices, c.device)
	}
	if len(found.Devices) > 0 {
		found.Host.AMDGPUDriver = driver
	}
	r.cards.Store(&cards)
	return found, nil
}

// tornOut says whether the card was on the bus once and is there no more: KFD goes on to list it until its last process ends, but
// it is lost. What the bus never showed is another matter: a container may hide it.
func (r *Reader) tornOut(p physical) bool {
	if p.pci != nil {
		r.onBus[p.address] = true
	}
	return p.pci == nil && r.onBus[p.address]
}

// driverVersion gives the version of AMD's own module, else says that it is the kernel's.
func driverVersion(t kernel.Tree) string {
	if version := t.Word(t.Path("sys/module/amdgpu"), "version"); version != "" {
		return version
	}
	if kernel := t.Word(t.Path("proc/sys/kernel"), "osrelease"); kernel != "" {
		return "in-tree " + kernel
	}
	return "in-tree"
}

// newCard describes a card. before are the cards of the last inventory, others those already in this one.
func (r *Reader) newCard(t kernel.Tree, p physical, all topology, driver string, before, others map[string]*card) *card {
	g := p.graphics()
	c := &card{tree: t, graphics: g, scanner: r.scanner, device: gpu.Device{
		Vendor: gpu.AMD, PCIAddress: p.address.String(), Arch: g.arch(), ComputeCapability: g.capability(), DriverVersion: driver,
	}}
	d := &c.device
	pci := kernel.PCIDevice{Address: p.address, Vendor: kernel.VendorAMD, Product: p.deviceID()}
	if p.pci != nil {
		pci, c.dir = *p.pci, p.pci.Dir
		c.readTotals(t)
		c.status, c.nodes = t.RuntimeStatusFile(c.dir), fdinfo.Nodes(t, c.dir)
	}
	sources := map[string]string{}
	d.MemoryBytes, sources["memory_bytes"] = c.vramTotal, "mem_info_vram_total"
	if d.MemoryBytes == nil {
		d.MemoryBytes, sources["memory_bytes"] = p.memory(), "KFD mem_banks"
		c.vramTotal = d.MemoryBytes
	}
	if d.MemoryBytes != nil {
		delete(d.Absent, "memory_bytes")
	}
	d.Unified = p.unified(c.vramTotal, c.gttTotal)
	c.internalLink = g.major >= 9
	named := r.names.card(t, pci)
	d.Name, sources["name"] = named.text, named.source
	r.identify(t, c, p, before, others)
	r.placeInHIP(d, p, g)
	c.parts = partsOf(d.ID, p, all)
	c.nodes = slices.DeleteFunc(c.nodes, func(node string) bool {
		return p.split() && slices.ContainsFunc(c.parts, func(part part) bool { return part.node == node })
	})
	if len(p.nodes) == 0 && all.hidden > 0 {
		c.absent("vendor_index", gpu.AbsentNoPermission)
		c.absent("multi_processor_count", gpu.AbsentNoPermission)
	}
	describeSources(d, sources, p, g)
	d.Sources = sources
	return c
}

// readTotals reads how much memory the card has, and why it doesn't say.
func (c *card) readTotals(t kernel.Tree) {
	p := newProbe(t)
	defer p.release()
	for _, total := range []struct {
		file, field string
		to          **uint64
	}{{"mem_info_vram_total", "memory_bytes", &c.vramTotal}, {"mem_info_gtt_total", "shared_memory_total_bytes", &c.gttTotal}} {
		if v, ok := p.number(filepath.Join(c.dir, total.file), 1, 0, maxMemory); ok {
			bytes := uint64(v)
			*total.to = &bytes
		} else if p.cause != "" {
			c.absent(total.field, p.cause)
		}
	}
}

// identify gives the card its stable ID: "GPU-" and 16 digits of its unique id; where it has none, or another card claims the
// same, "pci-" and its address.
func (r *Reader) identify(t kernel.Tree, c *card, p physical, before, others map[string]*card) {
	unique, err := uint64(0), error(nil)
	if c.dir != "" {
		var text string
		if text, err = t.Text(filepath.Join(c.dir, "unique_id")); err == nil {
			unique, _ = kernel.Hex(text)
		}
	}
	if unique == 0 && len(p.nodes) > 0 {
		unique = p.nodes[0].uniqueID
	}
	if unique == 0 && err != nil && !isAbsent(err) {
		for _, old := range before { // it is there, but the card can't answer just now: a reset must not rename it
			if old.device.PCIAddress == c.device.PCIAddress {
				unique = old.unique
			}
		}
	}
	c.unique = unique
	if id := fmt.Sprintf("GPU-%016x", unique); unique != 0 && others[id] == nil {
		c.device.ID = id
		return
	}
	id := "pci-" + c.device.PCIAddress
	for n := 2; others[id] != nil; n++ {
		id = fmt.Sprintf("pci-%s-%d", c.device.PCIAddress, n)
	}
	c.device.ID = id
}

// placeInHIP fills what KFD tells: the HIP index (of a split card that of its first partition), the multiprocessors, and the
// partitions.
func (r *Reader) placeInHIP(d *gpu.Device, p physical, g graphics) {
	units := 0
	for i, n := range p.nodes {
		units += n.computeUnits()
		if i == 0 {
			rank := n.rank
			d.VendorIndex = &rank
		}
	}
	if units > 0 {
		count := g.multiprocessors(units)
		d.MultiprocessorCount = &count
	}
	if !p.split() {
		return
	}
	for _, n := range p.nodes {
		rank, number := n.rank, n.address().Function
		part := gpu.Device{
			ID: partitionID(d.ID, n), Vendor: gpu.AMD, Name: fmt.Sprintf("%s partition %d", d.Name, number),
			PCIAddress: d.PCIAddress, Arch: n.graphics().arch(), ComputeCapability: n.graphics().capability(),
			VendorIndex: &rank, DriverVersion: d.DriverVersion, Unified: d.Unified,
		}
		if n.memory > 0 {
			part.MemoryBytes = &n.memory
		}
		if units := n.computeUnits(); units > 0 {
			count := n.graphics().multiprocessors(units)
			part.MultiprocessorCount = &count
		}
		d.Partitions = append(d.Partitions, part)
	}
}

// describeSources says where the static facts come from, and drops what isn't there.
func describeSources(d *gpu.Device, sources map[string]string, p physical, g graphics) {
	if d.MemoryBytes == nil {
		delete(sources, "memory_bytes")
	}
	sources["driver_version"] = "module version"
	if len(p.nodes) > 0 {
		sources["vendor_index"] = "KFD node order"
	}
	if d.MultiprocessorCount != nil {
		sources["multi_processor_count"] = "KFD simd_count"
	}
	if g == (graphics{}) {
		return
	}
	source := "PCI device id"
	if len(p.nodes) > 0 && decodeTarget(p.nodes[0].target) != (graphics{}) {
		source = "KFD gfx_target_version"
	}
	sources["arch"], sources["compute_capability"] = source, source
}

// partsOf lists the card's nodes, with what KFD names them by elsewhere.
func partsOf(id string, p physical, all topology) (parts []part) {
	for _, n := range p.nodes {
		part := part{number: int(n.address().Function), bank: n.used, gpuID: n.gpuID}
		if p.split() {
			part.id = partitionID(id, n)
		}
		if n.renderMinor > 0 {
			part.node = fmt.Sprintf("renderD%d", n.renderMinor)
		}
		for i, l := range n.links {
			link := gpu.Link{Index: i, Kind: "XGMI", Active: l.enabled, PeerAddress: all.addressOf(l.to)}
			if l.gigabytes > 0 {
				link.GigabytesPerSecond = &l.gigabytes
			}
			part.links = append(part.links, link)
		}
		parts = append(parts, part)
	}
	return parts
}

// partitionID is the stable ID of the node as a partition of the card with that ID.
func partitionID(card string, n node) string {
	return fmt.Sprintf("%s-p%d", card, n.address().Function)
}

// addressOf gives the PCI address of the card with that node; "" for processors and nodes that can't be read.
func (t topology) addressOf(id int) string {
	for _, n := range t.nodes {
		if n.id == id {
			return n.cardAddress().String()
		}
	}
	return ""
}
