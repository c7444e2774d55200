package intel

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"muster/agent/telemetry"
	"muster/agent/telemetry/fdinfo"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// drivers serve Intel's GPUs.
var drivers = []string{"i915", "xe"}

// Inventory lists the devices by PCI address. Of a sleeping one it reads only what the bus itself knows. Virtual functions of a
// device that is in this machine too are left out: they are parts of it.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	t, err := kernel.OpenWith(r.root, r.read)
	if err != nil {
		return telemetry.Found{}, err
	}
	if r.scanner == nil {
		r.scanner = fdinfo.New(t, walkEvery)
	}
	found, cards := telemetry.Found{}, []*card{}
	for _, d := range kernel.ScanPCI(t) {
		if err := ctx.Err(); err != nil {
			return telemetry.Found{}, fmt.Errorf("inventory of Intel devices: %w", err)
		}
		if d.Vendor != kernel.VendorIntel || !slices.Contains(drivers, d.Driver) {
			continue
		}
		if _, err := t.ResolveIn(d.Dir, "physfn"); err == nil {
			continue
		}
		c := r.newCard(t, d)
		cards = append(cards, c)
		found.Devices = append(found.Devices, c.device)
	}
	r.cards.Store(&cards)
	return found, nil
}

// newCard describes a device, with what was learnt of it before.
func (r *Reader) newCard(t kernel.Tree, d kernel.PCIDevice) *card {
	c := &card{
		tree: t, scanner: r.scanner, query: r.query, dir: d.Dir, driver: d.Driver, status: t.RuntimeStatusFile(d.Dir), nodes: fdinfo.Nodes(t, d.Dir), meter: &meter{},
		device: gpu.Device{
			ID: "pci-" + d.String(), Vendor: gpu.Intel, PCIAddress: d.String(), DriverVersion: driverVersion(t, d.Driver),
		},
	}
	f, known := familyOf(d.Product)
	c.device.Arch, c.device.Unified = f.arch, known && !f.discrete || !known && onProcessor(d)
	c.ownSwitch = f.ownSwitch
	if functions := t.Decimal(d.Dir, "sriov_numvfs"); functions != nil && *functions > 0 {
		c.divided = true
	}
	sources := map[string]string{"driver_version": "module version"}
	if known {
		sources["arch"] = "PCI device id"
	}
	c.device.Name, sources["name"] = r.name(t, d)
	if old, err := r.card(c.device.ID); err == nil && old.dir == c.dir && old.driver == c.driver {
		c.meter = old.meter
		c.sensors.Store(old.sensors.Load())
		c.memory = old.memory
	}
	c.look()
	c.describe(sources)
	return c
}

// onProcessor says whether a device that no table knows stands where Linux's drivers expect an integrated one: at 00:02.0,
// directly on the root of the bus.
func onProcessor(d kernel.PCIDevice) bool {
	return d.Address == kernel.Address{Device: 2} && strings.HasPrefix(filepath.Base(filepath.Dir(d.Dir)), "pci")
}

// driverVersion gives the version of a module that was installed apart, else says that it is the kernel's.
func driverVersion(t kernel.Tree, driver string) string {
	if version := t.Word(t.Path("sys/module/"+driver), "version"); version != "" {
		return version
	}
	return strings.TrimSpace("in-tree " + t.Word(t.Path("proc/sys/kernel"), "osrelease"))
}

// name names a device: by pci.ids, else by the table of cards, else by its number.
func (r *Reader) name(t kernel.Tree, d kernel.PCIDevice) (name, source string) {
	name, source = r.names.Lookup(t, d), "pci.ids"
	if name == "" {
		name, source = cardNames[d.Product], "PCI device id"
	}
	switch {
	case name == "":
		return fmt.Sprintf("Intel GPU 0x%04X", d.Product), "PCI device id"
	case strings.Contains(name, "Intel"):
		return name, source
	default:
		return "Intel " + name, source
	}
}
