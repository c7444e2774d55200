package amdsmi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// Inventory lists the GPUs of the library by PCI address, the partitions of one card as that card. While any card may sleep it
// asks nothing and gives what it knew before. Without a card of AMD's driver it doesn't open the library, unless a person named it.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	if err := r.ready(); err != nil {
		return telemetry.Found{}, err
	}
	cards := r.gate.rescan()
	if r.asleep() != nil {
		return r.known(), nil
	}
	if len(cards) == 0 && r.connection.named == "" {
		r.connection.end()
		return r.publish(telemetry.Found{}, nil), nil
	}
	s, handles, err := r.enumerate()
	if err != nil {
		return r.unread(err, len(cards) > 0), nil
	}
	list := r.describeAll(ctx, s, handles)
	if err := ctx.Err(); err != nil && len(list) == 0 {
		return telemetry.Found{}, fmt.Errorf("inventory by AMD SMI: %w", err)
	}
	if !r.connection.enter(s) { // let go of in the meantime, so that the list has holes
		return r.known(), nil
	}
	defer r.connection.leave()
	return r.arrange(handles, list, cards), nil
}

// enumerate connects and lists the handles. A connection that has died since is made anew, once.
func (r *Reader) enumerate() (*session, []handle, error) {
	result := success
	for range 2 {
		s, err := r.connection.connect()
		if err != nil {
			return nil, nil, err
		}
		if !r.connection.enter(s) {
			return nil, nil, errBusy
		}
		var handles []handle
		handles, result = s.handles()
		r.connection.leave()
		if !result.disconnected() {
			if result != success {
				break
			}
			return s, handles, nil
		}
		r.connection.end()
	}
	return nil, nil, whyNot(result)
}

// known gives what the last Inventory that could ask found.
func (r *Reader) known() telemetry.Found {
	r.mu.Lock()
	defer r.mu.Unlock()
	return telemetry.Found{Devices: slices.Clone(r.found.Devices)}
}

// unread lists what was known, with the reason why it can't be read now. That there is no library is no problem.
func (r *Reader) unread(why error, cards bool) telemetry.Found {
	found := r.known()
	for i := range found.Devices {
		found.Devices[i].Error = why.Error()
	}
	if !errors.Is(why, errNoLibrary) && (cards || r.connection.named != "") {
		found.Problems = []string{why.Error()}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = why
	return found
}

// publish replaces what Read sees.
func (r *Reader) publish(found telemetry.Found, devices map[string]*device) telemetry.Found {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found, r.devices, r.refused = found, devices, nil
	return found
}

// arrange joins the partitions of a card and gives each card its ID. A device that didn't answer stays as it was known.
func (r *Reader) arrange(handles []handle, list map[handle]description, cards []card) telemetry.Found {
	parts := map[kernel.Address][]description{}
	silent := 0
	for _, h := range handles {
		got, answered := list[h]
		if !answered {
			silent++
		} else if got.status == success {
			at := physical(got.address, cards)
			parts[at] = append(parts[at], got)
		}
	}
	devices := map[string]*device{}
	var found telemetry.Found
	for _, at := range slices.SortedFunc(maps.Keys(parts), kernel.Address.Compare) {
		one, readable := join(at, parts[at])
		if id := fmt.Sprintf("GPU-%016x", parts[at][0].uuid); parts[at][0].uuid != 0 && devices[id] == nil {
			one.ID = id
		}
		found.Devices = append(found.Devices, one)
		devices[one.ID] = readable
	}
	if silent > 0 {
		r.keepSilent(&found, devices)
		found.Problems = append(found.Problems, fmt.Sprintf("%d of %d AMD devices do not answer AMD SMI: if this stays, see the kernel log for amdgpu", silent, len(handles)))
	}
	return r.publish(found, devices)
}

// keepSilent adds the devices that the last Inventory had and this one lacks.
func (r *Reader) keepSilent(found *telemetry.Found, devices map[string]*device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, old := range r.found.Devices {
		if devices[old.ID] == nil && !slices.ContainsFunc(found.Devices, func(d gpu.Device) bool { return d.PCIAddress == old.PCIAddress }) {
			found.Devices = append(found.Devices, old)
			devices[old.ID] = r.devices[old.ID]
		}
	}
	slices.SortFunc(found.Devices, func(a, b gpu.Device) int { return cmp.Compare(a.PCIAddress, b.PCIAddress) })
}

// physical gives the card that an address stands for: partitions have functions that no PCI device has.
func physical(a kernel.Address, cards []card) kernel.Address {
	whole := a
	whole.Function = 0
	is := func(b kernel.Address) bool {
		return slices.ContainsFunc(cards, func(c card) bool { return c.Address == b })
	}
	if !is(a) && is(whole) {
		return whole
	}
	return a
}

// join makes one device of the partitions of a card, of which there is usually one. Values that hold for a partition alone are
// left out, except that compute units add up.
func join(at kernel.Address, parts []description) (gpu.Device, *device) {
	first := parts[0]
	d, units := first.device, 0
	d.PCIAddress = at.String()
	d.ID = "pci-" + d.PCIAddress
	for _, part := range parts {
		if part.asic.units == 0 {
			units = 0
			break
		}
		units += part.asic.units
	}
	first.asic.units = units
	d.MultiprocessorCount = first.asic.multiprocessors()
	if first.uuid != 0 {
		d.SerialNumber = fmt.Sprintf("%016x", first.uuid)
	}
	readable := &device{session: first.session, handle: first.handle, total: d.MemoryBytes, fanMax: first.fanMax, divided: len(parts) > 1}
	if readable.divided {
		d.MemoryBytes, readable.total = nil, nil
	}
	d.Sources = readable.sources(&d)
	return d, readable
}
