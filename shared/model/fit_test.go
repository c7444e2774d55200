package model

import (
	"testing"

	"muster/shared/gpu"
)

func TestFits(t *testing.T) {
	t.Parallel()
	parted := gpu.Device{Index: 2, MemoryBytes: new(uint64(80 * gpu.GiB)), Partitions: []gpu.Device{{MemoryBytes: new(uint64(10 * gpu.GiB))}, {MemoryBytes: new(uint64(20 * gpu.GiB))}, {}}}
	fits := FitsOf(15*gpu.GiB, []gpu.Device{{Index: 0, MemoryBytes: new(uint64(16 * gpu.GiB))}, {Index: 1}, parted})
	want := []string{"fits while little else is on it", "not known: the device does not report its memory", "fits"}
	for i, fit := range fits {
		if fit.Words != want[i] || (fit.Fits == nil) != (i == 1) {
			t.Errorf("%+v, want %q", fit, want[i])
		}
	}
	if got := FitWords(fits); got != "fits devices 0 and 2, not known for Device 1" {
		t.Error(got)
	}
	if got := FitWords(FitsOf(0, []gpu.Device{{MemoryBytes: new(uint64(8 * gpu.GiB))}})); got != "not known for Device 0" {
		t.Error(got)
	}
}

func TestFitsInWords(t *testing.T) {
	t.Parallel()
	of := func(gibs ...uint64) (devices []gpu.Device) {
		for i, g := range gibs {
			devices = append(devices, gpu.Device{Index: gpu.Ref(i), MemoryBytes: new(g * gpu.GiB)})
		}
		return devices
	}
	for _, test := range []struct {
		devices []gpu.Device
		want    string
	}{
		{nil, ""},
		{of(16, 16, 16, 16, 16, 16, 16, 16), "fits all 8 GPUs"},
		{of(16, 16), "fits both GPUs"},
		{of(16), "fits Device 0"},
		{of(16, 16, 16, 8), "fits devices 0–2, not Device 3: needs 9.5 GiB, has 8.0 GiB"},
		{of(16, 8, 6, 4), "fits Device 0, not devices 1–3: needs 9.5 GiB"},
		{of(8), "does not fit Device 0: needs 9.5 GiB, has 8.0 GiB"},
		{of(8, 4, 4), "does not fit any of the 3 GPUs: needs 9.5 GiB"},
	} {
		if got := FitWords(FitsOf(19*gpu.GiB/2, test.devices)); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// The estimate meets what generators are known to take within 6 %.
func TestEstimateOfMemory(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		family Family
		bytes  uint64
		gib    float64
	}{{SD1, 2_132_696_762, 3.5}, {SDXL, 6_938_078_334, 9.5}, {Flux, 12_708_521_984, 16}, {Unknown, 4 << 30, 6}} {
		if got := float64(EstimateVRAM(test.family, test.bytes)) / gpu.GiB; got < 0.94*test.gib || got > 1.06*test.gib {
			t.Errorf("%s: %.2f GiB, want about %.1f", test.family, got, test.gib)
		}
	}
}
