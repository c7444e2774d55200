package attach

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"muster/agent/backend"
	"muster/shared/gpu"
)

// evidence is what there is to tell a server's device by.
type evidence struct {
	wanted  *wish    // what a person said; nil for nothing
	holders []string // IDs of the devices on which its process has memory; nil when that is not known
	facts   Facts    // what it says itself
}

// errAsk is wrapped when only a person can say which device a server uses.
var errAsk = errors.New("write the number of its device behind its address, as in #0")

// place says which device a server uses, or in words why that is not certain. What a person said counts, unless the server's own
// process proves otherwise; then the process list; then what the server says of its device, where only one fits.
func place(inventory gpu.Inventory, e evidence) (gpu.Device, error) {
	if e.wanted != nil {
		return placeAsSaid(inventory, e)
	}
	switch len(e.holders) {
	case 0:
	case 1:
		return deviceOf(inventory, e.holders[0])
	default:
		return gpu.Device{}, fmt.Errorf("its process uses %s, so it is not certain which one makes an image: start one for each that sees that one alone, or %w",
			labels(inventory, e.holders), errAsk)
	}
	if e.facts.CPU {
		return backend.CPU(), nil
	}
	fits := candidates(inventory, e.facts)
	if len(fits) == 0 && e.facts.DeviceName != "" { // programs count memory in their own ways; names are names
		named := e.facts
		named.MemoryBytes = 0
		fits = candidates(inventory, named)
	}
	switch {
	case len(inventory.Devices) == 0:
		return gpu.Device{}, fmt.Errorf("it is not certain what it works on, and this machine shows no GPU: write #cpu behind its address if it uses the processor")
	case e.facts.DeviceName == "" && e.facts.MemoryBytes == 0:
		return gpu.Device{}, fmt.Errorf("it does not say what it works on: %w, or #cpu", errAsk)
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) == 0:
		return gpu.Device{}, fmt.Errorf("it says that it uses %s, which no device here is called: %w", e.facts.device(), errAsk)
	}
	return gpu.Device{}, fmt.Errorf("it can't be told which of %d devices it uses: %w", len(fits), errAsk)
}

func placeAsSaid(inventory gpu.Inventory, e evidence) (gpu.Device, error) {
	dev, err := said(inventory, *e.wanted)
	switch {
	case err != nil:
		return gpu.Device{}, err
	case dev.Simulated:
		return gpu.Device{}, fmt.Errorf("%s is simulated: a real generator can't work on it", dev.Index.Label())
	case len(e.holders) > 0 && !slices.Contains(e.holders, dev.ID):
		return gpu.Device{}, fmt.Errorf("it was said to work on %s, but its process uses %s: correct the # behind its address, or start it so that it sees %s alone",
			dev.Index.Label(), labels(inventory, e.holders), dev.Index.Label())
	case e.facts.CPU && dev.Index != gpu.CPU:
		return gpu.Device{}, fmt.Errorf("it was said to work on %s, but says itself that it uses the processor: start it with the device, or write #cpu", dev.Index.Label())
	}
	return dev, nil
}

func said(inventory gpu.Inventory, w wish) (gpu.Device, error) {
	if w.id == "" && w.ref == gpu.CPU {
		return backend.CPU(), nil
	}
	for _, dev := range inventory.Devices {
		if w.id != "" && dev.ID == w.id || w.id == "" && dev.Index == w.ref {
			return dev, nil
		}
	}
	name := w.id
	if name == "" {
		name = w.ref.Label()
	}
	return gpu.Device{}, fmt.Errorf("it was said to work on %s, which is not in this machine: muster gpus lists what is", name)
}

func deviceOf(inventory gpu.Inventory, id string) (gpu.Device, error) {
	for _, dev := range inventory.Devices {
		if dev.ID == id {
			return dev, nil
		}
	}
	return gpu.Device{}, fmt.Errorf("its device %s has left the machine", id)
}

// memorySlack is how far a program's own figure of a device's memory may be off the driver's, as a share: ECC, carve-outs and
// what the driver keeps are counted by some and not by others.
const memorySlack = 0.05

// candidates are the devices that what a server says of its own one does not rule out. Simulated ones are ruled out.
func candidates(inventory gpu.Inventory, facts Facts) []gpu.Device {
	return slices.DeleteFunc(slices.Clone(inventory.Devices), func(dev gpu.Device) bool {
		return dev.Simulated || dev.Error != "" || !sameName(facts.DeviceName, dev.Name) || !sameMemory(facts.MemoryBytes, dev.MemoryBytes)
	})
}

func sameMemory(told uint64, has *uint64) bool {
	if told == 0 || has == nil || *has == 0 {
		return true
	}
	ratio := float64(told) / float64(*has)
	return ratio > 1-memorySlack && ratio < 1+memorySlack
}

// sameName compares "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync" as PyTorch programs say it with a driver's name. What was not
// told fits all.
func sameName(told, name string) bool {
	told, name = bareName(told), bareName(name)
	return told == "" || name == "" || strings.Contains(told, name) || strings.Contains(name, told)
}

// bareName leaves out what does not tell one device from another: makers, and where it is.
func bareName(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(name), " : ")
	words := slices.DeleteFunc(strings.Fields(name), func(word string) bool {
		return strings.HasPrefix(word, "cuda:") || slices.Contains([]string{"amd", "nvidia", "intel", "corporation", "graphics", "(r)", "native"}, word)
	})
	return strings.Join(words, " ")
}

func labels(inventory gpu.Inventory, ids []string) string {
	var words []string
	for _, id := range ids {
		word := id
		if dev, err := deviceOf(inventory, id); err == nil {
			word = dev.Index.Label()
		}
		words = append(words, word)
	}
	return strings.Join(words, " and ")
}
