package server

import (
	"sync"
	"time"
)

// bucket is a token bucket: most at once, and one more each interval. The zero bucket is full. It has no lock.
type bucket struct {
	spent float64 // tokens missing at last
	last  time.Time
}

// take takes one token; when there is none it gives the time until there is.
func (b *bucket) take(now time.Time, most int, interval time.Duration) (wait time.Duration) {
	if elapsed := now.Sub(b.last); elapsed > 0 {
		b.spent = max(0, b.spent-elapsed.Seconds()/interval.Seconds())
	}
	b.last = now
	if over := b.spent + 1 - float64(most); over > 0 {
		return time.Duration(over * float64(interval))
	}
	b.spent++
	return 0
}

// buckets are token buckets by key. They are bounded: full ones are forgotten.
type buckets[K comparable] struct {
	most     int
	interval time.Duration

	mu    sync.Mutex
	byKey map[K]*bucket
}

// maxBuckets is how many keys are remembered before full buckets are looked for.
const maxBuckets = 1024

// take takes one token of a key; see bucket.take.
func (b *buckets[K]) take(key K) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.byKey == nil {
		b.byKey = map[K]*bucket{}
	}
	if len(b.byKey) >= maxBuckets {
		for k, old := range b.byKey {
			if now.Sub(old.last) > time.Duration(b.most)*b.interval {
				delete(b.byKey, k)
			}
		}
	}
	if b.byKey[key] == nil {
		b.byKey[key] = &bucket{last: now}
	}
	return b.byKey[key].take(now, b.most, b.interval)
}
