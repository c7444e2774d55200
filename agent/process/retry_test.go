package process

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffDoublesUpToItsLongest(t *testing.T) {
	t.Parallel()
	var zero Backoff
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got := zero.Next(); got != want*time.Second {
			t.Errorf("pause %d is %s; want %s", i+1, got, want*time.Second)
		}
	}
	zero.Reset()
	if got := zero.Next(); got != time.Second {
		t.Errorf("after a success it pauses %s", got)
	}
	long := Backoff{First: time.Minute, Longest: time.Second}
	if got := long.Next(); got != time.Second {
		t.Errorf("it pauses %s; longer than its longest", got)
	}
	many := Backoff{First: 1, Longest: 1 << 62}
	for range 1000 {
		if many.Next() <= 0 {
			t.Fatal("a pause overflowed")
		}
	}
}

func TestBreakerOpensOnACrashLoopAndLetsOneTryThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b Breaker
		for range 2 {
			b.Fail(time.Now())
			time.Sleep(50 * time.Second)
		}
		if b.Open(time.Now()) != 0 {
			t.Fatal("open after two failures")
		}
		time.Sleep(time.Minute)
		b.Fail(time.Now()) // the first one is long ago
		if b.Open(time.Now()) != 0 {
			t.Fatal("failures outside the window count")
		}
		b.Fail(time.Now())
		if got := b.Open(time.Now()); got != time.Minute {
			t.Fatalf("after a loop it rests %s", got)
		}
		time.Sleep(time.Minute)
		if b.Open(time.Now()) != 0 {
			t.Fatal("no try after the rest")
		}
		b.Fail(time.Now())
		if got := b.Open(time.Now()); got != 2*time.Minute {
			t.Fatalf("one failed try rests %s", got)
		}
		for range 10 {
			b.Trip(time.Now())
		}
		if got := b.Open(time.Now()); got != 16*time.Minute {
			t.Fatalf("it rests %s at most", got)
		}
		b.Succeed()
		b.Fail(time.Now())
		if b.Open(time.Now()) != 0 {
			t.Fatal("a success did not close it")
		}
		b.Longest = 90 * time.Second
		for range 10 {
			b.Trip(time.Now())
		}
		if got := b.Open(time.Now()); got != b.Longest {
			t.Fatalf("it rests %s: want the longest that it may", got)
		}
	})
}
