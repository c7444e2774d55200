//go:build cgo

package nvml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry/nvml/fakenvml"
	"muster/shared/gpu"
)

// until asks for the details of a device until it has so many faults.
func (c *child) until(id string, faults int) []gpu.Fault {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		got := c.details(id).Faults
		if len(got) >= faults {
			return got
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: got faults %+v, want %d", id, got, faults)
		}
	}
}

// trap 7
func TestFaults(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("3.events=0")
	c.inventory()
	c.ask("listen")
	c.Set("1.xid=79")
	got := c.until(uuid(1), 1)
	if f := got[0]; f.Kind != "XID" || f.Code != 79 || !strings.Contains(f.Text, "fallen off the bus") || time.Since(f.Time) > time.Minute {
		t.Errorf("got %+v", f)
	}
	c.Set("1.xid=79", "2.xid=31", "3.xid=31", "4.ecc_event=1")
	c.until(uuid(2), 1)
	if got := c.until(uuid(4), 1); got[0].Kind != "ECC" {
		t.Errorf("got %+v", got)
	}
	if got := c.details(uuid(1)).Faults; len(got) != 1 {
		t.Errorf("one event: got %d faults, want 1", len(got))
	}
	if got := c.details(uuid(3)); got.Faults != nil || got.Absent["faults"] != gpu.AbsentUnsupported {
		t.Errorf("a device without events: got %+v, %v", got.Faults, got.Absent)
	}
	c.Set("gone=1", "init=9") // the driver is reloaded: listening begins anew, what was heard stays
	c.state(uuid(1))
	c.inventory()
	c.Set()
	c.inventory()
	c.Set("1.xid=48")
	if got := c.until(uuid(1), 2); len(got) != 2 || got[0].Code != 79 || got[1].Code != 48 {
		t.Errorf("after a reload: got %+v", got)
	}
	for i := range gpu.MaxFaults + 3 {
		c.Set(fmt.Sprintf("5.xid=13.%d", i))
		c.until(uuid(5), min(i+1, gpu.MaxFaults))
	}
	began := time.Now()
	c.ask("close") // the fake ends the process if that happens under a wait
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("closing took %v: who runs this as a child would give it up", took)
	}
	if c.state(uuid(1)) == gpu.StateOK {
		t.Error("a closed reader read")
	}
}

func TestXIDTexts(t *testing.T) {
	t.Parallel()
	for _, code := range []uint64{13, 31, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95, 109, 119, 120, 144} {
		if text := xidText(code); strings.Contains(text, "no words") || !strings.Contains(text, ":") {
			t.Errorf("XID %d: got %q, want what happened and what to do", code, text)
		}
	}
	if text := xidText(4711); !strings.Contains(text, "4711") {
		t.Errorf("got %q", text)
	}
}

func TestWedged(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ask("haste 10ms")
	c.inventory()
	c.Set("1.hang=1")
	c.ask("hang " + uuid(1))
	if c.ask("wedged 1h").Yes {
		t.Error("a call hangs, but no new connection is needed")
	}
	c.Set("1.hang=1", "gone=1")
	c.state(uuid(3))
	c.inventory()
	if c.ask("wedged 0s").Yes || !c.ask("wedged 11s").Yes {
		t.Error("wedged at once, or not after 11 s")
	}
	c.Set()
	c.ask("settle")
	c.inventory()
	if c.ask("wedged 1h").Yes {
		t.Error("wedged although connected anew")
	}
	c.read(uuid(1))
}

// The driver's files are replaced while it runs: the old library can't talk to the new module, a new process can.
func TestUpgraded(t *testing.T) {
	t.Parallel()
	library := fakenvml.Build(t)
	c := startAt(t, library, t.TempDir())
	c.inventory()
	c.Set("gone=1", "init=18")
	c.state(uuid(0))
	if found := c.inventory(); len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "reboot") || c.ask("wedged 1h").Yes {
		t.Errorf("the module alone: got %+v", found)
	}
	if err := os.Remove(library); err != nil {
		t.Fatal(err)
	}
	if !c.ask("wedged 0s").Yes {
		t.Error("the library was replaced: want a new process")
	}
}

// A getter that ends the process does so in a call for its device, never in Inventory, which is for all: so whoever supervises
// the process knows whom to leave alone.
func TestAbort(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("slow=1", "1.aborts=nvmlDeviceGetPowerUsage")
	c.inventory()
	c.details(uuid(1))
	c.read(uuid(0))
	fmt.Fprintln(c.in, "read "+uuid(1))
	var a answer
	if err := c.out.Decode(&a); err == nil {
		t.Errorf("the process lives: got %+v", a)
	}
}

func TestInstalledLater(t *testing.T) {
	t.Parallel()
	later := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	c := startAt(t, later, t.TempDir())
	if found := c.inventory(); len(found.Devices) != 0 {
		t.Fatalf("got %+v", found)
	}
	if err := os.Rename(fakenvml.Build(t), later); err != nil {
		t.Fatal(err)
	}
	if found := c.inventory(); len(found.Devices) != 8 {
		t.Fatalf("installed: got %d devices", len(found.Devices))
	}
	c.read(uuid(7))
}

