package main

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"muster/agent"
	"muster/agent/backend"
	"muster/agent/backend/builtin"
	"muster/shared/gpu"
	"muster/shared/job"
)

func ptr[T any](v T) *T { return &v }

func TestSimulatedDevicesGenerateAndSaySo(t *testing.T) {
	t.Parallel()
	config := agent.Default()
	config.Simulate = "2x MI25, 1x RTX 4090"
	hardware, err := newHardware(&config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	found, err := hardware.Readers[0].Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := hardware.Slots(gpu.Inventory{Devices: found.Devices})
	if len(got) != 3 {
		t.Fatalf("%d slots for 3 devices", len(got))
	}
	for _, slot := range got {
		if !slot.Device.Simulated || slot.Speed <= 0 || slot.Owns == nil || slot.Owns(os.Getpid()) {
			t.Errorf("slot %+v", slot)
		}
	}
}

// What another program leaves of a simulated device is what the built-in renderer gets.
func TestASimulatedProgramSlowsDownImages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		config := agent.Default()
		config.Simulate = "MI25 busy 1h/10s" // 2.6 steps a second, then 1.3
		hardware, err := newHardware(&config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		found, err := hardware.Readers[0].Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slot := hardware.Slots(gpu.Inventory{Devices: found.Devices})[0]
		begun := time.Now()
		req := backend.Request{Prompt: "a fox", Model: builtin.ModelName, Seed: 1, Width: 512, Height: 512, Steps: 52}
		if _, err := slot.Backend.Generate(t.Context(), slot.Device, req, func(job.Progress) {}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 29*time.Second || took > 31*time.Second {
			t.Errorf("took %v: want 26 steps in 10 s and 26 in 20 s", took)
		}
	})
}

func TestHardwareRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string
		change     func(*agent.Config)
	}{
		{"unknown card", "MI25", func(c *agent.Config) { c.Simulate = "1x Voodoo 2" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			config := agent.Default()
			config.Data = t.TempDir()
			tt.change(&config)
			if _, err := newHardware(&config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v: want an error with %q", err, tt.want)
			}
		})
	}
}

