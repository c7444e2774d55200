// Package sim simulates devices.
package sim

import (
	"context"
	"errors"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

type Machine struct{}

func Parse(spec string) (*Machine, error) { return nil, errors.ErrUnsupported }

func Models() []string { return nil }

func (m *Machine) Name() string { return "sim" }

func (m *Machine) Inventory(ctx context.Context) (telemetry.Found, error) {
	return telemetry.Found{}, errors.ErrUnsupported
}

func (m *Machine) Read(ctx context.Context, id string) (gpu.Reading, error) {
	return gpu.Reading{}, errors.ErrUnsupported
}

func (m *Machine) Busy(deviceID string, vramBytes uint64) (done func()) { return func() {} }

func (m *Machine) StepsPerSecond(dev gpu.Device) float64 { return 0 }
