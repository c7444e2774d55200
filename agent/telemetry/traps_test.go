package telemetry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

// A GPU that falls off the bus in the middle of a sample: seven of eight stay, the eighth keeps its identity.
func TestLostInTheMiddleOfASample(t *testing.T) { // trap 5
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ids := []string{"GPU-0", "GPU-1", "GPU-2", "GPU-3", "GPU-4", "GPU-5", "GPU-6", "GPU-7"}
		d := newDetailed(ids...)
		s, stop := run(t, Config{Readers: []Reader{d}})
		defer stop()
		after(2500 * time.Millisecond)
		d.answerBy("GPU-1", func(context.Context) (gpu.Reading, error) {
			time.Sleep(10 * time.Millisecond) // some getters answered
			return gpu.Reading{UtilizationPercent: ptr(1.0)}, fmt.Errorf("power of GPU-1: %w", ErrLost)
		})
		d.tell("GPU-1", func(context.Context) (gpu.Details, error) { return gpu.Details{}, ErrLost })
		after(time.Second)
		for range 2 { // at once, and a minute later
			inv, snap, report := s.Inventory(), s.Snapshot(), s.Report()
			if len(inv.Devices) != 8 || inv.Devices[1].ID != "GPU-1" || inv.Revision != 1 {
				t.Fatalf("%s, revision %d", idsOf(inv), inv.Revision)
			}
			for i, r := range snap.GPUs {
				if lost := r.State == gpu.StateLost; lost != (i == 1) || !lost && r.AgeMilliseconds != 0 || *r.UtilizationPercent != 50 {
					t.Errorf("device %d: %s, %d ms, %v %%", i, r.State, r.AgeMilliseconds, *r.UtilizationPercent)
				}
			}
			if len(report.Devices) != 8 || report.Devices[1].EnergyJoules == nil {
				t.Errorf("report %+v", report)
			}
			after(time.Minute)
		}
	})
}

// A call that blocks 3 s, a hundred times: every snapshot comes within 2 s, and nothing piles up.
func TestCallsThatBlockForSeconds(t *testing.T) { // trap 6
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b")
		d.answerBy("a", func(context.Context) (gpu.Reading, error) { time.Sleep(3 * time.Second); return answer() })
		var longest time.Duration
		last := time.Now()
		s, stop := run(t, Config{Readers: []Reader{d}, Publish: func(*gpu.Inventory, *gpu.Snapshot) {
			longest, last = max(longest, time.Since(last)), time.Now()
		}})
		after(20 * time.Second)
		before := goroutines()
		after(400 * time.Second)
		if now := goroutines(); now > before {
			t.Errorf("%d goroutines after 100 calls that blocked, %d before", now, before)
		}
		other := s.Snapshot().GPUs[1]
		d.answerBy("a", nil)
		after(5 * time.Second)
		stop()
		if n := d.count("a"); n < 100 || longest >= 2*time.Second || other.AgeMilliseconds != 0 {
			t.Errorf("%d calls, longest gap %v, other device %+v", n, longest, other)
		}
	})
}

// A reader that opens a FIFO where a file of sysfs should be waits for a writer that never comes.
func TestFIFOInPlaceOfAFile(t *testing.T) { // trap 42
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "gpu_busy_percent")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFake("a", "b")
	opened := make(chan struct{}, 1)
	f.answerBy("a", func(context.Context) (gpu.Reading, error) {
		opened <- struct{}{}
		content, err := os.ReadFile(fifo)
		if err != nil {
			return gpu.Reading{}, err
		}
		return gpu.Reading{UtilizationPercent: ptr(float64(len(content)))}, nil
	})
	stuck, well := make(chan struct{}), make(chan struct{})
	waitStuck, waitWell := stuck, well
	_, stop := run(t, Config{Readers: []Reader{f}, Interval: minInterval, Publish: func(_ *gpu.Inventory, s *gpu.Snapshot) {
		a, b := s.GPUs[0], s.GPUs[1]
		switch {
		case b.State != gpu.StateOK:
			t.Errorf("the other device: %s", b.State)
		case a.State == gpu.StateStuck && s.Seq > 10 && stuck != nil:
			close(stuck)
			stuck = nil
		case a.State == gpu.StateOK && well != nil:
			close(well)
			well = nil
		}
	}})
	defer stop()
	<-opened
	<-waitStuck
	f.answerBy("a", nil)
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0) // the reader is there, so this does not wait
	if err != nil {
		t.Fatal(err)
	}
	writer.Close()
	<-waitWell
}

// NVIDIA, AMD, an APU and a card that two drivers name: one entry each, in one order whoever is asked first.
func TestMixedMachine(t *testing.T) { // trap 44
	t.Parallel()
	card := func(id, address string, vendor gpu.Vendor) gpu.Device {
		return gpu.Device{ID: id, PCIAddress: address, Vendor: vendor, Name: id}
	}
	nvidia := listing{reader: "nvml", devices: []gpu.Device{
		card("GPU-aaaa", "00000000:81:00.0", gpu.NVIDIA), card("GPU-bbbb", "00000000:02:00.0", gpu.NVIDIA), card("GPU-cccc", "00010000:02:00.0", gpu.NVIDIA),
	}}
	amd := listing{reader: "amdgpu", devices: []gpu.Device{
		card("GPU-00f4a00d1e3c2b11", "0000:41:00.0", gpu.AMD), card("pci-0000:c4:00.0", "0000:c4:00.0", gpu.AMD), card("GPU-00f4a00d1e3c2b12", "0000:01:00.0", gpu.AMD),
	}}
	library := listing{reader: "amdsmi", devices: []gpu.Device{card("GPU-other-words", "0000:41:00.0", gpu.AMD)}}
	intel := listing{reader: "intel", devices: []gpu.Device{card("pci-0000:00:02.0", "0000:00:02.0", gpu.Intel)}}
	want := "pci-0000:00:02.0 GPU-00f4a00d1e3c2b12 GPU-bbbb GPU-00f4a00d1e3c2b11 GPU-aaaa pci-0000:c4:00.0 GPU-cccc"
	random := rand.New(rand.NewPCG(4, 4))
	readers := []listing{amd, library, nvidia, intel}
	for range 20 {
		inv, _ := merge(gpu.Host{}, readers)
		if got := idsOf(&inv); got != want {
			t.Fatalf("%s\nwant %s", got, want)
		}
		for i, d := range inv.Devices {
			if int(d.Index) != i {
				t.Errorf("%s: device_id %d", d.ID, d.Index)
			}
		}
		for _, l := range readers {
			random.Shuffle(len(l.devices), func(i, j int) { l.devices[i], l.devices[j] = l.devices[j], l.devices[i] })
		}
		random.Shuffle(2, func(i, j int) { readers[2+i], readers[2+j] = readers[2+j], readers[2+i] })
	}
}