func TestHotPlug(t *testing.T) {
	t.Parallel()
	c := start(t)
	for _, n := range []int{2, 3, 1, 8} {
		c.Set(fmt.Sprintf("devices=%d", n))
		if got := len(c.inventory().Devices); got != n {
			t.Fatalf("got %d devices, want %d", got, n)
		}
		c.read(uuid(n - 1))
		if n == 1 && c.state(uuid(2)) != gpu.StateLost {
			t.Error("a device that was taken out is read")
		}
	}
}

func TestMIGReconfigured(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.inventory()
	if c.read(uuid(0)).UtilizationPercent == nil {
		t.Error("undivided: no utilisation")
	}
	for _, instances := range []int{3, 1, 7} {
		c.Set("0.mig=1", fmt.Sprintf("0.instances=%d", instances))
		if d := c.inventory().Devices[0]; len(d.Partitions) != instances || d.PartitionMode != "MIG" || c.read(uuid(0)).UtilizationPercent != nil {
			t.Errorf("got %d partitions, want %d", len(d.Partitions), instances)
		}
		if got := c.details(uuid(0)).Partitions; len(got) != instances {
			t.Errorf("got %d readings of partitions, want %d", len(got), instances)
		}
	}
	c.Set()
	if d := c.inventory().Devices[0]; d.Partitions != nil || d.PartitionMode != "" || c.read(uuid(0)).UtilizationPercent == nil {
		t.Errorf("undivided again: got %+v", d)
	}
}

// An hour of a laptop: NVML lets go of an idle card, does not wake it, and is there again when a program uses it.
func TestCardFallsAsleep(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	laptop(t, root, "active")
	c := startAt(t, fakenvml.Build(t), root)
	c.Set("devices=1", "util=0", "compute=1:1")
	want := c.inventory()
	last := c.read(uuid(0))
	mind := func(after string, connected bool) {
		t.Helper()
		if got := c.ask("mind " + after).Yes; got != connected {
			t.Fatalf("after %s: connected %v, want %v", after, got, connected)
		}
	}
	mind("0s", true)
	mind("31s", true) // a process is there
	c.Set("devices=1", "util=0")
	mind("62s", false)
	if diff := cmp.Diff(last, c.read(uuid(0))); diff != "" {
		t.Errorf("while it falls asleep (-want +got):\n%s", diff)
	}
	laptop(t, root, "suspended")
	mind("70s", false)
	if state := c.state(uuid(0)); state != gpu.StateSuspended {
		t.Errorf("got state %q", state)
	}
	c.Set("init=999", "gone=1") // any call would be seen
	if diff := cmp.Diff(want, c.inventory()); diff != "" {
		t.Errorf("asleep (-want +got):\n%s", diff)
	}
	c.Set("devices=1", "util=50")
	laptop(t, root, "active")
	mind("80s", true)
	if r := c.read(uuid(0)); *r.UtilizationPercent != 50 {
		t.Errorf("awake: got %v", *r.UtilizationPercent)
	}
	c.inventory()
	c.Set("devices=1", "util=0")
	c.read(uuid(0))
	mind("90s", true)
	mind("121s", false)
	mind("137s", true)  // it did not fall asleep
	mind("200s", true)  // so it is left alone
	mind("740s", false) // for ten minutes
}

func TestAsleepFromTheStart(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	laptop(t, root, "suspended")
	put(t, root, "proc/driver/nvidia/gpus/0000:1a:00.0/information", "Model: \t NVIDIA H100 80GB HBM3\nGPU UUID: \t "+uuid(0)+"\n")
	c := startAt(t, fakenvml.Build(t), root)
	c.Set("devices=1")
	found := c.inventory()
	if len(found.Devices) != 1 || found.Devices[0].ID != uuid(0) || found.Devices[0].Error != "" || len(found.Problems) != 0 || found.Host.NVIDIADriver != "" {
		t.Errorf("got %+v", found)
	}
	if state := c.state(uuid(0)); state != gpu.StateSuspended {
		t.Errorf("got state %q", state)
	}
	laptop(t, root, "active")
	c.ask("mind 1s")
	if found := c.inventory(); found.Devices[0].MemoryBytes == nil {
		t.Errorf("awake: got %+v", found.Devices)
	}
	c.read(uuid(0))
}

// laptop has one card that may sleep.
func laptop(t *testing.T, root, status string) {
	t.Helper()
	card(t, root, "0000:1a:00.0", "nvidia")
	put(t, root, "sys/bus/pci/devices/0000:1a:00.0/power/control", "auto\n")
	put(t, root, "sys/bus/pci/devices/0000:1a:00.0/power/runtime_status", status+"\n")
}

// A connection that takes a moment is made in silence; one that hangs in the driver shows.
func TestReconnectionThatTakesLong(t *testing.T) {
	t.Parallel()
	for ago, want := range map[time.Duration]gpu.State{0: "", 10 * time.Millisecond: "", time.Minute: gpu.StateStuck} {
		lib := &library{}
		if ago > 0 {
			lib.closed = time.Now().Add(-ago)
		}
		if err := reconnecting(lib); !errors.Is(err, errReconnecting) || stateOf(err) != want {
			t.Errorf("after %s: %v", ago, err)
		}
	}
}
