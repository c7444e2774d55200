package backendtest_test

import (
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/builtin"
	"muster/shared/gpu"
)

func TestBuiltinPassesTheSuite(t *testing.T) {
	t.Parallel()
	backendtest.Exercise(t, func(*testing.T) backend.Backend { return builtin.New(builtin.Config{}) },
		backendtest.Subject{Devices: []gpu.Device{backend.CPU()}, Model: builtin.ModelName, AnyModel: true, Steps: 2, Models: func(backend.Backend) []backend.Model { return []backend.Model{builtin.Model()} }})
}
