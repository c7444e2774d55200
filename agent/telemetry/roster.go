package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"muster/shared/gpu"
)

const (
	inventoryPeriod   = 30 * time.Second
	inventoryDeadline = 10 * time.Second
	// soonest is how long after an inventory the next one may follow when a device or the driver is in trouble; it doubles
	// up to inventoryPeriod while the trouble lasts.
	soonest = 2 * time.Second
)

// roster is what one reader lists, over time. All fields belong to the sampler's loop.
//
// A device that the reader no longer lists stays, as lost, until two inventories that succeeded did not list it and lie at
// least inventoryPeriod apart: a driver that is being reloaded lists nothing for some seconds, and a person who looks up once
// a minute should see what happened. It goes at once when another device has taken its PCI address.
type roster struct {
	*call
	list    errand
	reader  Reader
	found   Found
	missing []absentee
	err     error // of the last inventory; nil after one that succeeded
	overdue bool  // the inventory in flight has passed its deadline
	due     time.Time
	last    time.Time // when the last inventory returned
	backoff time.Duration
}

type absentee struct {
	device gpu.Device
	since  time.Time
}

func (s *Sampler) newRoster(ctx context.Context, reader Reader) *roster {
	r := &roster{call: s.newCall(ctx), reader: reader, backoff: soonest}
	r.list = errand{inventoryDeadline, func(ctx context.Context) func() {
		found, err := guard(func() (Found, error) { return reader.Inventory(ctx) })
		at := time.Now()
		return func() {
			r.take(found, err, at)
			s.relist = true
			if err != nil {
				s.logFailure("inventory", reader.Name(), "", err)
			}
		}
	}}
	return r
}

func (r *roster) take(found Found, err error, at time.Time) {
	r.err, r.overdue, r.last = err, false, at
	r.due = at.Add(inventoryPeriod)
	if err != nil {
		r.hurry()
		return
	}
	r.missing = r.absentees(found.Devices, at)
	r.found = found
}

// absentees gives who is missing from listed, and still worth showing.
func (r *roster) absentees(listed []gpu.Device, at time.Time) []absentee {
	var absent []absentee
	for _, a := range r.missing {
		if at.Sub(a.since) < inventoryPeriod {
			absent = append(absent, a)
		}
	}
	for _, d := range r.found.Devices {
		absent = append(absent, absentee{d, at})
	}
	return slices.DeleteFunc(absent, func(a absentee) bool {
		return slices.ContainsFunc(listed, func(d gpu.Device) bool {
			return d.ID == a.device.ID || d.PCIAddress != "" && d.PCIAddress == a.device.PCIAddress
		})
	})
}

// hurry asks for an inventory sooner than the next regular one.
func (r *roster) hurry() {
	if soon := r.last.Add(r.backoff); soon.Before(r.due) {
		r.due = soon
		r.backoff = min(2*r.backoff, inventoryPeriod)
	}
}

// learn asks for an inventory at the next tick: only the first calls for a device show what it lacks, and where the rest comes
// from.
func (r *roster) learn() { r.due = r.last }

// calm ends the haste: none of the reader's devices is in trouble.
func (r *roster) calm() {
	if r.err == nil {
		r.backoff = soonest
	}
}

// listing is the roster in the words of merge, absentees included.
func (r *roster) listing() listing {
	l := listing{reader: r.reader.Name(), devices: slices.Clone(r.found.Devices), adapters: r.found.Adapters, host: r.found.Host}
	for _, a := range r.missing {
		l.devices = append(l.devices, a.device)
	}
	l.problems = slices.Clone(r.found.Problems)
	if r.err != nil {
		l.problems = append(l.problems, explain(r.err))
	}
	if r.overdue {
		l.problems = append(l.problems, fmt.Sprintf("the driver has not answered for %v; what is shown of its devices may be old", inventoryDeadline))
	}
	return l
}

func explain(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("the driver did not list its devices within %v; muster asks again", inventoryDeadline)
	}
	return err.Error()
}

// sources gives where the values of that device come from, in the reader's words; nil when it lists no such device.
func (r *roster) sources(id string) map[string]string {
	for i := range r.found.Devices {
		if r.found.Devices[i].ID == id {
			return r.found.Devices[i].Sources
		}
	}
	return nil
}

func (r *roster) isMissing(id string) bool {
	return slices.ContainsFunc(r.missing, func(a absentee) bool { return a.device.ID == id })
}
