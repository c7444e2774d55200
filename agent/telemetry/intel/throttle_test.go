package intel

import (
	"testing"

	"muster/shared/gpu"
)

func TestParseThrottle(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]gpu.Throttle{
		"none\n": 0, "pl1 pl2\n": gpu.ThrottlePower, "soc_thermal prochot\n\x00": gpu.ThrottleThermal | gpu.ThrottleHardware,
		"iccmax": gpu.ThrottleCurrent, "p0_freq": gpu.ThrottleOther, "something-new pl4": gpu.ThrottleOther | gpu.ThrottleCurrent,
	} {
		if got, ok := parseThrottle([]byte(text)); got != want || !ok {
			t.Errorf("%q: got %v, %v, want %v", text, got.Reasons(), ok, want.Reasons())
		}
	}
	for _, text := range []string{"", "\n", "\x00none"} {
		if got, ok := parseThrottle([]byte(text)); ok {
			t.Errorf("%q: got %v", text, got.Reasons())
		}
	}
}

func FuzzParseThrottle(f *testing.F) {
	f.Add([]byte("pl1 thermal\n"))
	f.Add([]byte("none\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := parseThrottle(b)
		if !ok && got != 0 || got&(gpu.ThrottleIdle|gpu.ThrottleSync|gpu.ThrottleUser) != 0 {
			t.Errorf("%q: got %v, %v", b, got.Reasons(), ok)
		}
	})
}

// Newer kernels tell all reasons in one file, others by a file each.
func TestThrottle(t *testing.T) {
	t.Parallel()
	const dir = "tile0/gt0/freq0/throttle/"
	for name, c := range map[string]struct {
		files map[string]string
		want  *gpu.Throttle
	}{
		"none":                  {map[string]string{}, ptr(gpu.Throttle(0))},
		"one":                   {map[string]string{"status": "1\n", "reason_pl1": "1\n"}, ptr(gpu.ThrottlePower)},
		"a bit mask":            {map[string]string{"status": "2048\n", "reason_thermal": "2\n"}, ptr(gpu.ThrottleThermal)},
		"of no name":            {map[string]string{"status": "1\n"}, ptr(gpu.ThrottleOther)},
		"one file for all":      {map[string]string{"reasons": "pl1 thermal\n"}, ptr(gpu.ThrottlePower | gpu.ThrottleThermal)},
		"that file is empty":    {map[string]string{"reasons": "", "status": "1\n", "reason_thermal": "1\n"}, ptr(gpu.ThrottleThermal)},
		"no status can be read": {map[string]string{"status": "\n"}, nil},
	} {
		m := newMachine(t)
		arc := m.battlemage()
		m.files(arc+"/"+dir, c.files)
		r, _ := m.reader()
		if got := read(t, r, battlemage).Throttle; (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
