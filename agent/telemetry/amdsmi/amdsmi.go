// Package amdsmi reads AMD devices through ROCm's library libamd_smi.so, loaded at run time by its C interface. It fills what
// sysfs leaves open: names as sold, serial numbers, the index of HIP, names of processes, and whatever the kernel of a machine
// does not show. So it stands behind package amdgpu in every list of readers.
//
// The library's structs differ from version to version: layouts.go has them. It is meant to run in a process of its own, because
// an abort inside the library can't be caught.
package amdsmi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// Config says which machine a Reader reads, and with which library.
type Config struct {
	Library string // libamd_smi.so; "" takes $AMDSMI_LIB, or else searches where ROCm and the dynamic linker put it
	Root    string // "" is "/": the folder that holds sys, for the power state of the cards, and the places to search
}

// Reader reads the devices that AMD SMI lists. It implements telemetry.Reader, telemetry.DetailReader and telemetry.Examiner.
type Reader struct {
	root         string
	named        string        // the library that a person named
	describeWait time.Duration // how long Inventory waits for a device that doesn't answer

	once       sync.Once
	unreadable error // why the root can't be read
	tree       kernel.Tree
	gate       gate
	connection connection

	// Of Inventory, which never runs twice at once.
	pending map[handle]bool  // devices whose describe hasn't returned; its goroutine reports to late
	late    chan description // buffered, so that a late one disturbs nobody

	// Behind mu, which is never held during a call into the library.
	mu      sync.Mutex
	found   telemetry.Found    // the last that the library gave
	devices map[string]*device // by Device.ID
	refused error              // why the library could not be asked the last time; nil when it could
}

// device is one that can be read.
type device struct {
	*session
	handle  handle
	total   *uint64 // bytes of memory; nil when not told
	fanMax  uint64  // what stands for 100 %; 0 when not told
	divided bool    // handle is one of its partitions, whose memory is not that of the whole

	mu     sync.Mutex
	absent map[string]gpu.Absence // of the last Read, by field
}

// New loads nothing yet: the library is opened by the first Inventory that may.
func New(config Config) *Reader {
	r := &Reader{root: config.Root, named: config.Library, describeWait: 4 * time.Second, pending: map[handle]bool{}, late: make(chan description, 1024)}
	if r.root == "" {
		r.root = "/"
	}
	return r
}

// Name gives "amdsmi".
func (r *Reader) Name() string { return "amdsmi" }

// Close shuts the library down once the calls inside have returned, so that the cards can sleep again.
func (r *Reader) Close() {
	if r.ready() == nil {
		r.connection.end()
		r.connection.wait()
	}
}

// Wedged says that AMD SMI should be let go of and can't be, because a call into it never returned: only another process gets
// further, and lets the cards sleep.
func (r *Reader) Wedged() bool { return r.connection.wedged() }

// ready opens the root, once.
func (r *Reader) ready() error {
	r.once.Do(func() {
		r.tree, r.unreadable = kernel.Open(r.root)
		r.gate.tree, r.connection.tree, r.connection.ended.L = r.tree, r.tree, &r.connection.mu
		r.connection.named = named(r.named, os.Getenv)
	})
	return r.unreadable
}

// asleep says whether a card may sleep. If so it lets go of the library, which would keep the card awake.
func (r *Reader) asleep() error {
	address, yes := r.gate.closed()
	if !yes {
		return nil
	}
	r.connection.end()
	return fmt.Errorf("AMD card %s may fall asleep, which AMD SMI would prevent: %w", address, telemetry.ErrSuspended)
}

// lookUp gives a device of the last Inventory, entered: leave must follow unless there is an error.
func (r *Reader) lookUp(id string) (*device, error) {
	if err := r.ready(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	d, refused := r.devices[id], r.refused
	r.mu.Unlock()
	if err := r.asleep(); err != nil {
		return d, err
	}
	switch {
	case errors.Is(refused, errBusy):
		return d, refused
	case refused != nil:
		return d, fmt.Errorf("%w: %w", refused, telemetry.ErrNoDriver)
	case d == nil:
		return nil, fmt.Errorf("AMD SMI does not list the device: %w", telemetry.ErrUnsupported)
	case !r.connection.enter(d.session):
		return d, errReconnecting
	}
	return d, nil
}

// leave follows a lookUp.
func (r *Reader) leave() { r.connection.leave() }

// Read measures one device of the last Inventory. While any card may sleep it asks nothing: the Reading has the memory's size
// only, and the error wraps telemetry.ErrSuspended.
func (r *Reader) Read(ctx context.Context, id string) (gpu.Reading, error) {
	d, err := r.lookUp(id)
	if err != nil {
		var known gpu.Reading
		if d != nil {
			known.MemoryTotalBytes = d.total
		}
		return known, fmt.Errorf("AMD device %s: %w", id, err)
	}
	defer r.leave()
	reading, err := d.read(ctx, &r.connection)
	if err != nil {
		return reading, fmt.Errorf("AMD device %s: %w", id, err)
	}
	return reading, nil
}

// Details tells what else AMD SMI knows of a device: processes with their names, energy, errors of memory, PCIe replays.
func (r *Reader) Details(ctx context.Context, id string) (gpu.Details, error) {
	d, err := r.lookUp(id)
	if err != nil {
		return gpu.Details{}, fmt.Errorf("AMD device %s: %w", id, err)
	}
	defer r.leave()
	details, err := d.details(ctx, &r.connection)
	if err != nil {
		return details, fmt.Errorf("AMD device %s: %w", id, err)
	}
	return details, nil
}

var errReconnecting = errors.New("AMD SMI is being connected anew: this ends by itself")
