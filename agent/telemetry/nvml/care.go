package nvml

import (
	"context"
	"slices"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// care is how devices are asked after one of them has ended the process. nil is the usual way: all at once.
type care struct {
	skip  []int
	begin func(index int)
}

// carefulWait is how long one device may hold up the next. A call that hangs is not one that ends the process.
const carefulWait = 500 * time.Millisecond

func (c *care) skips(index int) bool { return c != nil && slices.Contains(c.skip, index) }

func (c *care) asks(index int) {
	if c != nil {
		c.begin(index)
	}
}

// InventoryCarefully is Inventory in a process that replaces one which a device has ended: it asks one device after the other,
// calls begin with the NVML index of each before, and does not touch those in skip. known are devices as they were last listed:
// they stand for those that are not asked or do not answer.
func (r *Reader) InventoryCarefully(ctx context.Context, known []gpu.Device, skip []int, begin func(index int)) (telemetry.Found, error) {
	r.driver.recall(known)
	return r.driver.inventory(ctx, r, r.scanBus(&r.names), &care{skip, begin}), ctx.Err()
}
