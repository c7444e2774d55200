//go:build cgo

package nvml

import (
	"context"
	"strings"
	"time"

	"muster/shared/gpu"
)

// description is what one index of NVML's list is.
type description struct {
	index    int
	epoch    int        // of the library when it was asked
	device   gpu.Device // ID "" when nothing could be asked
	readable *device
	status   status // why it can't be read, or success
}

// describeAll asks every device, each from its own goroutine, and waits for those that answer. An index that has not answered
// the last time is not asked again before it has: so a GPU that hangs for ever costs one thread. One that sleeps is not asked.
func (d *driver) describeAll(ctx context.Context, r *Reader, lib *library, n int, bus []busCard, c *care) map[int]description {
	if d.late == nil {
		d.late, d.pending = make(chan description, 128), map[int]bool{}
	}
	results, open := map[int]description{}, map[int]bool{}
	for i := range n {
		if got, sleeps := d.sleeper(r, i, n, bus); sleeps {
			results[i] = got
		}
	}
	for i := range n {
		if _, done := results[i]; done {
			continue
		}
		if c.skips(i) {
			results[i] = description{index: i, status: endsProcess}
			continue
		}
		c.asks(i)
		open[i] = true
		if !d.pending[i] {
			d.ask(r, lib, i, bus)
		}
		if c != nil {
			d.gather(ctx, lib, n, results, open, carefulWait, func() bool { return !open[i] })
		}
	}
	if c == nil {
		d.gather(ctx, lib, n, results, open, r.describeWait, func() bool { return len(open) == 0 })
	}
	return results
}

// ask describes the device of that index in a goroutine of its own.
func (d *driver) ask(r *Reader, lib *library, i int, bus []busCard) {
	d.pending[i] = true
	turn := d.turn(i)
	go func() {
		turn <- struct{}{}
		got := r.describe(lib, i, bus)
		<-turn
		if got.readable != nil {
			got.readable.turn = turn
		}
		d.late <- got
	}()
}

// gather takes what was asked, and out of open, until done or for that long. What an older connection brings is asked again the
// next time.
func (d *driver) gather(ctx context.Context, lib *library, n int, results map[int]description, open map[int]bool, wait time.Duration, done func() bool) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for !done() {
		select {
		case got := <-d.late:
			delete(d.pending, got.index)
			delete(open, got.index)
			if got.index < n && got.epoch == lib.current() {
				results[got.index] = got
			}
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// turn is what is held while the device of that index is asked.
func (d *driver) turn(i int) chan struct{} {
	for len(d.turns) <= i {
		d.turns = append(d.turns, make(chan struct{}, 1))
	}
	return d.turns[i]
}

// sleeper describes a card that sleeps from the bus alone. NVML lists the cards in the bus's order, as long as it has them all.
func (d *driver) sleeper(r *Reader, i, n int, bus []busCard) (description, bool) {
	cards := served(bus)
	if len(cards) != n || d.pending[i] || !r.asleep(cards[i].statusFile) {
		return description{}, false
	}
	got := description{index: i, status: asleep, device: cards[i].device("")}
	got.device.VendorIndex = &i
	return got, true
}

// describe asks one device for what doesn't change.
func (r *Reader) describe(lib *library, i int, bus []busCard) description {
	got := description{index: i, status: inUse}
	v := lib.enter()
	if v == 0 {
		return got
	}
	defer lib.leave(v)
	got.epoch = lib.current()
	h, s := lib.byIndex(i)
	if got.status = s; s != success {
		return got
	}
	d := &got.device
	d.Vendor, d.VendorIndex, d.Name = gpu.NVIDIA, &i, "NVIDIA GPU"
	got.readable = &device{handle: h, epoch: got.epoch, index: i}
	got.identify(lib, bus)
	if m, s := r.memory(lib, got.readable); got.keep(s) {
		d.MemoryBytes, got.readable.total = &m.total, &m.total
	}
	d.Limits = got.limits(lib)
	got.divide(lib)
	if got.status == success {
		d.Absent = map[string]gpu.Absence{}
		d.Sources = identitySources(lib, d)
		got.readable.deaf = lib.listen(h, d.ID)
	}
	return got
}

// keep says whether a getter gave its value, and notes when the device can't be read at all.
func (got *description) keep(s status) bool {
	if s.fatal() {
		got.status = s
	}
	return s == success
}

// identify asks for names and numbers.
func (got *description) identify(lib *library, bus []busCard) {
	d, h := &got.device, got.readable.handle
	if busID, s := lib.busID(h); got.keep(s) {
		d.PCIAddress = pciAddress(busID)
		got.readable.address = d.PCIAddress
		for _, card := range bus {
			if card.address == d.PCIAddress {
				got.readable.statusFile, got.readable.maySleep = card.statusFile, card.maySleep
			}
		}
	}
	if uuid, s := lib.uuid(h); got.keep(s) && uuid != "" {
		d.ID = uuid
	} else if d.PCIAddress != "" {
		d.ID = "pci-" + d.PCIAddress
	}
	if name, s := lib.name(h); got.keep(s) && name != "" {
		d.Name = name
	}
	c, s := lib.computeCapability(h)
	if got.keep(s) {
		d.ComputeCapability, d.Arch = c.text(), c.arch()
	}
	if cores, s := lib.cores(h); got.keep(s) {
		d.MultiprocessorCount = multiprocessors(cores, c)
	}
	if firmware, s := lib.firmware(h); got.keep(s) {
		d.FirmwareVersion = reported(firmware)
	}
	if serial, s := lib.serial(h); got.keep(s) {
		d.SerialNumber = reported(serial)
	}
	d.Unified = integrated(d.Name, c)
	got.readable.integrated = d.Unified
	if persistent, s := lib.persistent(h); got.keep(s) {
		got.readable.persistent = &persistent
	}
	if n, s := lib.fans(h); got.keep(s) {
		got.readable.fans = min(max(n, 0), 16)
	}
}

// reported leaves out what drivers write where they have nothing, such as N/A, and numbers of zeros alone.
func reported(text string) string {
	text = strings.TrimSpace(text)
	if strings.Contains(text, "N/A") || strings.Trim(text, "0") == "" {
		return ""
	}
	return text
}
