package scheduler

import (
	"fmt"
	"testing"
	"time"
)

func TestWhatAClientHadIsForgotten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	u := usage{}
	u.add("a", 60, now)
	u.add("a", 40, now)
	for after, want := range map[time.Duration]float64{0: 100, usageHalfLife: 50, 2 * usageHalfLife: 25, -time.Hour: 100} {
		if got := u.of("a", now.Add(after)); !near(got, want) {
			t.Errorf("after %s it had %.1f s: want %.1f", after, got, want)
		}
	}
	if got := u.of("a", now.Add(time.Hour)); got > 0.1 {
		t.Errorf("after an hour it had %.1f s", got)
	}
	for i := range 2 * usageKept {
		u.add(fmt.Sprint(i), 1, now)
	}
	if got := u.of("a", now); len(u) > usageKept || got != 100 {
		t.Errorf("%d clients are kept, and %.0f s of who had most", len(u), got)
	}
}
