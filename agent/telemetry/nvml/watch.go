//go:build cgo

package nvml

import (
	"time"

	"muster/shared/gpu"
)

// waitMilliseconds is how long one wait for events lasts: so long a new connection, or the end of the program, may have to wait
// for it.
const waitMilliseconds = 250

// watch starts, once, the goroutine that waits for events and minds the manners. It ends with close.
func (d *driver) watch(r *Reader) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended == nil {
		d.ended = make(chan struct{})
	}
	if closed(d.ended) || d.watching {
		return
	}
	d.watching = true
	d.watcher.Go(func() {
		pause := time.NewTimer(0)
		defer pause.Stop()
		for {
			select {
			case <-d.ended:
				return
			case <-pause.C:
			}
			if closed(d.ended) { // select chooses at random
				return
			}
			d.mind(r, time.Now())
			pause.Reset(d.hear())
		}
	})
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// hear waits for one event, and gives how long to pause before the next wait.
func (d *driver) hear() time.Duration {
	d.mu.Lock()
	lib := d.lib
	d.mu.Unlock()
	if lib == nil {
		return time.Second
	}
	v := lib.enter()
	if v == 0 {
		return time.Second
	}
	defer lib.leave(v)
	set, registered := lib.events()
	if registered == 0 {
		return time.Second
	}
	e, s := lib.wait(set, waitMilliseconds)
	switch s {
	case success:
		d.heard(e, time.Now().UTC())
		return 0
	case timeout:
		return 0
	case uninitialized, driverNotLoaded:
		d.lose()
	}
	return time.Second // so that an error that comes at once costs no processor
}

// heard keeps a fault with its device. Those of a device that is no longer listed are kept as well: it may come back.
func (d *driver) heard(e event, at time.Time) {
	fault := gpu.Fault{Time: at, Kind: "XID", Code: e.code}
	if e.kind == eventXID {
		fault.Text = xidText(e.code)
	} else {
		fault.Kind, fault.Text = "ECC", xidTexts[48]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.track(e.id)
	t.faults = append(t.faults, fault)
	if excess := len(t.faults) - gpu.MaxFaults; excess > 0 {
		t.faults = t.faults[excess:]
	}
}
