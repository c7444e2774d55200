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
	"muster/shared/gpu"
)

// Reader reads the devices that NVML lists. It implements telemetry.Reader.
type Reader struct {
	path         string        // of the library; "" searches
	root         string        // "/", or a test's: for the PCI bus, /proc/driver/nvidia and /proc/meminfo
	describeWait time.Duration // how long Inventory waits for a device that doesn't answer
	driver       driver        // what is connected
}

// New loads nothing yet: the library is opened by the first Inventory. libraryPath "" searches libnvidia-ml.so.1 where the
// dynamic linker and the drivers of WSL and containers put it.
func New(libraryPath string) *Reader {
	return &Reader{path: libraryPath, root: "/", describeWait: 4 * time.Second}
}

// Name gives "nvml".
func (r *Reader) Name() string { return "nvml" }

// Inventory lists the devices in NVML's order. Without a library or driver it lists the cards on the PCI bus, each with an
// Error; without those it is empty. A device whose driver call doesn't return is listed as it was last known.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	bus := scanBus(r.root)
	found := r.driver.inventory(ctx, r, bus)
	for _, card := range bus {
		if card.foreign() {
			found.Adapters = append(found.Adapters, card.adapter())
		}
		if card.driver == "nouveau" || card.driver == "nova" {
			found.Problems = append(found.Problems, fmt.Sprintf("NVIDIA card %s is driven by %s, which can't compute: install NVIDIA's driver to use it", card.address, card.driver))
		}
	}
	return found, ctx.Err()
}

// Read measures one device of the last Inventory.
func (r *Reader) Read(ctx context.Context, id string) (gpu.Reading, error) {
	reading, err := r.driver.read(ctx, r, id)
	if err != nil {
		return reading, fmt.Errorf("NVIDIA device %s: %w", id, err)
	}
	return reading, nil
}

// unread describes the cards of the bus that are NVIDIA's to serve, when NVML can't. known are earlier descriptions by PCI
// address: a device keeps its ID, name and size while its driver is away.
func unread(bus []busCard, s status, known map[string]gpu.Device) (found telemetry.Found, refused map[string]error) {
	refused = map[string]error{}
	why := whyNot(s)
	for _, card := range bus {
		if card.foreign() {
			continue
		}
		d := card.device(why)
		if old, ok := known[card.address]; ok {
			d = old
			d.Error = why
		}
		found.Devices = append(found.Devices, d)
		refused[d.ID] = fmt.Errorf("%s: %w", why, s.state())
	}
	quiet := s == libraryNotFound || s == driverNotLoaded // as on every machine without NVIDIA hardware
	if len(found.Devices) > 0 || !quiet {
		found.Problems = []string{why}
	}
	return found, refused
}

// state gives the error of package telemetry for a failing connection or device.
func (s status) state() error {
	switch s {
	case gpuIsLost, resetRequired:
		return telemetry.ErrLost
	case versionMismatch:
		return telemetry.ErrDriverMismatch
	case noPermission:
		return telemetry.ErrNoPermission
	case libraryNotFound, driverNotLoaded, uninitialized, functionNotFound:
		return telemetry.ErrNoDriver
	case inUse:
		return context.DeadlineExceeded
	default:
		return telemetry.ErrUnsupported
	}
}
