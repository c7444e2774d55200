package main

import (
	"fmt"
	"strings"

	"muster/agent/backend/backendtest"
)

// shown gives the devices that the masks leave.
func (p *program) shown() []backendtest.Device {
	return backendtest.Shown(p.settings.Devices, p.start.Masks)
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
	for one := range strings.SplitSeq(backend, ",") { // "te=cpu,rocm0": what stands alone is for all the other modules
		if !strings.Contains(one, "=") {
			backend = one
		}
	}
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
		if d.Kind() != "cpu" && len(p.start.Masks) != 1 {
			return "", fmt.Sprintf("fake-sd-server: %d device masks are set; exactly one must be", len(p.start.Masks))
		}
		return d.ID, ""
	}
	return "", fmt.Sprintf("backend config failed: backend '%s' was not found", backend)
}
