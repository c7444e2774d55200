package amdsmi

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry"
	"muster/agent/telemetry/amdsmi/fakeamdsmi"
	"muster/shared/gpu"
)

func TestWorth(t *testing.T) {
	t.Setenv("AMDSMI_LIB", "")
	t.Setenv("LD_LIBRARY_PATH", "")
	t.Setenv("ROCM_PATH", "")
	const card = "0000:03:00.0"
	rocm := func(m machine) { m.put("opt/rocm/lib/libamd_smi.so.26", "") }
	for _, c := range []struct {
		name    string
		prepare func(machine)
		library string
		want    bool
	}{
		{"a card and a library", func(m machine) { m.card(card); rocm(m) }, "", true},
		{"a library without a card", func(m machine) { rocm(m) }, "", false},
		{"a card without a library", func(m machine) { m.card(card) }, "", false},
		{"a card and a named library", func(m machine) { m.card(card) }, "/x/libamd_smi.so", true},
		{"a named library alone", func(machine) {}, "/x/libamd_smi.so", true},
		{"no runtime power management", func(m machine) { m.card(card); rocm(m); m.power(card, "unsupported", "auto") }, "", true},
		{"kept awake", func(m machine) { m.card(card); rocm(m); m.power(card, "active", "on") }, "", true},
		{"awake for now", func(m machine) { m.card(card); rocm(m); m.power(card, "active", "auto") }, "", false},
		{"asleep", func(m machine) { m.card(card); rocm(m); m.power(card, "suspended", "auto") }, "", false},
		{"asleep, and told not to be", func(m machine) { m.card(card); rocm(m); m.power(card, "suspended", "on") }, "", false},
		{"asleep, and the library named", func(m machine) { m.card(card); m.power(card, "suspended", "auto") }, "/x/libamd_smi.so", false},
		{"a fault of power management", func(m machine) { m.card(card); rocm(m); m.power(card, "error", "auto") }, "", false},
		{"an empty status", func(m machine) { m.card(card); rocm(m); m.power(card, "", "auto") }, "", true},
		{"one of two asleep", func(m machine) {
			m.card("0000:13:00.0")
			m.power("0000:13:00.0", "unsupported", "auto")
			m.card(card)
			rocm(m)
			m.power(card, "suspended", "auto")
		}, "", false},
		{"a sleeping card of a virtual machine", func(m machine) {
			m.card(card)
			rocm(m)
			m.put("sys/bus/pci/devices/0000:13:00.0/uevent", "DRIVER=vfio-pci\nPCI_CLASS=30000\nPCI_ID=1002:73BF\nPCI_SLOT_NAME=0000:13:00.0\n")
			m.power("0000:13:00.0", "suspended", "auto")
		}, "", true},
		{"a sleeping card of another maker", func(m machine) {
			m.card(card)
			rocm(m)
			m.put("sys/bus/pci/devices/0000:13:00.0/uevent", "DRIVER=nvidia\nPCI_CLASS=30000\nPCI_ID=10DE:2684\nPCI_SLOT_NAME=0000:13:00.0\n")
			m.power("0000:13:00.0", "suspended", "auto")
		}, "", true},
	} {
		m := machine{t, t.TempDir()}
		c.prepare(m)
		if got := Worth(m.root, c.library); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	if Worth("/nowhere/at/all", "") {
		t.Error("a root that isn't there is worth something")
	}
}

// While a card may sleep the library is not called, and what was open is let go of.
func TestSleepingCardsAreLeftAlone(t *testing.T) { // trap 31
	t.Parallel()
	const card = "0000:23:00.0"
	c := start(t)
	c.power(card, "suspended", "auto")
	if found := c.inventory(); len(found.Devices)+len(found.Problems) > 0 {
		t.Errorf("before anything was known: got %+v", found)
	}
	if a := c.ask("read " + id(0)); a.State != gpu.StateSuspended {
		t.Errorf("got state %q", a.State)
	}
	if calls := c.Calls(); len(calls) > 0 {
		t.Errorf("got calls %v", calls)
	}

	c.power(card, "active", "on")
	before := c.four()
	c.read(id(0))
	c.Calls()

	c.power(card, "active", "auto")
	c.ask("look")
	a := c.ask("read " + id(0))
	if a.State != gpu.StateSuspended || !strings.Contains(a.Err, card) || a.Reading.MemoryTotalBytes == nil || a.Reading.PowerWatts != nil {
		t.Errorf("got state %q, error %q, reading %+v", a.State, a.Err, a.Reading)
	}
	if a := c.ask("details " + id(1)); a.State != gpu.StateSuspended {
		t.Errorf("details: got state %q", a.State)
	}
	if diff := cmp.Diff(before, c.inventory().Devices); diff != "" {
		t.Errorf("devices while a card may sleep (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"amdsmi_shut_down"}, c.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if !slices.ContainsFunc(c.ask("examine").Findings, func(f telemetry.Finding) bool {
		return strings.Contains(f.Text, card) && strings.Contains(f.Mend, "/sys/bus/pci/devices/"+card+"/power/control")
	}) {
		t.Error("nobody is told why AMD SMI isn't asked")
	}

	c.power(card, "unsupported", "auto")
	c.ask("look")
	if a := c.ask("read " + id(0)); a.Err == "" || a.State != "" {
		t.Errorf("before the library is connected anew: got state %q, error %q", a.State, a.Err)
	}
	c.four()
	c.read(id(0))
}

// A call that hangs keeps the library open while a card wants to sleep: that only another process can end.
func TestHangWhileACardWantsToSleep(t *testing.T) {
	t.Parallel()
	const card = "0000:23:00.0"
	c := start(t)
	c.power(card, "active", "on")
	c.four()
	c.Set("1.hang=1")
	c.ask("hang " + id(1))
	c.power(card, "active", "auto")
	c.ask("look")
	c.Calls()
	if a := c.ask("read " + id(0)); a.State != gpu.StateSuspended || a.Wedged {
		t.Errorf("got state %q, wedged %v", a.State, a.Wedged)
	}
	if a := c.ask("age"); !a.Wedged {
		t.Error("nobody is told that another process is needed")
	}
	c.power(card, "active", "on")
	c.ask("look")
	if found := c.inventory(); len(found.Devices) != 4 || len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "reboot") {
		t.Errorf("got %d devices, problems %q", len(found.Devices), found.Problems)
	}
	c.Set()
	c.ask("settle")
	if calls := c.Calls(); calls[len(calls)-1] != "amdsmi_shut_down" {
		t.Errorf("got calls %v, want the library shut down after the last call returned", calls)
	}
	c.four()
	if a := c.ask("read " + id(1)); a.Err != "" || a.Wedged {
		t.Errorf("got error %q, wedged %v", a.Err, a.Wedged)
	}
}

// An inventory that is cut short by a card that wants to sleep forgets no device.
func TestInventoryCutShort(t *testing.T) {
	t.Parallel()
	c := start(t)
	before := c.four()
	c.Set("slow=5")
	if diff := cmp.Diff(before, c.ask("interrupt").Found.Devices); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.four()
}

func TestCloseLetsGo(t *testing.T) {
	t.Parallel()
	library := fakeamdsmi.Build(t)
	c := startAt(t, library, fourCards(t))
	c.four()
	c.Calls()
	c.in.Close()
	if err := c.wait(); err != nil {
		t.Fatalf("%v\n%s", err, c.stderr)
	}
	c.mess = true // it has been waited for
	if diff := cmp.Diff([]string{"amdsmi_shut_down"}, c.Calls()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	New(Config{Root: t.TempDir()}).Close() // without ever having been asked
}
