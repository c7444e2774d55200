package live

import "time"

// Bounds of the wait before the next attempt.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 15 * time.Second
)

// backoff gives how long to wait after that many failures in a row: doubling from firstWait to maxWait, of which random (0 to
// 1) decides the upper half, so that a thousand pages do not come back at once. It never says to give up.
func backoff(failures int, random float64) time.Duration {
	wait := maxWait
	if failures < 7 {
		wait = min(maxWait, firstWait<<max(0, failures-1))
	}
	return wait/2 + time.Duration(random*float64(wait/2))
}
