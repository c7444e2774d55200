package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/shared/gpu"
)

// trap 4
//
// TestBuiltWithoutCgo builds the binary as people without gcc do, and reads AMD cards with it.
func TestBuiltWithoutCgo(t *testing.T) {
	t.Parallel()
	module, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "muster")
	build := exec.Command("go", "build", "-o", path, "./agent/cmd/muster")
	build.Dir = module
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("CGO_ENABLED=0 go build: %v\n%s", err, out)
	}
	got := look(t, exec.Command(path, "gpus", "--json", "--sysroot", fixture.Root(t, "amd-mi25x8")))
	if len(got.Devices) != 8 {
		t.Fatalf("%d devices: want 8", len(got.Devices))
	}
	for i, d := range got.Devices {
		if d.Vendor != gpu.AMD || d.ComputeCapability != "9.0" || got.Readings[i].State != gpu.StateOK {
			t.Errorf("device %d: %+v is %s", i, d, got.Readings[i].State)
		}
	}
}
