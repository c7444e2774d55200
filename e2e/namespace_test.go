package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/shared/gpu"
)

// TestCapturedMachineAsThisMachine puts a captured machine's files over this one's, in a mount namespace, and compares what the
// binary sees at "/" with what it sees below --sysroot.
func TestCapturedMachineAsThisMachine(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"amd-mi25x8", "amd-mix3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := fixture.Root(t, name)
			want := look(t, exec.Command(binary(t), "gpus", "--json", "--sysroot", root))
			got := look(t, inNamespace(t, root, binary(t), "gpus", "--json"))
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(gpu.Reading{}, "AgeMilliseconds", "Throttle"), cmpopts.EquateEmpty()); diff != "" || len(got.Devices) == 0 {
				t.Errorf("with --sysroot and as this machine's own (-want +got), %d devices:\n%s", len(got.Devices), diff)
			}
		})
	}
}

// machine is what a person sees of the devices.
type machine struct {
	Devices  []gpu.Device
	Adapters []gpu.Adapter
	ROCm     string
	Readings []gpu.Reading
}

func look(t *testing.T, cmd *exec.Cmd) machine {
	t.Helper()
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, complaint.String())
	}
	var line struct {
		Inventory gpu.Inventory
		Snapshot  gpu.Snapshot
	}
	if err := json.Unmarshal(out, &line); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	for _, d := range line.Inventory.Devices {
		// Processes are this machine's in the namespace, and a capture has none; some tables tell of throttling from the second
		// reading on, and one may be all that was taken.
		for _, field := range []string{"processes", "throttle_reasons"} {
			delete(d.Sources, field)
			delete(d.Absent, field)
		}
	}
	return machine{line.Inventory.Devices, line.Inventory.OtherAdapters, line.Inventory.Host.ROCmVersion, line.Snapshot.GPUs}
}

// inNamespace gives a command that sees the files below root over its own. Where mounting is not allowed the test is skipped.
func inNamespace(t *testing.T, root string, command ...string) *exec.Cmd {
	t.Helper()
	script := `set -e
mount --bind "$0/sys" /sys
mount -t overlay -o "lowerdir=$0/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$0/opt:/opt" overlay /opt
exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, root}, command...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	allowed := exec.Command("sh", "-c", script, root, "true")
	allowed.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := allowed.CombinedOutput(); err != nil {
		t.Skipf("a mount namespace is not allowed here: %v: %s", err, out)
	}
	return cmd
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
