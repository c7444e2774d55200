package process

import "time"

// Backoff gives the pauses between tries: First, doubling up to Longest. The zero value pauses 1 s, 2 s, 4 s … 30 s. Its owner
// alone may use it.
type Backoff struct {
	First, Longest time.Duration
	tries          int
}

// Next gives the pause before the next try.
func (b *Backoff) Next() time.Duration {
	first, longest := b.First, b.Longest
	if first <= 0 {
		first = time.Second
	}
	if longest <= 0 {
		longest = 30 * time.Second
	}
	pause := first
	for range b.tries {
		if pause >= longest/2 {
			pause = longest
			break
		}
		pause *= 2
	}
	b.tries++
	return min(pause, longest)
}

// Reset begins again with First, after a success.
func (b *Backoff) Reset() { b.tries = 0 }

// Breaker stops a crash loop: after Failures failures within Window it is open, and lets one try through after each Rest. The
// zero value opens at 3 failures in 2 minutes and rests 1 minute, doubling up to 16 with each failed try. Its owner alone may
// use it.
type Breaker struct {
	Failures              int
	Window, Rest, Longest time.Duration // Longest bounds the doubling of Rest; 0 is 16 × Rest

	failed []time.Time // within Window
	opened int         // consecutive times; 0 is closed
	until  time.Time   // of the current rest
}

func (b *Breaker) rest() time.Duration {
	if b.Rest > 0 {
		return b.Rest
	}
	return time.Minute
}

// Fail counts a failure.
func (b *Breaker) Fail(now time.Time) {
	limit, window := b.Failures, b.Window
	if limit <= 0 {
		limit = 3
	}
	if window <= 0 {
		window = 2 * time.Minute
	}
	kept := b.failed[:0]
	for _, t := range b.failed {
		if now.Sub(t) < window {
			kept = append(kept, t)
		}
	}
	b.failed = append(kept, now)
	if b.opened > 0 || len(b.failed) >= limit {
		b.Trip(now)
	}
}

// Trip opens it at once, for a failure that trying again can't mend.
func (b *Breaker) Trip(now time.Time) {
	rest := b.rest() << min(b.opened, 4)
	if b.Longest > 0 {
		rest = min(rest, b.Longest)
	}
	b.until = now.Add(rest)
	b.opened++
	b.failed = b.failed[:0]
}

// Succeed closes it.
func (b *Breaker) Succeed() { b.opened, b.until, b.failed = 0, time.Time{}, b.failed[:0] }

// Open says how long no try may be made; 0 lets one through.
func (b *Breaker) Open(now time.Time) time.Duration { return max(0, b.until.Sub(now)) }
