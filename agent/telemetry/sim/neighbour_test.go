package sim

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

func TestAnotherProgramComesAndGoes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"MI25", "RTX 4090", "GTX 1080 Ti"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, err := Parse(name + " busy 30s/90s, " + name)
				if err != nil {
					t.Fatal(err)
				}
				devices := inventory(t, m)
				id, speed := devices[0].ID, m.StepsPerSecond(devices[0])
				idle := read(t, m, id)
				for round := range 3 {
					time.Sleep(80 * time.Second) // 80 s into the round
					if r := read(t, m, id); *r.UtilizationPercent > 1 || *r.MemoryUsedBytes != *idle.MemoryUsedBytes || m.Pace(devices[0]) != speed || *r.Throttle != gpu.ThrottleIdle {
						t.Errorf("round %d, alone: %v %%, %d bytes, %v steps/s", round, *r.UtilizationPercent, *r.MemoryUsedBytes, m.Pace(devices[0]))
					}
					time.Sleep(30 * time.Second) // 110 s
					r := read(t, m, id)
					if *r.UtilizationPercent < 60 || *r.UtilizationPercent > 90 || *r.PowerWatts < 0.5**r.PowerLimitWatts || *r.Throttle == gpu.ThrottleIdle {
						t.Errorf("round %d, shared: %v %%, %v W of %v", round, *r.UtilizationPercent, *r.PowerWatts, *r.PowerLimitWatts)
					}
					if *r.TemperatureCelsius() < *idle.TemperatureCelsius()+5 {
						t.Errorf("round %d, shared: %v °C, %v before", round, *r.TemperatureCelsius(), *idle.TemperatureCelsius())
					}
					programs := details(t, m, id).Processes
					if len(programs) != 1 || m.Owns(programs[0].PID) || !strings.Contains(programs[0].Name, "simulated") || *r.MemoryUsedBytes-*idle.MemoryUsedBytes != *programs[0].MemoryBytes {
						t.Errorf("round %d, shared: %+v, %d bytes more", round, programs, *r.MemoryUsedBytes-*idle.MemoryUsedBytes)
					}
					if got := m.Pace(devices[0]); got != speed/2 || m.StepsPerSecond(devices[0]) != speed {
						t.Errorf("round %d, shared: %v steps/s of %v", round, got, speed)
					}
					time.Sleep(10 * time.Second) // the round's end
				}
				if r := read(t, m, devices[1].ID); *r.UtilizationPercent != 0 || m.Pace(devices[1]) != speed {
					t.Errorf("the other device: %v %%", *r.UtilizationPercent)
				}
			})
		})
	}
}

// However seldom somebody looks, the values are those of a device that was there all the time.
func TestNobodyLookedWhileItWorked(t *testing.T) {
	t.Parallel()
	look := func(every time.Duration) (r gpu.Reading, d gpu.Details) {
		synctest.Test(t, func(t *testing.T) {
			m, err := Parse("H100 busy 7s/11s")
			if err != nil {
				t.Fatal(err)
			}
			read(t, m, "sim-h100-0")
			for range time.Minute / every {
				time.Sleep(every)
				read(t, m, "sim-h100-0")
			}
			r, d = read(t, m, "sim-h100-0"), details(t, m, "sim-h100-0")
		})
		return r, d
	}
	often, oftenDetails := look(100 * time.Millisecond)
	seldom, seldomDetails := look(time.Minute)
	if math.Abs(*often.TemperatureCelsius()-*seldom.TemperatureCelsius()) > 2 || math.Abs(*often.PowerWatts-*seldom.PowerWatts) > 5 || *often.UtilizationPercent != *seldom.UtilizationPercent {
		t.Errorf("%v °C, %v W, %v %%; looked at often %v °C, %v W, %v %%", *seldom.TemperatureCelsius(), *seldom.PowerWatts, *seldom.UtilizationPercent,
			*often.TemperatureCelsius(), *often.PowerWatts, *often.UtilizationPercent)
	}
	if ratio := *seldomDetails.EnergyJoules / *oftenDetails.EnergyJoules; ratio < 0.99 || ratio > 1.01 {
		t.Errorf("%v J; looked at often %v J", *seldomDetails.EnergyJoules, *oftenDetails.EnergyJoules)
	}
}

func TestWorkBesideAnotherProgram(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := Parse("T4 busy 1h/1s")
		if err != nil {
			t.Fatal(err)
		}
		const id = "sim-t4-0"
		read(t, m, id)
		done := m.Busy(id, 900*gpu.GiB)
		time.Sleep(time.Minute)
		r, programs := read(t, m, id), details(t, m, id).Processes
		if *r.UtilizationPercent < 95 || *r.PowerWatts > *r.PowerLimitWatts || *r.MemoryUsedBytes+*r.MemoryReservedBytes > *r.MemoryTotalBytes {
			t.Errorf("%v %%, %v W of %v, %d + %d of %d bytes", *r.UtilizationPercent, *r.PowerWatts, *r.PowerLimitWatts, *r.MemoryUsedBytes, *r.MemoryReservedBytes, *r.MemoryTotalBytes)
		}
		if len(programs) != 2 || m.Owns(programs[0].PID) == m.Owns(programs[1].PID) || *programs[0].MemoryBytes+*programs[1].MemoryBytes > *r.MemoryTotalBytes {
			t.Errorf("%+v", programs)
		}
		done()
		if programs := details(t, m, id).Processes; len(programs) != 1 || m.Owns(programs[0].PID) {
			t.Errorf("done: %+v", programs)
		}
	})
}

func TestOwns(t *testing.T) {
	t.Parallel()
	m, err := Parse("64x T4")
	if err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[int]bool{0: false, 1: false, -1: false, firstPID - 1: false, firstPID + 1: true, firstPID + maxDevices: true, firstNeighbour + 1: false} {
		if m.Owns(pid) != want {
			t.Errorf("%d: %v", pid, !want)
		}
	}
	if got := m.Pace(gpu.Device{ID: "cpu"}); got != 0 {
		t.Errorf("the CPU has %v steps/s", got)
	}
}
