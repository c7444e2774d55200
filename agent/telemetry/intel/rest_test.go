package intel

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// A card that nobody uses is left alone for long enough to fall asleep, though it is asked every second.
func TestIdleCardMaySleep(t *testing.T) { // trap 31
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		arc := m.battlemage()
		m.files(arc+"/power", map[string]string{"control": "auto\n", "autosuspend_delay_ms": "1000\n"})
		j := &journal{}
		r := New(m.root)
		r.read = j.ReadFile
		r.query = func(string, string) (memory, error) { return memory{total: 1 << 33, used: 1, counted: true}, nil }
		m.inventory(r)
		// tick reads as the sampler does, and says whether the card was touched.
		tick := func() (gpu.Reading, bool) {
			t.Helper()
			j.take(m.path(arc))
			reading := read(t, r, battlemage)
			details, err := r.Details(t.Context(), battlemage)
			if err != nil || details.EnergyJoules == nil {
				t.Errorf("details: %+v, %v", details, err)
			}
			m.inventory(r)
			time.Sleep(time.Second)
			return reading, len(j.take(m.path(arc))) > 0
		}
		tick()
		if _, touched := tick(); !touched { // the second look finds it idle
			t.Fatal("not read at all")
		}
		rests, longest, run := 0, 0, 0
		for range 60 {
			reading, touched := tick()
			if *reading.UtilizationPercent != 0 || *reading.CoreClockMHz != 2850 || *reading.MemoryUsedBytes != 1 {
				t.Errorf("got %+v", reading)
			}
			if run++; touched {
				run = 0
			}
			if run == 1 {
				rests++
			}
			longest = max(longest, run)
		}
		if rests == 0 || rests > 2 || longest < 1 || longest > 2 {
			t.Errorf("a minute awake: left alone %d times, at most %d ticks", rests, longest)
		}
		m.file(arc+"/power/runtime_status", "suspended\n")
		if _, err := r.Read(t.Context(), battlemage); !errors.Is(err, telemetry.ErrSuspended) {
			t.Errorf("asleep: %v", err)
		}
		m.file(arc+"/power/runtime_status", "active\n")
		m.client("7", "5", "renderD129", xeClient(1, 0, 0, 0))
		time.Sleep(walkEvery)
		for range 10 {
			if _, touched := tick(); !touched {
				t.Error("left alone though a process has it open")
			}
		}
	})
}

// A process that opens the card ends its rest, and a card that does not sleep is never left alone.
func TestRestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			control, delay string
			rests          bool
		}{
			"i915's delay": {"auto", "10000", true}, "kept awake": {"on", "1000", false}, "never": {"auto", "-1", false}, "no delay": {"auto", "", false},
			"nonsense": {"auto", "99999999999999999999", false}, "an hour": {"auto", "3600000", false},
		} {
			m := newMachine(t)
			dir := m.alchemist()
			m.files(dir+"/power", map[string]string{"control": c.control + "\n", "autosuspend_delay_ms": c.delay + "\n"})
			r, _ := m.reader()
			clock := func(mhz string) bool { // whether the reading has it
				t.Helper()
				m.file(dir+"/drm/card2/gt/gt0/rps_act_freq_mhz", mhz+"\n")
				time.Sleep(time.Second)
				return *read(t, r, alchemist).CoreClockMHz != 600
			}
			read(t, r, alchemist)
			clock("600")
			if got := clock("700"); got == c.rests {
				t.Errorf("%s: a new value is seen: %v", name, got)
			}
			m.client("7", "5", "renderD130", i915Client(1, 0, 0))
			time.Sleep(walkEvery)
			if !clock("800") {
				t.Errorf("%s: a process has it open, but the value is old", name)
			}
		}
	})
}