func TestGeneratorsGetNoDeviceMaskOfOurs(t *testing.T) {
	t.Parallel()
	environment := map[string]string{"LD_LIBRARY_PATH": "/opt/rocm/lib", "CUDA_VISIBLE_DEVICES": "1", "MUSTER_TOKEN": "secret", "HSA_OVERRIDE_GFX_VERSION": "10.3.0"}
	got := passedOn(func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
	if diff := cmp.Diff([]string{"LD_LIBRARY_PATH=/opt/rocm/lib", "HSA_OVERRIDE_GFX_VERSION=10.3.0"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPrintGPUs(t *testing.T) {
	t.Parallel()
	inventory := &gpu.Inventory{
		Revision: 1, Host: gpu.Host{CPUCount: 4, AMDGPUDriver: "6.8.5"},
		Devices: []gpu.Device{
			{Name: "MI25", MemoryBytes: ptr(uint64(17163091968)), ComputeCapability: "9.0", MultiprocessorCount: ptr(64), PCIAddress: "0000:03:00.0"},
			{Index: 1, Name: "Unknown GPU", Error: "no permission: add yourself to the render group", Simulated: true},
		},
		OtherAdapters: []gpu.Adapter{{PCIAddress: "0000:02:00.0", Name: "ASPEED"}},
	}
	snapshot := &gpu.Snapshot{Revision: 1, GPUs: []gpu.Reading{
		{State: gpu.StateOK, UtilizationPercent: ptr(0.0), MemoryUsedBytes: ptr(uint64(0)), MemoryTotalBytes: ptr(uint64(17163091968))},
		{State: gpu.StateStuck, AgeMilliseconds: 4200},
	}}
	var out strings.Builder
	if err := show(&out, look{inventory: inventory, snapshot: snapshot}, false, false, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 device(s) detected (simulated), 15.98 GiB VRAM", "amdgpu 6.8.5", "0.00 / 15.98", "0 %", absent, "stuck (4 s old) simulated", "render group", "other adapter: 0000:02:00.0 ASPEED",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "0 W") || strings.Contains(out.String(), "0 °C") {
		t.Errorf("shows zero for what was not reported:\n%s", out.String())
	}
}

// In a narrow terminal the columns that people need least are left out; what is wrong with a device is never cut.
func TestGPUsInNarrowTerminals(t *testing.T) {
	t.Parallel()
	const broken = "this GPU can't be read: a driver call has not returned, and it is said at length"
	l := look{
		inventory: &gpu.Inventory{Revision: 1, Devices: []gpu.Device{
			{Name: "AMD Radeon Instinct MI25", MemoryBytes: ptr(uint64(16 << 30)), ComputeCapability: "9.0", MultiprocessorCount: ptr(64), PCIAddress: "0000:03:00.0", Partitions: []gpu.Device{{ID: "a", Name: "part"}}},
			{Index: 1, Name: "NVIDIA GPU", Error: broken},
		}},
		snapshot: &gpu.Snapshot{Revision: 1, GPUs: []gpu.Reading{{State: gpu.StateOK}, {State: gpu.StateStuck}}},
	}
	for _, tt := range []struct {
		width int
		want  []string
	}{
		{0, []string{"ID", "NAME", "MEMORY", "GiB", "LOAD", "TEMP", "POWER", "CC", "MP", "PCI", "STATE"}},
		{120, []string{"ID", "NAME", "MEMORY", "GiB", "LOAD", "TEMP", "POWER", "CC", "MP", "PCI", "STATE"}},
		{86, []string{"ID", "NAME", "MEMORY", "GiB", "LOAD", "TEMP", "POWER", "CC", "PCI", "STATE"}},
		{80, []string{"ID", "NAME", "MEMORY", "GiB", "LOAD", "TEMP", "POWER", "PCI", "STATE"}},
		{40, []string{"ID", "NAME", "MEMORY", "GiB", "LOAD", "TEMP", "POWER", "STATE"}},
	} {
		var out strings.Builder
		printGPUs(&out, l, tt.width)
		lines := strings.Split(out.String(), "\n")
		if diff := cmp.Diff(tt.want, strings.Fields(lines[1])); diff != "" {
			t.Errorf("%d characters: %s", tt.width, diff)
		}
		if n := utf8.RuneCountInString(lines[2]); tt.width >= 80 && n > tt.width {
			t.Errorf("%d characters: a line has %d: %s", tt.width, n, lines[2])
		}
		if !strings.HasPrefix(lines[3], "      part") || !strings.HasSuffix(lines[4], "stuck: "+broken) {
			t.Errorf("%d characters:\n%s", tt.width, out.String())
		}
	}
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a fox":                            "a fox",
		" two\nlines\tand \x1b[31mred":     "two lines and [31mred",
		strings.Repeat("long ", 20):        "long long long long long long l…",
		"ein Fuchs im Schnee, 狐 und 雪, Öl": "ein Fuchs im Schnee, 狐 und 雪, Öl",
	} {
		if got := excerpt(in); got != want {
			t.Errorf("excerpt(%q) = %q: want %q", in, got, want)
		}
	}
}

func TestCollectorsGetPathsThatHoldAnywhere(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"libnvidia-ml.so.1": "libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.1": "/usr/lib/libnvidia-ml.so.1",
		"./libnvidia-ml.so.1": here + "/libnvidia-ml.so.1", "lib/libamd_smi.so": here + "/lib/libamd_smi.so",
	} {
		if got := libraryFromHere(in); got != want {
			t.Errorf("%q becomes %q; want %q", in, got, want)
		}
	}
	if got := fromHere("captured"); got != here+"/captured" {
		t.Errorf("a root becomes %q", got)
	}
}

func TestCollectorsOfAMachine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		root         string
		nvml, amdsmi string
		want         []string
	}{
		{"this machine", "/", "", "", []string{"nvml", "amdsmi"}},
		{"switched off", "/", "off", "off", nil},
		{"another root has no library of ours", "/captured", "", "", nil},
		{"unless it is named", "/captured", "/fake/libnvidia-ml.so.1", "", []string{"nvml"}},
	} {
		config := agent.Default()
		config.SysRoot, config.NVML, config.AMDSMI = tt.root, tt.nvml, tt.amdsmi
		var got []string
		for _, reader := range collectors(&config, slog.New(slog.DiscardHandler)) {
			got = append(got, reader.Name())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestCollectorsDoNotGetTheToken(t *testing.T) {
	t.Parallel()
	got := withoutSettings([]string{"MUSTER_TOKEN=secret", "LD_LIBRARY_PATH=/opt", "MUSTER_DATA=/x", "AMDSMI_LIB=/y"})
	if diff := cmp.Diff([]string{"LD_LIBRARY_PATH=/opt", "AMDSMI_LIB=/y"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownCollectorIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"voodoo"}, {"nvml", "--frobnicate"}} {
		if reader, err := collected(args); err == nil {
			t.Errorf("%q gave %s", args, reader.Name())
		}
	}
	if reader, err := collected([]string{"amdsmi", "--library", "/x", "--root", "/y"}); err != nil || reader.Name() != "amdsmi" {
		t.Errorf("amdsmi: %v", err)
	}
}
