package nvml

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"muster/shared/gpu"
)

// busCard is an NVIDIA display device on the PCI bus, seen without NVML.
type busCard struct {
	address, driver, model string
	uuid                   string // from /proc/driver/nvidia; "" when its module doesn't say
	status                 string // power/runtime_status
}

// scanBus lists the cards by address. root is "/", or a test's folder.
func scanBus(root string) []busCard {
	dir := filepath.Join(root, "sys/bus/pci/devices")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var cards []busCard
	for _, entry := range entries {
		uevent := keys(small(filepath.Join(dir, entry.Name(), "uevent")), "=")
		id, isNVIDIA := strings.CutPrefix(strings.ToUpper(uevent["PCI_ID"]), "10DE:")
		class := uevent["PCI_CLASS"]
		address := pciAddress(entry.Name())
		if !isNVIDIA || address == "" || len(class) < 5 || !strings.HasPrefix(class[:len(class)-4], "3") {
			continue
		}
		information := keys(small(filepath.Join(root, "proc/driver/nvidia/gpus", entry.Name(), "information")), ":")
		card := busCard{address: address, driver: uevent["DRIVER"], model: information["Model"],
			status: strings.TrimSpace(small(filepath.Join(dir, entry.Name(), "power/runtime_status")))}
		if uuid := information["GPU UUID"]; strings.HasPrefix(uuid, "GPU-") && !strings.Contains(uuid, "?") {
			card.uuid = uuid
		}
		if card.model == "" {
			card.model = "NVIDIA GPU 0x" + id
		} else if !strings.HasPrefix(card.model, "NVIDIA") {
			card.model = "NVIDIA " + card.model
		}
		cards = append(cards, card)
	}
	slices.SortFunc(cards, func(a, b busCard) int { return strings.Compare(a.address, b.address) })
	return cards
}

// foreign says whether a driver that isn't NVIDIA's has the card: it was given to a virtual machine, or nouveau drives it.
func (c busCard) foreign() bool { return c.driver != "" && c.driver != "nvidia" }

// device describes the card with what stops it from being read.
func (c busCard) device(why string) gpu.Device {
	id := c.uuid
	if id == "" {
		id = "pci-" + c.address
	}
	return gpu.Device{ID: id, Vendor: gpu.NVIDIA, Name: c.model, PCIAddress: c.address, Error: why,
		Sources: map[string]string{"name": "PCI bus"}}
}

func (c busCard) adapter() gpu.Adapter {
	return gpu.Adapter{PCIAddress: c.address, Name: c.model, Driver: c.driver}
}

// small reads a kernel file by one read(2); "" when it can't. O_NONBLOCK, so that nothing in its place can hang the open.
func small(path string) string {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer syscall.Close(fd)
	buf := make([]byte, 4096)
	n, err := syscall.Read(fd, buf)
	if err != nil || n <= 0 {
		return ""
	}
	if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
		n = end
	}
	return string(buf[:n])
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

// asleep says whether a card's runtime_status is that of one that reading would wake.
func asleep(root, address string) bool {
	if address == "" {
		return false
	}
	switch strings.TrimSpace(small(filepath.Join(root, "sys/bus/pci/devices", address, "power/runtime_status"))) {
	case "suspended", "suspending", "resuming":
		return true
	default:
		return false
	}
}

// whyNot says for people why NVML could not connect, and what to do.
func whyNot(s status) string {
	switch s {
	case libraryNotFound:
		return "the NVIDIA driver's library libnvidia-ml.so.1 was not found: install the NVIDIA driver (in a container: start it with --gpus all), or name the library with --nvml"
	case driverNotLoaded:
		return "the NVIDIA kernel module is not loaded: load it with \"modprobe nvidia\", and see the kernel log if that fails"
	case versionMismatch:
		return "NVIDIA's kernel module and library differ in version, as after an update of the driver: reboot; after loading the new module, restart muster"
	case noPermission:
		return "this user may not use the NVIDIA driver: check the permissions of /dev/nvidia*"
	case inUse:
		return "the NVIDIA driver must be connected anew, but a call into it has not returned: if this stays, see the kernel log for Xid, and reboot"
	case functionNotFound:
		return "the library found is not NVML: name the right libnvidia-ml.so.1 with --nvml"
	default:
		return fmt.Sprintf("the NVIDIA driver does not answer (%s): see the kernel log; in a container, restart the container", s)
	}
}
