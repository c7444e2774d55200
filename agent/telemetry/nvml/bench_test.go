//go:build cgo

package nvml

import (
	"fmt"
	"os"
	"testing"

	"muster/agent/telemetry/nvml/fakenvml"
)

// The figures contain the fake's own work: a stat of its scenario at every call.
func BenchmarkRead(b *testing.B) {
	r, id := eight(b)
	for b.Loop() {
		if _, err := r.Read(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDetails(b *testing.B) {
	r, id := eight(b)
	for b.Loop() {
		if _, err := r.Details(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInventory(b *testing.B) {
	r, _ := eight(b)
	for b.Loop() {
		if _, err := r.Inventory(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// eight reads the fake's devices in this process; go-nvml has one library per process, so all benchmarks share it.
func eight(b *testing.B) (*Reader, string) {
	b.Helper()
	if benched == nil {
		dir, err := os.MkdirTemp("", "nvml")
		if err != nil {
			b.Fatal(err)
		}
		defer os.RemoveAll(dir) // it stays mapped
		library, err := fakenvml.Link(dir)
		if err != nil {
			b.Skip(err)
		}
		benched = newReader(library, tree(b, dir))
		if found, err := benched.Inventory(b.Context()); err != nil || len(found.Devices) != 8 {
			b.Fatal(fmt.Errorf("got %d devices: %w", len(found.Devices), err))
		}
	}
	return benched, uuid(3)
}

var benched *Reader
