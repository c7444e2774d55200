// Package amdgpu reads AMD devices from what the kernel shows below a root folder: sysfs, hwmon, the KFD topology and the fdinfo
// of processes. It needs no ROCm, opens no device node and never wakes a suspended card.
//
// Files are described in the kernel's documentation, Documentation/gpu/amdgpu/thermal.rst and driver-misc.rst.
package amdgpu

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/fdinfo"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// Reader reads the cards that the amdgpu driver serves. It implements telemetry.Reader.
type Reader struct {
	root     string
	read     func(path string, buf []byte) (int, error)
	patience time.Duration           // how long Inventory and Examine wait for cards that don't answer
	names    names                   // of Inventory, which never runs twice at once
	onBus    map[kernel.Address]bool // cards that the bus ever showed; of Inventory too

	scanner *fdinfo.Scanner                  // of Inventory, which hands it to the cards
	cards   atomic.Pointer[map[string]*card] // by Device.ID; a new map with each Inventory
	hidden  atomic.Int32                     // KFD nodes that the last Inventory was not allowed to read
}

// patience is what a card whose firmware is slow needs at most: one that hangs must not keep the others from being listed.
const patience = 2 * time.Second

// walkEvery is how often the processes of the machine are searched for new openings of a card.
const walkEvery = 10 * time.Second

// New reads below sysroot: "/" is this machine, another folder a capture of one. Nothing outside it is ever opened.
func New(sysroot string) *Reader {
	return &Reader{root: sysroot, read: kernel.ReadFile, patience: patience, names: names{found: map[model]string{}}, onBus: map[kernel.Address]bool{}}
}

// Name gives "amdgpu".
func (r *Reader) Name() string { return "amdgpu" }

func (r *Reader) known() map[string]*card {
	if cards := r.cards.Load(); cards != nil {
		return *cards
	}
	return nil
}

// Details reads of one card what is dear: its processes, errors, links and partitions. The same holds as for Read.
func (r *Reader) Details(ctx context.Context, id string) (gpu.Details, error) {
	c := r.known()[id]
	if c == nil {
		return gpu.Details{}, fmt.Errorf("AMD device %s: %w", id, telemetry.ErrLost)
	}
	return c.details(ctx)
}

// Read measures one card of the last Inventory. A suspended card is not touched: the Reading has its memory's size only, and
// the error wraps telemetry.ErrSuspended.
func (r *Reader) Read(ctx context.Context, id string) (gpu.Reading, error) {
	c := r.known()[id]
	if c == nil {
		return gpu.Reading{}, fmt.Errorf("AMD device %s: %w", id, telemetry.ErrLost)
	}
	return c.measure(ctx)
}
