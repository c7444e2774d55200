package scheduler

import (
	"testing"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

// Jobs of a database that kept only the number go by that, and all others by the stable ID, whatever its number is now.
func TestPins(t *testing.T) {
	t.Parallel()
	first, cpu, far := gpu.Ref(0), gpu.CPU, gpu.Ref(7)
	for _, tt := range []struct {
		name string
		job  job.Job
		want string
	}{
		{"none", job.Job{}, ""},
		{"by number alone", job.Job{PinnedTo: &first}, "GPU-a"},
		{"by its stable ID", job.Job{PinnedTo: &first, PinnedKey: "GPU-b"}, "GPU-b"},
		{"the processor, by number", job.Job{PinnedTo: &cpu}, backend.CPU().ID},
		{"a number that is not here", job.Job{PinnedTo: &far}, far.Label()},
	} {
		c := NewCore(Predicted)
		c.inventory = &gpu.Inventory{Devices: []gpu.Device{{ID: "GPU-a", Index: 0}, {ID: "GPU-b", Index: 1}}}
		if got := c.pin(&tt.job); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Readings of another list of devices say nothing of this one's.
func TestReadingsOfOtherDevicesAreNotUsed(t *testing.T) {
	t.Parallel()
	hot := gpu.Reading{State: gpu.StateOK, Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 99}}}
	for revision, want := range map[uint64]bool{3: true, 4: false} {
		c := NewCore(Predicted)
		device := gpu.Device{ID: "GPU-a"}
		c.look(View{
			Now: time.Now(), Inventory: &gpu.Inventory{Revision: 3, Devices: []gpu.Device{device}},
			Snapshot: &gpu.Snapshot{Seq: 1, Revision: revision, GPUs: []gpu.Reading{hot}},
			Slots:    []Slot{{Device: device, Backend: &fakeBackend{}}},
		})
		if got := c.slots[0].hot; got != want {
			t.Errorf("a snapshot of revision %d makes it hot: %t", revision, got)
		}
	}
}
