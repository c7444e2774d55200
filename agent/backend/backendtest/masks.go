package backendtest

import (
	"slices"
	"strconv"
	"strings"
)

// MaskNames are the variables that hide devices from a program.
var MaskNames = []string{"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "SD_VK_DEVICE"}

// masksOf are the variables that count for a kind of device, in the order in which they apply.
var masksOf = map[string][]string{
	"cuda":   {"CUDA_VISIBLE_DEVICES"},
	"rocm":   {"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"},
	"vulkan": {"GGML_VK_VISIBLE_DEVICES"},
}

// Kind is a device's name without its number, in lower case: "cuda", "rocm", "vulkan", "cpu".
func (d Device) Kind() string { return strings.ToLower(strings.TrimRight(d.Name, "0123456789")) }

// Shown gives the devices that the masks leave, numbered anew within their kind.
func Shown(devices []Device, masks map[string]string) []Device {
	var shown []Device
	var seen []string
	for _, d := range devices {
		kind := d.Kind()
		if slices.Contains(seen, kind) {
			continue
		}
		seen = append(seen, kind)
		left := ofKind(devices, kind)
		for _, mask := range masksOf[kind] {
			if value, ok := masks[mask]; ok {
				left = masked(left, value)
			}
		}
		for i, d := range left {
			if kind != "cpu" {
				d.Name = strings.TrimRight(d.Name, "0123456789") + strconv.Itoa(i)
			}
			shown = append(shown, d)
		}
	}
	return shown
}

func ofKind(devices []Device, kind string) []Device {
	var found []Device
	for _, d := range devices {
		if d.Kind() == kind {
			found = append(found, d)
		}
	}
	return found
}

// masked applies one variable: numbers or ids in their order; a wrong entry hides itself and all that follow.
func masked(devices []Device, mask string) []Device {
	var left []Device
	for entry := range strings.SplitSeq(mask, ",") {
		i := slices.IndexFunc(devices, func(d Device) bool { return entry != "" && d.ID == entry })
		if n, err := strconv.Atoi(entry); err == nil && n >= 0 && n < len(devices) {
			i = n
		}
		if i < 0 {
			return left
		}
		left = append(left, devices[i])
	}
	return left
}
