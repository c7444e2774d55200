package intel

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCounter(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type step struct {
		value float64
		after time.Duration
		want  float64 // -1 for none
	}
	for name, steps := range map[string][]step{
		"steady":          {{100, 0, -1}, {300, 2 * time.Second, 100}, {300, time.Second, 0}},
		"goes back":       {{100, 0, -1}, {5, time.Second, -1}, {15, time.Second, 10}},
		"too soon":        {{100, 0, -1}, {101, time.Millisecond, -1}, {110, 999 * time.Millisecond, 10}},
		"back, and soon":  {{100, 0, -1}, {1, time.Millisecond, -1}, {11, time.Second, 10}},
		"too late":        {{100, 0, -1}, {200, time.Minute, -1}, {210, time.Second, 10}},
		"clock goes back": {{100, 0, -1}, {110, -time.Hour, -1}, {120, time.Second, 10}},
	} {
		var c counter
		at := start
		for i, s := range steps {
			at = at.Add(s.after)
			got, ok := c.advance(s.value, at)
			if !ok {
				got = -1
			}
			if got != s.want {
				t.Errorf("%s, step %d: got %v, want %v", name, i, got, s.want)
			}
		}
	}
}

// Energy, its limit and its default are of one channel: the card's where its energy is told, else the package's.
func TestPowerChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			files            map[string]string
			energy           string
			watts            float64
			limit, byDefault *float64
		}{
			"card and package": {map[string]string{"energy1_input": "", "energy2_input": "", "power1_max": "190000000", "power2_max": "150000000", "power1_rated_max": "200000000"},
				"energy1_input", 25, ptr(190.0), ptr(200.0)},
			"package alone (DG2 with xe)": {map[string]string{"energy2_input": "", "power1_max": "190000000", "power2_max": "150000000", "power2_rated_max": "160000000"},
				"energy2_input", 25, ptr(150.0), ptr(160.0)},
			"a limit of bursts alone": {map[string]string{"energy1_input": "", "power1_cap": "228000000", "power2_max": "150000000"}, "energy1_input", 25, ptr(228.0), nil},
			"limit switched off":      {map[string]string{"energy1_input": "", "power1_max": "0"}, "energy1_input", 25, nil, nil},
			"limits without energy":   {map[string]string{"power2_max": "150000000"}, "", 0, ptr(150.0), nil},
			"an impossible rise":      {map[string]string{"energy1_input": ""}, "energy1_input", 1e6, nil, nil},
		} {
			m := newMachine(t)
			arc := m.battlemage()
			m.remove(arc + "/hwmon")
			m.files(arc+"/hwmon/hwmon3", c.files)
			m.file(arc+"/hwmon/hwmon3/name", "xe\n")
			count := func(joules float64) {
				for _, channel := range []string{"energy1_input", "energy2_input"} {
					if _, there := c.files[channel]; there {
						value := joules
						if channel != c.energy {
							value = 3 * joules // of the other one nothing may be taken
						}
						m.file(arc+"/hwmon/hwmon3/"+channel, fmt.Sprintf("%.0f\n", value*1e6))
					}
				}
			}
			count(1000)
			r, found := m.reader()
			read(t, r, battlemage)
			time.Sleep(time.Second)
			count(0) // xe could not ask: neither a fall nor, after it, a rise
			read(t, r, battlemage)
			time.Sleep(time.Second)
			count(1000 + 2*c.watts)
			got := read(t, r, battlemage)
			var watts *float64
			if c.watts > 0 && c.watts < 1e6 {
				watts = &c.watts
			}
			if diff := cmp.Diff([]*float64{watts, c.limit, c.byDefault}, []*float64{got.PowerWatts, got.PowerLimitWatts, device(t, found, battlemage).Limits.PowerDefaultWatts}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}
