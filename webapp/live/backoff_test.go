package live

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		failures int
		random   float64
		want     time.Duration
	}{
		{0, 1, firstWait}, {1, 1, firstWait}, {1, 0, firstWait / 2}, {2, 1, 2 * firstWait}, {4, 0.5, 1500 * time.Millisecond},
		{7, 1, maxWait}, {7, 0, maxWait / 2}, {1_000_000, 1, maxWait},
	} {
		if got := backoff(test.failures, test.random); got != test.want {
			t.Errorf("backoff(%d, %g) = %s, want %s", test.failures, test.random, got, test.want)
		}
	}
}
