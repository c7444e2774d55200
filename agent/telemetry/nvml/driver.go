//go:build cgo

package nvml

import (
	"context"
	"sync"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// driver is the connection to NVML.
type driver struct {
	// Of Inventory, which never runs twice at once.
	known   map[string]gpu.Device // descriptions by PCI address
	pending map[int]bool          // indices whose describe hasn't returned; its goroutine reports to late
	late    chan description
	turns   []chan struct{} // by index

	connecting sync.Mutex // held while the connection is made, by Inventory or by watch

	// Behind mu, which is never held during a call into the library.
	mu       sync.Mutex
	lib      *library
	broken   bool               // somebody saw that the connection is gone: the next Inventory makes a new one
	outdated bool               // the kernel module is of another version than the library
	devices  map[string]*device // by Device.ID
	refused  map[string]error   // why a listed device can't be read
	tracks   map[string]*track  // by Device.ID
	manners  manners            // whether the connection is given up so that cards can sleep
	away     []busCard          // the cards for which it was given up
	watching bool               // the goroutine watch runs
	found    telemetry.Found    // the last that was found, for while the connection is given up
	ended    chan struct{}      // closed by close; made by the first Inventory
	watcher  sync.WaitGroup     // the goroutine watch
}

// device is one that can be read.
type device struct {
	handle
	epoch      int           // of the library that gave the handle
	turn       chan struct{} // of capacity 1: held while the device is asked
	address    string
	statusFile string // its runtime_status; "" when it never sleeps
	maySleep   bool
	index      int
	total      *uint64
	integrated bool
	fans       int
	persistent *bool  // the driver stays loaded without users; nil when not reported
	deaf       status // why there are no faults, or success
	parts      []part

	// Of whoever holds turn.
	cheap, dear repertoire // of Read, of Details
	links       []gpu.Link
	wired       bool // links are known
}

// part is a MIG instance; its numbers are -1 when they are not known.
type part struct {
	handle
	id                           string
	gpuInstance, computeInstance int
}

// track is what stays of a device from one description to the next.
type track struct {
	last     gpu.Reading
	measured bool                   // there is a last
	idle     bool                   // the last said that nothing was to do
	absent   map[string]gpu.Absence // of the last, beside lacks
	lacks    map[string]gpu.Absence // what the device has not
	sources  map[string]string      // where what it has comes from
	faults   []gpu.Fault
}

// track gives the device's, under mu.
func (d *driver) track(id string) *track {
	if d.tracks == nil {
		d.tracks = map[string]*track{}
	}
	t := d.tracks[id]
	if t == nil {
		t = &track{}
		d.tracks[id] = t
	}
	return t
}

// totalBytes is nil for no device.
func (dev *device) totalBytes() *uint64 {
	if dev == nil {
		return nil
	}
	return dev.total
}

// partition names the MIG instance of those numbers; "" on an undivided device.
func (dev *device) partition(gpuInstance, computeInstance uint32) string {
	for _, p := range dev.parts {
		if p.gpuInstance == int(gpuInstance) && (p.computeInstance == int(computeInstance) || computeInstance == noInstance) {
			return p.id
		}
	}
	return ""
}

// noInstance is the number of a process's instance when it has none.
const noInstance = 0xFFFFFFFF

func (d *driver) inventory(ctx context.Context, r *Reader, bus []busCard, c *care) telemetry.Found {
	if found, away := d.stayAway(r, bus); away {
		return found
	}
	lib, n, s := d.count(r)
	if s != success {
		found, refused := unread(bus, s, d.known)
		d.publish(nil, refused, found)
		return found
	}
	list := d.describeAll(ctx, r, lib, n, bus, c)
	found, devices, refused := d.arrange(list, n, bus)
	found.Host = versions(lib)
	for i := range found.Devices {
		found.Devices[i].DriverVersion = found.Host.NVIDIADriver
		d.tell(&found.Devices[i])
		if a := found.Devices[i].PCIAddress; a != "" && found.Devices[i].Error == "" && devices[found.Devices[i].ID] != nil {
			d.remember(found.Devices[i])
		}
	}
	d.publish(devices, refused, found)
	d.watch(r)
	return found
}

func (d *driver) remember(device gpu.Device) {
	if d.known == nil {
		d.known = map[string]gpu.Device{}
	}
	d.known[device.PCIAddress] = device
}

// recall remembers devices that an earlier process has described.
func (d *driver) recall(known []gpu.Device) {
	for _, device := range known {
		if _, have := d.known[device.PCIAddress]; !have && device.PCIAddress != "" {
			d.remember(device)
		}
	}
}

// connect gives the library, initialised; anew after the driver was reloaded.
func (d *driver) connect(r *Reader) (*library, status) {
	d.connecting.Lock()
	defer d.connecting.Unlock()
	d.mu.Lock()
	lib, broken := d.lib, d.broken
	d.mu.Unlock()
	if lib == nil {
		if lib = load(r.path); lib == nil {
			return nil, libraryNotFound
		}
	}
	if lib.connected() && !broken {
		return lib, success
	}
	s := lib.init(r.patience)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lib = lib
	if s != inUse {
		d.broken, d.outdated = false, s == versionMismatch
		d.devices = nil // handles end with the connection
	}
	return lib, s
}

func (d *driver) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = true
}

// count connects and counts the devices. A connection that has died since is made anew, once.
func (d *driver) count(r *Reader) (lib *library, n int, s status) {
	for range 2 {
		if lib, s = d.connect(r); s != success {
			return lib, 0, s
		}
		v := lib.enter()
		if v == 0 {
			return lib, 0, inUse
		}
		n, s = lib.count()
		lib.leave(v)
		if s != uninitialized && s != driverNotLoaded && s != unknown {
			return lib, n, s
		}
		d.lose()
	}
	return lib, 0, s
}

func versions(lib *library) (h gpu.Host) {
	v := lib.enter()
	if v == 0 {
		return h
	}
	defer lib.leave(v)
	if v, s := lib.driverVersion(); s == success {
		h.NVIDIADriver = v
	}
	if v, s := lib.nvmlVersion(); s == success {
		h.NVMLVersion = v
	}
	if v, s := lib.cudaVersion(); s == success {
		h.CUDAVersion = cudaText(v)
	}
	return h
}

// publish replaces what Read sees. Of devices that are gone nothing stays but their faults.
func (d *driver) publish(devices map[string]*device, refused map[string]error, found telemetry.Found) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.devices, d.refused, d.found = devices, refused, found
	for id, t := range d.tracks {
		if devices[id] == nil && refused[id] == nil && len(t.faults) == 0 {
			delete(d.tracks, id)
		}
	}
}

// close ends watch and the connection.
func (d *driver) close() {
	d.mu.Lock()
	if d.ended == nil {
		d.ended = make(chan struct{})
	}
	if !closed(d.ended) {
		close(d.ended)
	}
	lib := d.lib
	d.mu.Unlock()
	d.watcher.Wait()
	for lib != nil && (lib.connected() || lib.busy(time.Now()) > 0) {
		if lib.end(time.Minute) == inUse {
			time.Sleep(50 * time.Millisecond) // somebody else is connecting
		}
	}
}
