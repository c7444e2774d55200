package server

import (
	"slices"
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// pin completes what a command says of its device: the stable ID by the number, which may be another one tomorrow, or the number by
// the stable ID. The device must have a generator. inventory may be nil when nothing but the processor is meant.
func pin(spec job.Spec, capacity wire.Capacity, inventory *gpu.Inventory) (job.Spec, error) {
	if spec.DeviceID == nil && spec.DeviceKey == "" {
		return spec, nil
	}
	able := pinnable(capacity, inventory)
	at := slices.IndexFunc(able, func(d gpu.Device) bool {
		return (spec.DeviceKey == "" || d.ID == spec.DeviceKey) && (spec.DeviceID == nil || d.Index == *spec.DeviceID)
	})
	if at < 0 {
		return spec, notPinnable(spec, able)
	}
	spec.DeviceID, spec.DeviceKey = new(able[at].Index), able[at].ID
	return spec, nil
}

// pinnable lists the devices that have a generator, with their numbers and stable IDs.
func pinnable(capacity wire.Capacity, inventory *gpu.Inventory) []gpu.Device {
	var able []gpu.Device
	for _, slot := range capacity.Slots {
		d, ok := gpu.Device{ID: gpu.CPU.String(), Index: gpu.CPU}, slot.Device == gpu.CPU
		if !ok && inventory != nil {
			d, ok = inventory.Device(slot.Device)
		}
		if ok {
			able = append(able, d)
		}
	}
	return able
}

// notPinnable says what is wrong with a pin, and what is allowed.
func notPinnable(spec job.Spec, able []gpu.Device) error {
	var refs, keys, both []string
	for _, d := range able {
		refs, keys = append(refs, d.Index.String()), append(keys, d.ID)
		if d.Index == gpu.CPU {
			both = append(both, d.ID)
			continue
		}
		both = append(both, d.ID+" ("+d.Index.Label()+")")
	}
	const otherwise = "or none for the scheduler to choose"
	switch known := slices.Contains(keys, spec.DeviceKey); {
	case len(able) == 0:
		return invalid("device_id", "no device can generate now; allowed is none, for the scheduler to choose")
	case spec.DeviceKey == "":
		return invalid("device_id", "%s can't generate; allowed are %s, %s", *spec.DeviceID, strings.Join(refs, ", "), otherwise)
	case !known:
		return invalid("device_key", "%q can't generate; allowed are %s, %s", cut(spec.DeviceKey), strings.Join(both, ", "), otherwise)
	default:
		return invalid("device_key", "%s is not the device with device_id %s: give one of the two, or both of one device", spec.DeviceKey, *spec.DeviceID)
	}
}
