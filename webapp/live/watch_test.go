package live

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/webapp/state"
)

func TestWatchSaysStaleThenDrops(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		period      time.Duration
		stale, dead time.Duration // silence after which it says so, to the second
	}{
		{"fast frames", 100 * time.Millisecond, 4 * time.Second, 16 * time.Second},
		{"a frame every 5 s", 5 * time.Second, 21 * time.Second, 51 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var stale, dead time.Duration
				w := newWatch(func(s state.Link) {
					if s == state.Stale && stale == 0 {
						stale = time.Since(begin)
					}
				}, func() { dead = time.Since(begin) })
				w.every(test.period)
				w.run(context.Background()) // it returns when it has dropped the connection
				if stale != test.stale || dead != test.dead {
					t.Errorf("stale after %s, dropped after %s; want %s, %s", stale, dead, test.stale, test.dead)
				}
			})
		})
	}
}

func TestWatchIsQuietWhileFramesCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(context.Background(), time.Hour)
		defer stop()
		w := newWatch(func(s state.Link) { t.Errorf("reported %s", s) }, func() { t.Error("dropped") })
		w.every(time.Second)
		var frames sync.WaitGroup
		frames.Go(func() {
			for ctx.Err() == nil {
				w.frame()
				time.Sleep(time.Second)
			}
		})
		w.run(ctx)
		frames.Wait()
	})
}
