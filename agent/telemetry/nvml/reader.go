// Package nvml reads NVIDIA devices through the driver's library libnvidia-ml.so.1 (NVML), by way of go-nvml. Where that can't
// work it lists the cards that it sees on the PCI bus, and says what to do.
//
// A build without cgo has the listing only.
package nvml

import (
	"context"
	"fmt"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// Reader reads the devices that NVML lists. It implements telemetry.DetailReader, PCIeReader and Examiner.
type Reader struct {
	path         string        // of the library; "" searches
	tree         kernel.Tree   // for the PCI bus, /proc and /dev
	names        kernel.Names  // of Inventory, which never runs twice at once
	describeWait time.Duration // how long Inventory waits for a device that doesn't answer
	patience     time.Duration // how long a new connection waits for calls inside the library
	driver       driver        // what is connected
}

// New loads nothing yet: the library is opened by the first Inventory. libraryPath "" searches libnvidia-ml.so.1 where the
// dynamic linker and the drivers of WSL and containers put it.
func New(libraryPath string) *Reader {
	tree, err := kernel.Open("/")
	if err != nil {
		panic(err) // a process without a root folder
	}
	return newReader(libraryPath, tree)
}

func newReader(libraryPath string, tree kernel.Tree) *Reader {
	return &Reader{path: libraryPath, tree: tree, describeWait: 2 * time.Second, patience: 2 * time.Second}
}

// Name gives "nvml".
func (r *Reader) Name() string { return "nvml" }

// Inventory lists the devices in NVML's order. Without a library or driver it lists the cards on the PCI bus, each with an
// Error; without those it is empty. A device whose driver call doesn't return is listed as it was last known, and so is one that
// sleeps.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	return r.driver.inventory(ctx, r, r.scanBus(&r.names), nil), ctx.Err()
}

// Read measures one device of the last Inventory.
func (r *Reader) Read(ctx context.Context, id string) (gpu.Reading, error) {
	reading, err := r.driver.read(ctx, r, id)
	if err != nil {
		return reading, fmt.Errorf("NVIDIA device %s: %w", id, err)
	}
	return reading, nil
}

// Details asks one device of the last Inventory for what is dear.
func (r *Reader) Details(ctx context.Context, id string) (gpu.Details, error) {
	details, err := r.driver.details(ctx, r, id)
	if err != nil {
		return details, fmt.Errorf("NVIDIA device %s: %w", id, err)
	}
	return details, nil
}

// PCIeThroughput measures the bus of one device, for 20 ms in each direction.
func (r *Reader) PCIeThroughput(ctx context.Context, id string) (gpu.PCIeThroughput, error) {
	throughput, err := r.driver.throughput(ctx, r, id)
	if err != nil {
		return throughput, fmt.Errorf("NVIDIA device %s: %w", id, err)
	}
	return throughput, nil
}

// Wedged says that this process can't read NVIDIA's devices any more and should be replaced by a new one: the library must be
// connected anew but a call has been inside it for over 10 s, or the driver was updated and the old library is still loaded.
func (r *Reader) Wedged() bool { return r.driver.wedged(r, time.Now()) }

// Close waits for the calls inside the library, however long they take, and ends the connection. The Reader can't be used
// afterwards.
func (r *Reader) Close() { r.driver.close() }
