package sdserver

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"muster/agent/backend/mask"
	"muster/shared/gpu"
)

// pin ties a child to one device.
type pin struct {
	env     []string // the one mask variable (none for the CPU), and what its numbering needs
	backend string   // the child's --backend: the device's name behind the mask
}

// kinds are the ggml backends that can drive a vendor's devices, best first.
var kinds = map[gpu.Vendor][]string{
	gpu.NVIDIA: {"cuda", "vulkan"},
	gpu.AMD:    {"rocm", "vulkan"},
	gpu.Intel:  {"vulkan"},
}

var buildNames = map[string]string{"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan", "cpu": "CPU"}

// pin says how a child of this build is tied to dev, or in words why it can't be. override is a configured --backend.
func (b build) pin(dev gpu.Device, override string) (pin, error) {
	if dev.Simulated {
		return pin{}, fmt.Errorf("%s is simulated: sd-server needs a real device", dev.Index.Label())
	}
	kind, err := b.kind(dev, override)
	if err != nil {
		return pin{}, err
	}
	p := pin{backend: kind + "0"} // behind its mask a device is always number 0
	switch kind {
	case "cuda":
		p.env, err = mask.CUDA(dev)
	case "rocm":
		p.env, err = mask.ROCm(dev)
	case "vulkan":
		p.env, err = b.vulkanMask(dev)
	default:
		p.backend = kind
	}
	return p, err
}

// kind chooses the ggml backend for a device.
func (b build) kind(dev gpu.Device, override string) (string, error) {
	wanted := kinds[dev.Vendor]
	if dev.Index == gpu.CPU {
		wanted = []string{"cpu"}
	}
	if override != "" {
		kind := strings.TrimRight(strings.ToLower(override), "0123456789")
		if slices.Contains(wanted, kind) {
			return kind, nil
		}
		return "", fmt.Errorf("the configured sd-server backend %s can't drive %s (%s)", override, dev.Index.Label(), dev.Name)
	}
	if b.devices == nil {
		return "", fmt.Errorf("this sd-server (%s) can't list its devices: update stable-diffusion.cpp to build 747 or newer, or name its backend with --sd-backend (cuda0, rocm0)", b.name())
	}
	for _, kind := range wanted {
		if slices.ContainsFunc(b.devices, func(d listedDevice) bool { return d.kind == kind }) {
			return kind, nil
		}
	}
	return "", fmt.Errorf("%s: this sd-server build lists no %s device (it lists %s): build stable-diffusion.cpp for this device, or check its driver with sd-server --list-devices",
		dev.Index.Label(), strings.Join(names(wanted), " or "), b.listing())
}

// count is how many devices the build lists of a pinned one's kind; 0 when it lists none.
func (b build) count(p pin) (n int) {
	for _, d := range b.devices {
		if d.kind == strings.TrimRight(p.backend, "0123456789") {
			n++
		}
	}
	return n
}

func names(kinds []string) []string {
	if len(kinds) == 0 {
		return []string{"usable"}
	}
	words := make([]string, len(kinds))
	for i, kind := range kinds {
		words[i] = buildNames[kind]
	}
	return words
}

// listing names the kinds of devices that the build has, for people.
func (b build) listing() string {
	if len(b.devices) == 0 {
		return "none at all"
	}
	var seen []string
	for _, d := range b.devices {
		if !slices.Contains(seen, d.kind) {
			seen = append(seen, d.kind)
		}
	}
	return strings.Join(seen, ", ")
}

// vulkanMask finds the device in the build's list, by PCI address where the description has it, else by name. Vulkan's numbers
// have no fixed relation to any other, so of equal cards none is chosen: an image must not be credited to the wrong one.
func (b build) vulkanMask(dev gpu.Device) ([]string, error) {
	var byAddress, byName []listedDevice
	for _, d := range b.devices {
		if d.kind != "vulkan" {
			continue
		}
		if dev.PCIAddress != "" && strings.Contains(strings.ToLower(d.description), dev.PCIAddress) {
			byAddress = append(byAddress, d)
		}
		if sameName(d.description, dev.Name) {
			byName = append(byName, d)
		}
	}
	for _, found := range [][]listedDevice{byAddress, byName} {
		if len(found) == 1 {
			return []string{"GGML_VK_VISIBLE_DEVICES=" + strconv.Itoa(found[0].ordinal)}, nil
		}
	}
	if len(byName) > 1 {
		return nil, fmt.Errorf("%s: this Vulkan build of sd-server lists %d devices called %s and does not say which is at %s: use a ROCm or CUDA build, which can tell equal cards apart",
			dev.Index.Label(), len(byName), dev.Name, dev.PCIAddress)
	}
	return nil, fmt.Errorf("%s: this Vulkan build of sd-server lists no device called %s: check with sd-server --list-devices", dev.Index.Label(), dev.Name)
}

// sameName compares a Vulkan description, "AMD Radeon RX 6900 XT (RADV NAVI21)", with a marketing name.
func sameName(description, name string) bool {
	a, b := bareName(description), bareName(name)
	return a != "" && a == b
}

func bareName(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(name), "(")
	words := slices.DeleteFunc(strings.Fields(name), func(word string) bool {
		return slices.Contains([]string{"amd", "nvidia", "intel", "corporation", "graphics"}, word)
	})
	return strings.Join(words, " ")
}
