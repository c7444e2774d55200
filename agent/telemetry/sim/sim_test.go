package sim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, want string // IDs
	}{
		{"2x MI25, 1x RTX 4090", "sim-mi25-0 sim-mi25-1 sim-rtx-4090-0"},
		{"mi25", "sim-mi25-0"},
		{"  2X mi25 ,rtx4090", "sim-mi25-0 sim-mi25-1 sim-rtx-4090-0"},
		{"1x MI25, 1 x Radeon Instinct MI25, 1*Instinct-MI25", "sim-mi25-0 sim-mi25-1 sim-mi25-2"},
		{"2×v620", "sim-v620-0 sim-v620-1"},
		{"NVIDIA GeForce RTX 4090, NVIDIA H100 80GB HBM3, h100", "sim-rtx-4090-0 sim-h100-0 sim-h100-1"},
		{"2x MI25 busy, rtx 4090 BUSY 5s / 1.5m", "sim-mi25-0 sim-mi25-1 sim-rtx-4090-0"},
		{"RTX A6000, A10, L4, T4", "sim-rtx-a6000-0 sim-a10-0 sim-l4-0 sim-t4-0"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			m, err := Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, d := range inventory(t, m) {
				ids = append(ids, d.ID)
			}
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("%s: want %s", got, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, says string }{
		{"", "empty"}, {" , ", "empty"}, {"MI25,", "empty"},
		{"2x Voodoo 2", "RTX 4090"},
		{"GeForce", "known are"}, {"2x", "known are"},
		{"0x MI25", "1 to 64"}, {"65x MI25", "1 to 64"}, {"40x MI25, 25x V620", "1 to 64"}, {"99999999999999999999x MI25", "1 to 64"},
		{"-1x MI25", "known are"},
		{"busy", "known are"}, {"2x busy 1s/1s", "known are"}, {"MI25 busybody", "known are"},
		{"MI25 busy 5s", "30s/90s"}, {"MI25 busy 5s/", "30s/90s"}, {"MI25 busy 5/5", "30s/90s"}, {"MI25 busy 0s/5s", "30s/90s"},
		{"MI25 busy 5s/999ms", "30s/90s"}, {"MI25 busy 25h/1s", "30s/90s"}, {"MI25 busy -5s/5s", "30s/90s"}, {"MI25 busy 5s/5s/5s", "30s/90s"},
	} {
		if m, err := Parse(tt.in); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v, %v: want an error that says %q", tt.in, m, err, tt.says)
		}
	}
	if _, err := Parse("nonesuch"); err != nil {
		for _, name := range Models() {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("the error does not list %s", name)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2x MI25, 1x RTX 4090")
	f.Add("64x T4")
	f.Add("9x,,×x 7")
	f.Add("2x MI25 busy, T4 busy 30s/1h")
	f.Fuzz(func(t *testing.T, spec string) {
		m, err := Parse(spec)
		if err != nil {
			return
		}
		if n := len(m.devices); n < 1 || n > maxDevices || n != len(m.byID) {
			t.Fatalf("%q: %d devices, %d IDs", spec, n, len(m.byID))
		}
		for _, d := range m.devices {
			if now := time.Now(); d.other.busy != 0 {
				if _, until := d.other.at(now); !until.After(now) {
					t.Fatalf("%q: what begins now ends at %v", spec, until)
				}
			}
		}
	})
}

func inventory(t testing.TB, m *Machine) []gpu.Device {
	t.Helper()
	found, err := m.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found.Devices
}

// The figures are those of facts/telemetry.md, 0.4 and 2.2, and of the makers' data sheets.
func TestFacts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		model, name, capability, arch string
		multiprocessors               int
		gib                           float64
	}{
		{"MI25", "Radeon Instinct MI25", "9.0", "gfx900", 64, 15.98},
		{"V620", "AMD Radeon Pro V620", "10.3", "gfx1030", 36, 31.98},
		{"RTX 4090", "NVIDIA GeForce RTX 4090", "8.9", "sm_89", 128, 23.99},
		{"H100", "NVIDIA H100 80GB HBM3", "9.0", "sm_90", 132, 79.65},
		{"A100", "NVIDIA A100-SXM4-80GB", "8.0", "sm_80", 108, 80},
		{"T4", "Tesla T4", "7.5", "sm_75", 40, 15},
		{"L4", "NVIDIA L4", "8.9", "sm_89", 58, 22.49},
		{"MI300X", "AMD Instinct MI300X", "9.4", "gfx942", 304, 191.98},
		{"RX 7900 XTX", "AMD Radeon RX 7900 XTX", "11.0", "gfx1100", 48, 23.98},
	} {
		t.Run(tt.model, func(t *testing.T) {
			t.Parallel()
			m, err := Parse(tt.model)
			if err != nil {
				t.Fatal(err)
			}
			d := inventory(t, m)[0]
			if d.Name != tt.name || d.ComputeCapability != tt.capability || d.Arch != tt.arch || *d.MultiprocessorCount != tt.multiprocessors || gpu.RoundGiB(*d.MemoryBytes) != tt.gib {
				t.Errorf("%+v with %d multiprocessors, %v GiB: want %+v", d, *d.MultiprocessorCount, gpu.RoundGiB(*d.MemoryBytes), tt)
			}
		})
	}
}

