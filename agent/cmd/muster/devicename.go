package main

import (
	"context"
	"fmt"
	"strings"

	"muster/shared/gpu"
)

// namedDevice gives the device that a person means by its number, by cpu, or by its stable ID. Its error lists the devices as people
// see them.
func namedDevice(ctx context.Context, client *client, name string) (gpu.Device, error) {
	var inventory gpu.Inventory
	if err := client.do(ctx, "GET", "/api/v1/inventory", nil, &inventory); err != nil {
		return gpu.Device{}, err
	}
	if name == gpu.CPU.String() {
		return gpu.Device{ID: name, Index: gpu.CPU}, nil
	}
	for _, d := range inventory.Devices {
		if name == d.ID || name == d.Index.String() {
			return d, nil
		}
	}
	var known []choice
	for _, d := range inventory.Devices {
		known = append(known, choice{d.Index, d.Name})
	}
	return gpu.Device{}, fmt.Errorf("--device %s: there is no such device; there are %s", name, choices(append(known, choice{ref: gpu.CPU})))
}

// choice is a device that a person can name.
type choice struct {
	ref  gpu.Ref
	name string // "" where the number says it all
}

// choices lists devices by their numbers, equal neighbours together: "0–3 (MI25), 4 (V620), cpu".
func choices(devices []choice, more ...string) string {
	var words []string
	for i := 0; i < len(devices); i++ {
		first := devices[i]
		end := i
		for end+1 < len(devices) && devices[end+1].name == first.name && devices[end+1].ref == devices[end].ref+1 {
			end++
		}
		text := first.ref.String()
		switch end - i {
		case 0:
		case 1:
			text += ", " + devices[end].ref.String()
		default:
			text += "–" + devices[end].ref.String()
		}
		if first.name != "" {
			text += " (" + first.name + ")"
		}
		words = append(words, text)
		i = end
	}
	return strings.Join(append(words, more...), ", ")
}
