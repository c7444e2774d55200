//go:build cgo

package nvml

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"muster/shared/gpu"
)

// carefully lists the devices in a process that follows one which a device has ended.
func (c *child) carefully(known []gpu.Device, skip ...int) answer {
	c.t.Helper()
	list, err := json.Marshal(known)
	if err != nil {
		c.t.Fatal(err)
	}
	a := c.ask("carefully " + strings.ReplaceAll(fmt.Sprint(skip), " ", ",") + " " + string(list))
	if a.Err != "" {
		c.t.Fatal(a.Err)
	}
	return a
}

func TestInventoryCarefully(t *testing.T) {
	t.Parallel()
	before := start(t)
	known := before.inventory().Devices
	c := start(t)
	c.Set("3.abort=1", "5.hang=1")
	a := c.carefully(known, 3)
	if want := []int{0, 1, 2, 4, 5, 6, 7}; !slices.Equal(a.Asked, want) {
		t.Errorf("asked %v, want %v", a.Asked, want)
	}
	if len(a.Found.Devices) != 8 {
		t.Fatalf("%d devices", len(a.Found.Devices))
	}
	for i, d := range a.Found.Devices {
		if d.ID != known[i].ID || d.Name != known[i].Name || d.PCIAddress != known[i].PCIAddress {
			t.Errorf("device %d is now %s %s at %s", i, d.ID, d.Name, d.PCIAddress)
		}
		if broken := i == 3 || i == 5; broken != (d.Error != "") {
			t.Errorf("device %d: error %q", i, d.Error)
		}
	}
	for i := range 8 {
		if i == 3 || i == 5 {
			if got := c.state(uuid(i)); got != gpu.StateStuck {
				t.Errorf("device %d is %s", i, got)
			}
			continue
		}
		c.read(uuid(i))
	}
	c.Set() // well again
	c.ask("settle")
	for _, d := range c.carefully(known).Found.Devices {
		if d.Error != "" {
			t.Errorf("%s: %s", d.ID, d.Error)
		}
	}
	c.read(uuid(3))
}

func TestInventoryCarefullyAsksOneAtATime(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.Set("slow=2")
	if a := c.carefully(nil); a.Yes || len(a.Asked) != 8 {
		t.Errorf("asked %v, two at once: %v", a.Asked, a.Yes)
	}
}

// Without anything known, what is passed over is listed all the same.
func TestSkippedDeviceIsListed(t *testing.T) {
	t.Parallel()
	c := start(t)
	found := c.carefully(nil, 0).Found
	if len(found.Devices) != 8 || found.Devices[0].ID != "nvml-0" || found.Devices[0].Error == "" {
		t.Errorf("%d devices, the first is %+v", len(found.Devices), found.Devices[0])
	}
}
