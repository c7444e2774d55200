package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"muster/agent/backend/backendtest"
)

// maskNames are the variables that hide devices from a program.
var maskNames = []string{"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "SD_VK_DEVICE"}

// masksOf are the variables that count for a kind of device, in the order in which they apply.
var masksOf = map[string][]string{
	"cuda":   {"CUDA_VISIBLE_DEVICES"},
	"rocm":   {"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"},
	"vulkan": {"GGML_VK_VISIBLE_DEVICES"},
}

func kindOf(name string) string { return strings.ToLower(strings.TrimRight(name, "0123456789")) }

// shown gives the devices that the masks leave, numbered anew within their kind.
func (p *program) shown() []backendtest.Device {
	var shown []backendtest.Device
	var seen []string
	for _, d := range p.settings.Devices {
		kind := kindOf(d.Name)
		if slices.Contains(seen, kind) {
			continue
		}
		seen = append(seen, kind)
		left := p.ofKind(kind)
		for _, mask := range masksOf[kind] {
			if value, ok := p.start.Masks[mask]; ok {
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

func (p *program) ofKind(kind string) []backendtest.Device {
	var found []backendtest.Device
	for _, d := range p.settings.Devices {
		if kindOf(d.Name) == kind {
			found = append(found, d)
		}
	}
	return found
}

// masked applies one variable: numbers or ids in their order; a wrong entry hides itself and all that follow.
func masked(devices []backendtest.Device, mask string) []backendtest.Device {
	var left []backendtest.Device
	for entry := range strings.SplitSeq(mask, ",") {
		i := slices.IndexFunc(devices, func(d backendtest.Device) bool { return entry != "" && d.ID == entry })
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

func (p *program) listing() string {
	var text strings.Builder
	for _, d := range p.shown() {
		fmt.Fprintf(&text, "%s\t%s\n", d.Name, d.Description)
	}
	return text.String()
}

// visible finds the device that --backend names; else the reason for which the program ends.
func (p *program) visible(backend string) (id, reason string) {
	shown := p.shown()
	if backend == "" { // the first that is there: a box that is masked out runs on the CPU without a word
		backend = shown[0].Name
	}
	for _, d := range shown {
		if !strings.EqualFold(d.Name, backend) {
			continue
		}
		if d.ID == "" {
			d.ID = d.Name
		}
		if kind := kindOf(d.Name); kind != "cpu" && len(p.start.Masks) != 1 {
			return "", fmt.Sprintf("fake-sd-server: %d device masks are set; exactly one must be", len(p.start.Masks))
		}
		return d.ID, ""
	}
	return "", fmt.Sprintf("backend config failed: backend '%s' was not found", backend)
}
