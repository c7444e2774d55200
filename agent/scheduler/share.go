package scheduler

import (
	"math"
	"time"
)

// usage is what clients had of the machine lately, in seconds of the whole of it, so that those who had much come after those who
// had little.
type usage map[string]spent

type spent struct {
	seconds float64
	at      time.Time
}

const (
	usageHalfLife = 5 * time.Minute
	usageKept     = 1000 // clients; beyond, those with least are forgotten
)

func (u usage) add(client string, seconds float64, now time.Time) {
	u[client] = spent{u.of(client, now) + seconds, now}
	if len(u) <= usageKept {
		return
	}
	least, amount := "", math.Inf(1)
	for name := range u {
		if v := u.of(name, now); v < amount {
			least, amount = name, v
		}
	}
	delete(u, least)
}

func (u usage) of(client string, now time.Time) float64 {
	s, ok := u[client]
	if !ok {
		return 0
	}
	return s.seconds * math.Exp2(-float64(max(0, now.Sub(s.at)))/float64(usageHalfLife))
}
