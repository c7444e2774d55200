// Package intel reads Intel's GPUs, integrated ones included, from what the drivers i915 and xe show below a root folder: sysfs,
// hwmon and the fdinfo of processes. It needs no library and never wakes a suspended card. Only the size of the memory, which
// no file tells, is asked of the driver by a request to its render node, on this machine itself.
//
// Sources are the kernel's Documentation/ABI/testing/sysfs-driver-intel-i915-hwmon and sysfs-driver-intel-xe-hwmon,
// Documentation/gpu/drm-usage-stats.rst, the headers i915_drm.h and xe_drm.h, and the comments of the xe driver. No capture of
// a real card was at hand: the trees of the tests are built from those documents.
package intel

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/fdinfo"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// walkEvery is how often processes are searched for new users of the devices; those known are read at every look.
const walkEvery = 5 * time.Second

// Reader reads the devices that i915 or xe serves. It implements telemetry.DetailReader and telemetry.Examiner.
type Reader struct {
	root  string
	read  kernel.ReadFunc
	query func(path, driver string) (memory, error) // asks a render node for its memory; nil in a capture

	// Of Inventory, which never runs twice at once.
	names   kernel.Names
	scanner *fdinfo.Scanner

	cards atomic.Pointer[[]*card] // by address; a new list with each Inventory
}

// New reads below sysroot: "/" is this machine, another folder a capture of one. Nothing outside it is ever opened.
func New(sysroot string) *Reader {
	r := &Reader{root: sysroot, read: kernel.ReadFile}
	if filepath.Clean(sysroot) == "/" {
		r.query = queryNode
	}
	return r
}

// Name gives "intel".
func (r *Reader) Name() string { return "intel" }

func (r *Reader) known() []*card {
	if cards := r.cards.Load(); cards != nil {
		return *cards
	}
	return nil
}

func (r *Reader) card(id string) (*card, error) {
	for _, c := range r.known() {
		if c.device.ID == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("GPU %s: %w", id, telemetry.ErrLost)
}

// Read measures one device of the last Inventory. A suspended one is not touched: the Reading has its memory's size only, and
// the error wraps telemetry.ErrSuspended. One that nobody uses, and that could sleep, is now and then left alone for some seconds, at
// most maxRest, so that it can: Read gives its last values then. Power and utilisation are means since an earlier Read: the first Read has none.
func (r *Reader) Read(ctx context.Context, id string) (gpu.Reading, error) {
	c, err := r.card(id)
	if err != nil {
		return gpu.Reading{}, err
	}
	return c.measure(ctx)
}

// Details gives the device's processes and energy. A suspended device is not touched.
func (r *Reader) Details(ctx context.Context, id string) (gpu.Details, error) {
	c, err := r.card(id)
	if err != nil {
		return gpu.Details{}, err
	}
	return c.details(ctx)
}
