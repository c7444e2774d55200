//go:build cgo

package nvml

import (
	"context"
	"errors"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// stayAway says whether Inventory must not touch NVML, and what it lists then: because the connection was given up, or because
// there is none yet and every card sleeps.
func (d *driver) stayAway(r *Reader, bus []busCard) (telemetry.Found, bool) {
	found, away := d.leaveAsleep(r, served(bus))
	if away {
		d.watch(r)
	}
	return found, away
}

func (d *driver) leaveAsleep(r *Reader, cards []busCard) (telemetry.Found, bool) {
	sleeping := all(r.powerOf(cards), func(c power) bool { return c.sleeps })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.manners.phase == open {
		if !sleeping || d.lib != nil && d.lib.connected() {
			return telemetry.Found{}, false
		}
		d.manners.phase, d.away, d.devices = away, cards, nil
		d.found, d.refused = unread(cards, asleep, d.known)
	}
	if len(cards) != len(d.away) { // one was plugged in or out
		d.manners.open()
		return telemetry.Found{}, false
	}
	return d.found, true
}

func (r *Reader) powerOf(cards []busCard) (list []power) {
	for _, card := range cards {
		list = append(list, power{maySleep: card.maySleep, sleeps: card.maySleep && r.asleep(card.statusFile), idle: card.idle})
	}
	return list
}

// mind does what the manners ask for.
func (d *driver) mind(r *Reader, now time.Time) {
	cards := d.minded()
	powers := r.powerOf(cards)
	d.mu.Lock()
	deed := d.manners.step(now, powers, func() bool {
		d.mu.Unlock()
		defer d.mu.Lock()
		return d.used(r)
	})
	d.mu.Unlock()
	switch deed {
	case disconnect:
		d.disconnect(r, cards)
	case reconnect:
		d.comeBack(r)
	}
}

// minded gives the cards for which there are manners; none when a listed device can't be read, for then the driver has something
// to mend.
func (d *driver) minded() (cards []busCard) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.manners.phase != open:
		return d.away
	case len(d.refused) > 0 || d.broken:
		return nil
	}
	for id, dev := range d.devices {
		cards = append(cards, busCard{address: dev.address, statusFile: dev.statusFile, maySleep: dev.maySleep, idle: d.track(id).idle})
	}
	return cards
}

// used says whether a process is on any device, or may be.
func (d *driver) used(r *Reader) bool {
	d.mu.Lock()
	var ids []string
	for id := range d.devices {
		ids = append(ids, id)
	}
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), r.patience)
	defer cancel()
	for _, id := range ids {
		lib, dev, leave, err := d.visit(ctx, r, id)
		if errors.Is(err, telemetry.ErrSuspended) {
			continue
		}
		if err != nil {
			return true
		}
		s := &sample{reader: r, lib: lib, dev: dev}
		result := s.processes()
		leave()
		if result != success || len(s.details.Processes) > 0 {
			return true
		}
	}
	return false
}

// disconnect closes NVML so that the cards can sleep.
func (d *driver) disconnect(r *Reader, away []busCard) {
	d.mu.Lock()
	lib := d.lib
	d.away = away
	d.mu.Unlock()
	if lib.end(r.patience) == inUse {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.manners.open()
	}
}

// comeBack connects again and takes the devices' new handles, so that Reads go on at once. What has changed, the next Inventory
// finds; without devices it does everything.
func (d *driver) comeBack(r *Reader) {
	d.mu.Lock()
	old := d.devices
	d.mu.Unlock()
	if len(old) == 0 {
		return
	}
	lib, s := d.connect(r)
	if s != success {
		return // as the next Inventory will say
	}
	v := lib.enter()
	if v == 0 {
		return
	}
	defer lib.leave(v)
	devices, refused := map[string]*device{}, map[string]error{}
	for id, dev := range old {
		again, ok := dev.again(lib, id)
		if !ok {
			refused[id] = errReconnecting
			continue
		}
		devices[id] = again
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.devices == nil {
		d.devices, d.refused = devices, refused
	}
}

// again gives the device as it is in a new connection; false when another one is in its place.
func (dev *device) again(lib *library, id string) (*device, bool) {
	h, s := lib.byIndex(dev.index)
	if s != success {
		return nil, false
	}
	if busID, s := lib.busID(h); s != success || pciAddress(busID) != dev.address || len(dev.parts) > 0 {
		return nil, false
	}
	again := *dev
	again.handle, again.epoch, again.deaf = h, lib.current(), lib.listen(h, id)
	return &again, true
}

// whileAway gives the last reading of a device that may be falling asleep; false when the connection was not given up.
func (d *driver) whileAway(id string) (gpu.Reading, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.track(id)
	return t.last, t.measured && d.manners.phase != open
}