func TestEveryModelIsWholeAndLabelled(t *testing.T) {
	t.Parallel()
	m, err := Parse(strings.Join(Models(), ","))
	if err != nil {
		t.Fatal(err)
	}
	devices := inventory(t, m)
	addresses := map[string]bool{}
	for _, d := range devices {
		if !d.Simulated || d.Sources["name"] != source || d.DriverVersion != "" || addresses[d.PCIAddress] || d.Error != "" {
			t.Errorf("%+v", d)
		}
		addresses[d.PCIAddress] = true
		prefix := map[gpu.Vendor]string{gpu.AMD: "gfx", gpu.NVIDIA: "sm_"}[d.Vendor]
		if prefix == "" || !strings.HasPrefix(d.Arch, prefix) || m.StepsPerSecond(d) <= 0 {
			t.Errorf("%s: %s, %v steps/s", d.Name, d.Arch, m.StepsPerSecond(d))
		}
		if d.Vendor == gpu.NVIDIA && "sm_"+strings.ReplaceAll(d.ComputeCapability, ".", "") != d.Arch {
			t.Errorf("%s: %s is not %s", d.Name, d.Arch, d.ComputeCapability)
		}
	}
	found, _ := m.Inventory(t.Context())
	if found.Host != (gpu.Host{}) {
		t.Errorf("something was invented about the host: %+v", found.Host)
	}
	if last := devices[len(devices)-1]; len(devices) < 16 || last.PCIAddress != fmt.Sprintf("0000:%02x:00.0", 1+2*len(devices)) {
		t.Errorf("%d models, the last at %s", len(devices), last.PCIAddress)
	}
}

func TestUnknownDevices(t *testing.T) {
	t.Parallel()
	m, err := Parse("MI25")
	if err != nil {
		t.Fatal(err)
	}
	m.Busy("GPU-1", 1)()
	if _, err := m.Read(t.Context(), "GPU-1"); !errors.Is(err, telemetry.ErrLost) {
		t.Errorf("read of an unknown device: %v", err)
	}
	if got := m.StepsPerSecond(gpu.Device{ID: "cpu"}); got != 0 {
		t.Errorf("the CPU has %v steps/s", got)
	}
}

func TestSpeedsAreInProportion(t *testing.T) {
	t.Parallel()
	order := []string{"MI25", "V620", "RX 7900 XTX", "RTX 4090", "H100"}
	last := 0.0
	for _, name := range order {
		m, err := Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		speed := m.StepsPerSecond(inventory(t, m)[0])
		if speed <= last {
			t.Errorf("%s: %v steps/s, not above %v", name, speed, last)
		}
		last = speed
	}
}

