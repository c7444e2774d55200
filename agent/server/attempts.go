package server

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// attempts slows down who guesses. Right credentials are never delayed, and nobody is banned: an attacker and the user may share
// an address, 127.0.0.1 above all.
type attempts struct {
	mu     sync.Mutex
	byIP   map[string]*failures
	asleep int // answers that are being delayed now
}

type failures struct {
	count int
	last  time.Time
}

// The n-th failure of an address within attemptMemory of the one before is answered after firstDelay·2ⁿ⁻¹, at most maxDelay; from
// the maxAttempts-th on, and when maxAsleep answers wait already, it is answered at once, by 429.
const (
	attemptMemory = time.Minute
	firstDelay    = 100 * time.Millisecond
	maxDelay      = 5 * time.Second
	maxAttempts   = 10
	maxAsleep     = 64
	maxAddresses  = 4096
)

// fail counts a failure, waits, and gives the refusal to answer with.
func (a *attempts) fail(r *http.Request, message string) error {
	delay, often := a.count(r.RemoteAddr)
	if often {
		return &refusal{status: http.StatusTooManyRequests, code: "too_many_attempts", message: "too many wrong attempts: wait a minute", retry: attemptMemory}
	}
	defer a.woken()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	return unauthorized(message)
}

func (a *attempts) count(remote string) (delay time.Duration, often bool) {
	ip, _, err := net.SplitHostPort(remote)
	if err != nil {
		ip = remote
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.byIP == nil || len(a.byIP) >= maxAddresses {
		a.forget(now)
	}
	f := a.byIP[ip]
	if f == nil || now.Sub(f.last) > attemptMemory {
		f = &failures{}
		a.byIP[ip] = f
	}
	f.count++
	if f.count > maxAttempts || a.asleep >= maxAsleep {
		return 0, true // not counted as the last: after a minute it is over, however many came
	}
	f.last = now
	a.asleep++
	return min(maxDelay, firstDelay<<(f.count-1)), false
}

// forget drops addresses that failed long ago; all, when that is not enough.
func (a *attempts) forget(now time.Time) {
	kept := map[string]*failures{}
	for ip, f := range a.byIP {
		if now.Sub(f.last) <= attemptMemory {
			kept[ip] = f
		}
	}
	if len(kept) >= maxAddresses {
		kept = map[string]*failures{}
	}
	a.byIP = kept
}

func (a *attempts) woken() {
	a.mu.Lock()
	a.asleep--
	a.mu.Unlock()
}
