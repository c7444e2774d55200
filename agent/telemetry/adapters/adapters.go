// Package adapters lists every graphics device on the PCI bus by what the bus itself tells: what no reader serves as a device
// (a BMC, an unsupported card, one without driver or given to a virtual machine) is shown as an adapter, never as a GPU.
package adapters

import (
	"context"
	"fmt"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// Reader lists adapters. It implements telemetry.Reader and has no devices.
type Reader struct {
	root  string
	read  kernel.ReadFunc
	names kernel.Names // of Inventory, which never runs twice at once
}

// New reads below sysroot: "/" is this machine, another folder a capture of one.
func New(sysroot string) *Reader { return &Reader{root: sysroot, read: kernel.ReadFile} }

// Name gives "pci".
func (r *Reader) Name() string { return "pci" }

// Inventory lists the graphics devices of every maker, those that other readers serve too: who merges drops them. It opens
// nothing that wakes a device.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	t, err := kernel.OpenWith(r.root, r.read)
	if err != nil {
		return telemetry.Found{}, err
	}
	found := telemetry.Found{}
	for _, d := range kernel.ScanPCI(t) {
		if err := ctx.Err(); err != nil {
			return telemetry.Found{}, fmt.Errorf("inventory of display adapters: %w", err)
		}
		found.Adapters = append(found.Adapters, gpu.Adapter{PCIAddress: d.String(), Name: r.names.Adapter(t, d), Driver: d.Driver})
		if p := problem(d); p != "" {
			found.Problems = append(found.Problems, p)
		}
	}
	return found, nil
}

// Read fails: there are no devices.
func (r *Reader) Read(context.Context, string) (gpu.Reading, error) {
	return gpu.Reading{}, fmt.Errorf("a display adapter has nothing to read: %w", telemetry.ErrUnsupported)
}

// problem says what keeps muster from reading a GPU that it could read with another driver, and what to do; "" for nothing. Of
// NVIDIA's cards without driver the reader of NVIDIA's library speaks.
func problem(d kernel.PCIDevice) string {
	switch {
	case d.Vendor == kernel.VendorAMD && d.Driver == "":
		return fmt.Sprintf(`AMD card %s has no driver: load it with "modprobe amdgpu", and see the kernel log if that fails`, d.Address)
	case d.Vendor == kernel.VendorNVIDIA && (d.Driver == "nouveau" || d.Driver == "nova"):
		return fmt.Sprintf("NVIDIA card %s is driven by %s, which reports nothing that muster reads: install NVIDIA's driver and reboot", d.Address, d.Driver)
	case d.Vendor == kernel.VendorIntel && d.Driver == "":
		return fmt.Sprintf(`Intel GPU %s has no driver: load it with "modprobe i915" (of newer parts "modprobe xe"), and see the kernel log if that fails`, d.Address)
	default:
		return ""
	}
}
