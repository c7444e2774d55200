package model

import (
	"fmt"
	"strings"

	"muster/shared/gpu"
)

// Fit is whether a model fits a device.
type Fit int

// The answers.
const (
	FitUnknown Fit = iota // memory of the device or need of the model is not known
	FitNot                // it needs more than the device has
	FitTight              // it fits while little else is on the device
	FitWell
)

// tight is the share of a device's memory beyond which other programs must be off it.
const tight = 0.9

// FitOf says whether a model of such a need fits a device with so much memory; 0 and nil are not known.
func FitOf(needBytes uint64, memoryBytes *uint64) Fit {
	switch {
	case needBytes == 0 || memoryBytes == nil || *memoryBytes == 0:
		return FitUnknown
	case needBytes > *memoryBytes:
		return FitNot
	case float64(needBytes) > tight*float64(*memoryBytes):
		return FitTight
	}
	return FitWell
}

// working is the device memory beside the weights that an image of one megapixel takes: latents, attention, the decoder's buffers
// and the driver's context. With the weights it gives the 3.5 GiB of sd15 (2.1 GB), 9.5 of sdxl (6.9 GB) and 16 of flux-q8 (12.7
// GB) that generators are known to take; the others stand between those by their size.
var working = map[Family]uint64{
	SD1: 3 * gpu.GiB / 2, SD2: 7 * gpu.GiB / 4, SDXL: 3 * gpu.GiB, SD3: 7 * gpu.GiB / 2,
	Flux: 4 * gpu.GiB, Chroma: 4 * gpu.GiB, QwenImage: 9 * gpu.GiB / 2, ZImage: 3 * gpu.GiB,
}

// EstimateVRAM guesses the device memory for an image of one megapixel from the bytes of the weights that a generator loads: those
// of the text encoders count where they are in the file. Of an unknown family it takes a quarter more than the weights, and 1 GiB.
func EstimateVRAM(f Family, weights uint64) uint64 {
	if beside, ok := working[f]; ok {
		return weights + beside
	}
	return weights + weights/4 + gpu.GiB
}

// DeviceFit is whether a model fits one device.
type DeviceFit struct {
	Device gpu.Ref `json:"device_id"`
	Fits   *bool   `json:"fits"` // nil when it is not known
	// Words say why, as "Device 0 " would continue: "fits", "fits while little else is on it", "needs 9.5 GiB, has 8.0 GiB".
	Words string `json:"words"`
}

// FitsOf says on which devices a model of such a need fits, in their order. Of a device that is divided its largest part counts:
// images are made on the parts.
func FitsOf(needBytes uint64, devices []gpu.Device) []DeviceFit {
	fits := make([]DeviceFit, len(devices))
	for i, d := range devices {
		memory := d.MemoryBytes
		if len(d.Partitions) > 0 {
			memory = largest(d.Partitions)
		}
		fits[i] = DeviceFit{Device: d.Index, Words: fitWords(needBytes, memory)}
		if fit := FitOf(needBytes, memory); fit != FitUnknown {
			fits[i].Fits = new(fit != FitNot)
		}
	}
	return fits
}

func largest(parts []gpu.Device) (most *uint64) {
	for _, part := range parts {
		if part.MemoryBytes != nil && (most == nil || *part.MemoryBytes > *most) {
			most = part.MemoryBytes
		}
	}
	return most
}

func fitWords(need uint64, memory *uint64) string {
	switch FitOf(need, memory) {
	case FitNot:
		return fmt.Sprintf("needs %.1f GiB, has %.1f GiB", gib(need), gib(*memory))
	case FitTight:
		return "fits while little else is on it"
	case FitWell:
		return "fits"
	}
	if need == 0 {
		return "not known: what the model needs is not known"
	}
	return "not known: the device does not report its memory"
}

func gib(bytes uint64) float64 { return float64(bytes) / gpu.GiB }

// FitWords sums up where a model fits: "fits devices 0–2, not Device 3: needs 9.5 GiB, has 8.0 GiB". "" for no device.
func FitWords(fits []DeviceFit) string {
	var on, off, open []gpu.Ref
	why := ""
	for _, fit := range fits {
		switch {
		case fit.Fits == nil:
			open = append(open, fit.Device)
		case *fit.Fits:
			on = append(on, fit.Device)
		default:
			off = append(off, fit.Device)
			why = fit.Words
		}
	}
	if len(off) > 1 {
		why, _, _ = strings.Cut(why, ",") // the devices may differ, so what the last of them has says nothing
	}
	var parts []string
	if len(on) > 0 {
		parts = append(parts, "fits "+named(on, len(fits)))
	}
	switch {
	case len(off) > 0 && len(on)+len(open) == 0:
		parts = append(parts, "does not fit "+none(off)+": "+why)
	case len(off) > 0:
		parts = append(parts, "not "+gpu.Named(off)+": "+why)
	}
	if len(open) > 0 {
		parts = append(parts, "not known for "+named(open, len(fits)))
	}
	return strings.Join(parts, ", ")
}

// none says of all devices that it is none of them.
func none(all []gpu.Ref) string {
	if len(all) == 1 {
		return all[0].Label()
	}
	return fmt.Sprintf("any of the %d GPUs", len(all))
}

// named is gpu.Named, or that they are all the machine has.
func named(refs []gpu.Ref, all int) string {
	switch {
	case len(refs) < all || all == 1:
		return gpu.Named(refs)
	case all == 2:
		return "both GPUs"
	}
	return fmt.Sprintf("all %d GPUs", all)
}