func read(t *testing.T, m *Machine, id string) gpu.Reading {
	t.Helper()
	r, err := m.Read(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWorkShowsAndFades(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"MI25", "RTX 4090"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, err := Parse("2x " + name)
				if err != nil {
					t.Fatal(err)
				}
				devices := inventory(t, m)
				id, other := devices[0].ID, devices[1].ID
				idle := read(t, m, id)
				if *idle.UtilizationPercent != 0 || *idle.Throttle != gpu.ThrottleIdle || *idle.PowerWatts > 0.3**idle.PowerLimitWatts {
					t.Errorf("idle: %v %%, %v W", *idle.UtilizationPercent, *idle.PowerWatts)
				}
				done := m.Busy(id, 6*gpu.GiB)
				done2 := m.Busy(id, 2*gpu.GiB)
				time.Sleep(2 * time.Second)
				early := read(t, m, id)
				if got := *early.MemoryUsedBytes - *idle.MemoryUsedBytes; got != 8*gpu.GiB {
					t.Errorf("memory rose by %d bytes: want 8 GiB", got)
				}
				if *early.UtilizationPercent < 90 || *early.CoreClockMHz < 1.5**idle.CoreClockMHz || *early.PowerWatts < 2**idle.PowerWatts {
					t.Errorf("2 s into work: %v %%, %v MHz, %v W", *early.UtilizationPercent, *early.CoreClockMHz, *early.PowerWatts)
				}
				time.Sleep(2 * time.Minute)
				late := read(t, m, id)
				if rise, more := *early.TemperatureCelsius()-*idle.TemperatureCelsius(), *late.TemperatureCelsius()-*early.TemperatureCelsius(); rise > 8 || more < 15 {
					t.Errorf("temperature rose by %v °C in 2 s and %v in 2 min: want inertia", rise, more)
				}
				if c := *late.TemperatureCelsius(); c < 55 || c > 85 || *late.PowerWatts > *late.PowerLimitWatts || *late.UtilizationPercent < 94 {
					t.Errorf("after 2 min: %v °C, %v W of %v, %v %%", c, *late.PowerWatts, *late.PowerLimitWatts, *late.UtilizationPercent)
				}
				done()
				done()
				if got := read(t, m, id); *got.MemoryUsedBytes-*idle.MemoryUsedBytes != 2*gpu.GiB || *got.UtilizationPercent < 90 {
					t.Errorf("one of two done: %d bytes, %v %%", *got.MemoryUsedBytes, *got.UtilizationPercent)
				}
				done2()
				time.Sleep(10 * time.Minute)
				cold := read(t, m, id)
				if *cold.MemoryUsedBytes != *idle.MemoryUsedBytes || *cold.UtilizationPercent > 0 || *cold.TemperatureCelsius() > *idle.TemperatureCelsius()+2 {
					t.Errorf("10 min after: %d bytes, %v %%, %v °C", *cold.MemoryUsedBytes, *cold.UtilizationPercent, *cold.TemperatureCelsius())
				}
				if r := read(t, m, other); *r.UtilizationPercent != 0 || *r.MemoryUsedBytes != *idle.MemoryUsedBytes {
					t.Errorf("the other device worked too: %v %%", *r.UtilizationPercent)
				}
			})
		})
	}
}

func TestMemoryNeverExceedsTheDevice(t *testing.T) {
	t.Parallel()
	m, err := Parse("T4")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Busy("sim-t4-0", 900*gpu.GiB)()
	r := read(t, m, "sim-t4-0")
	if *r.MemoryUsedBytes+*r.MemoryReservedBytes > *r.MemoryTotalBytes || *r.MemoryFreeBytes() != 0 || r.Load() > 1 {
		t.Errorf("%d + %d of %d", *r.MemoryUsedBytes, *r.MemoryReservedBytes, *r.MemoryTotalBytes)
	}
}

// Values move while a card idles, the same way in every run, and differently on each card.
func TestIdleValuesMove(t *testing.T) {
	t.Parallel()
	series := func(id string) (values []float64) {
		synctest.Test(t, func(t *testing.T) {
			m, err := Parse("2x V620")
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				r := read(t, m, id)
				values = append(values, *r.PowerWatts, *r.TemperatureCelsius())
				time.Sleep(time.Second)
			}
		})
		return values
	}
	first, again, other := fmt.Sprint(series("sim-v620-0")), fmt.Sprint(series("sim-v620-0")), fmt.Sprint(series("sim-v620-1"))
	if first != again {
		t.Errorf("not repeatable:\n%s\n%s", first, again)
	}
	if first == other {
		t.Error("two cards report the same")
	}
	distinct := map[float64]bool{}
	for _, v := range series("sim-v620-0") {
		distinct[v] = true
	}
	if len(distinct) < 8 {
		t.Errorf("only %d distinct values in 20 s", len(distinct))
	}
}

func TestClockSetBackChangesNothing(t *testing.T) {
	t.Parallel()
	d := &device{model: find("MI25"), seed: 1, jobs: 1}
	now := time.Now()
	d.advance(now)
	d.advance(now.Add(5 * time.Second))
	before := d.state
	d.advance(now)
	if d.state != before {
		t.Errorf("%+v became %+v", before, d.state)
	}
}
