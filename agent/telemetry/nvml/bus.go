package nvml

import (
	"fmt"
	"path/filepath"
	"strings"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// busCard is an NVIDIA display device on the PCI bus, seen without NVML.
type busCard struct {
	kernel.PCIDevice
	address    string
	model      string
	uuid       string // from /proc/driver/nvidia; "" when its module doesn't say
	statusFile string // power/runtime_status; "" when it has none, and so never sleeps
	maySleep   bool   // power/control is auto
	idle       bool   // its last reading said that it had nothing to do
}

// scanBus lists the cards by address. It wakes none.
func (r *Reader) scanBus(names *kernel.Names) []busCard {
	var cards []busCard
	for _, d := range kernel.ScanPCI(r.tree) {
		if d.Vendor != kernel.VendorNVIDIA {
			continue
		}
		card := busCard{PCIDevice: d, address: d.String(), statusFile: r.tree.RuntimeStatusFile(d.Dir), maySleep: r.tree.PowerControl(d.Dir) == "auto"}
		information := keys(r.tree.Word(r.tree.Path("proc/driver/nvidia/gpus/"+filepath.Base(d.Dir)), "information"), ":")
		if uuid := information["GPU UUID"]; strings.HasPrefix(uuid, "GPU-") && !strings.Contains(uuid, "?") {
			card.uuid = uuid
		}
		switch card.model = information["Model"]; {
		case card.model == "":
			if card.model = names.Lookup(r.tree, d); card.model == "" {
				card.model = fmt.Sprintf("GPU 0x%04X", d.Product)
			}
			fallthrough
		case !strings.HasPrefix(card.model, "NVIDIA"):
			card.model = "NVIDIA " + strings.TrimPrefix(card.model, "NVIDIA ")
		}
		cards = append(cards, card)
	}
	return cards
}

// foreign says whether a driver that isn't NVIDIA's has the card: it was given to a virtual machine, or nouveau drives it.
func (c busCard) foreign() bool { return c.Driver != "" && c.Driver != "nvidia" }

// served gives the cards that aren't foreign.
func served(bus []busCard) (cards []busCard) {
	for _, card := range bus {
		if !card.foreign() {
			cards = append(cards, card)
		}
	}
	return cards
}

// device describes the card with what stops it from being read.
func (c busCard) device(why string) gpu.Device {
	id := c.uuid
	if id == "" {
		id = "pci-" + c.address
	}
	return gpu.Device{ID: id, Vendor: gpu.NVIDIA, Name: c.model, PCIAddress: c.address, Error: why,
		Sources: map[string]string{"name": "PCI bus"}}
}

// keys reads lines "key<separator> value".
func keys(text, separator string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, separator); ok {
			m[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return m
}

// asleep says whether reading the device of that runtime_status would wake it.
func (r *Reader) asleep(statusFile string) bool {
	var buf [32]byte
	return r.tree.Asleep(statusFile, buf[:])
}

// unread describes the cards of the bus that are NVIDIA's to serve, when NVML can't. known are earlier descriptions by PCI
// address: a device keeps its ID, name and size while its driver is away, or while it sleeps.
func unread(bus []busCard, s status, known map[string]gpu.Device) (found telemetry.Found, refused map[string]error) {
	refused = map[string]error{}
	why := whyNot(s)
	if s == asleep {
		why = ""
	}
	for _, card := range served(bus) {
		d := card.device(why)
		if old, ok := known[card.address]; ok {
			d = old
			d.Error = why
		}
		found.Devices = append(found.Devices, d)
		refused[d.ID] = fmt.Errorf("%s: %w", s, s.state())
		if why != "" {
			refused[d.ID] = fmt.Errorf("%s: %w", why, s.state())
		}
	}
	quiet := s == libraryNotFound || s == driverNotLoaded // as on every machine without NVIDIA hardware
	if why != "" && (len(found.Devices) > 0 || !quiet) {
		found.Problems = []string{why}
	}
	return found, refused
}

// signs of NVIDIA's driver that need no PCI bus: WSL and Tegra have none.
var signs = []string{"dev/nvidiactl", "dev/nvidia[0-9]*", "proc/driver/nvidia", "dev/dxg", "dev/nvhost*", "dev/nvgpu*"}

// Worth says whether there is any sign of NVIDIA on the machine below root, so that reading it is worth a try: a display device
// on the PCI bus, the driver's device nodes or folders, or a library that was configured. It calls no library and wakes nothing.
func Worth(root, libraryPath string) bool {
	if libraryPath != "" {
		return true
	}
	for _, sign := range signs {
		if found, err := filepath.Glob(filepath.Join(root, sign)); err == nil && len(found) > 0 {
			return true
		}
	}
	tree, err := kernel.Open(root)
	if err != nil {
		return false
	}
	for _, d := range kernel.ScanPCI(tree) {
		if d.Vendor == kernel.VendorNVIDIA {
			return true
		}
	}
	return false
}
