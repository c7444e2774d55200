package child

import (
	"context"
	"slices"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// refresh asks for an inventory unless one is under way. The collector takes requests once it has given the first. r.mu is held.
func (r *Reader) refresh(c *conn) {
	if !c.listing.CompareAndSwap(0, max(1, int64(time.Since(c.begun)))) {
		return
	}
	request := r.inventoryRequest(c)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), listingPatience)
		defer cancel()
		a, err := answer{}, error(nil)
		t, err := r.caution.begin(ctx, place{askInventory, ""})
		if err == nil {
			request.Milliseconds = milliseconds(ctx)
			a, err = c.ask(request, t)
			r.caution.end(t, err == nil)
		}
		c.listing.Store(0)
		if err == nil {
			r.caution.listed(request.Skip)
			r.listed(c, a)
		}
	}()
}

// inventoryRequest goes step by step after a crash, and in every collector that replaces another: a device that hung in that one
// should not hold up the list of this one. r.mu is held.
func (r *Reader) inventoryRequest(c *conn) request {
	careful, skip := r.caution.inventory()
	opening := r.conn != c
	q := request{Kind: askInventory, Careful: careful || opening && r.list.ever, Skip: skip}
	if q.Careful {
		for _, d := range r.list.found.Devices {
			q.Known = append(q.Known, gpu.Device{ID: d.ID, VendorIndex: d.VendorIndex, Vendor: d.Vendor, Name: d.Name, PCIAddress: d.PCIAddress})
		}
	}
	return q
}

// asKnown gives devices that could not be described what was known of them before.
func asKnown(found, last telemetry.Found) telemetry.Found {
	for i, d := range found.Devices {
		at := slices.IndexFunc(last.Devices, func(old gpu.Device) bool { return old.ID == d.ID })
		if d.Error == "" || at < 0 {
			continue
		}
		found.Devices[i] = last.Devices[at]
		found.Devices[i].Error = d.Error
	}
	return found
}

func (r *Reader) listed(c *conn, a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outdated(c) {
		return
	}
	r.list.err, r.list.at, r.list.taken = a.Failure.err(), time.Now(), false
	if a.Found == nil && a.Failure == nil {
		r.list.err = errEmpty
	}
	if r.list.err == nil {
		r.list.found, r.list.ever = asKnown(*a.Found, r.list.found), true
	}
	c.wedged.Store(a.Wedged)
	r.conn, r.down = c, time.Time{}
	r.tell()
	if a.Wedged {
		r.nudge()
	}
}

// outdated says whether the collector has ended or was replaced. r.mu is held.
func (r *Reader) outdated(c *conn) bool {
	select {
	case <-c.gone:
		return true
	default:
		return r.conn != nil && r.conn != c || c.retired
	}
}
