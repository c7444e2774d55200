package history

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

func TestQueriesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	s := pastOf(t, time.Second, 1, 2, 3)
	for name, q := range map[string]Query{
		"metric":         {ID: "a", Metric: "speed", From: noon, To: noon.Add(1), Points: 1},
		"no points":      {ID: "a", Metric: gpu.MetricPower, From: noon, To: noon.Add(1)},
		"many points":    {ID: "a", Metric: gpu.MetricPower, From: noon, To: noon.Add(1), Points: MaxPoints + 1},
		"no time at all": {ID: "a", Metric: gpu.MetricPower, From: noon, To: noon, Points: 1},
		"backwards":      {ID: "a", Metric: gpu.MetricPower, From: noon.Add(1), To: noon, Points: 1},
	} {
		if got, err := s.Query(q); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, err := s.Query(Query{ID: "b", Metric: gpu.MetricPower, From: noon, To: noon.Add(time.Hour), Points: 1}); !errors.Is(err, ErrUnknown) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown device: %v", err)
	}
}

// Ranges that lie in the future, or wholly before what is kept, have no points; those that reach into it are cut.
func TestRangesBeyondWhatIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir())
		defer r.stop()
		r.feed(time.Minute, second, "a")
		now := time.Now()
		for _, tt := range []struct {
			name     string
			from, to time.Time
			some     bool
		}{
			{"the future", now.Add(time.Hour), now.Add(2 * time.Hour), false},
			{"half of it to come", now.Add(-30 * time.Second), now.Add(time.Hour), true},
			{"all of time", time.Unix(-1<<40, 0), time.Unix(1<<40, 0), true},
			{"long ago", now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0), false},
			{"the first second of time", time.Time{}, time.Time{}.Add(1), false},
		} {
			got, err := r.Query(Query{ID: "a", Metric: gpu.MetricUtilization, From: tt.from, To: tt.to, Points: 100})
			if err != nil || (measured(got) > 0) != tt.some || len(got.Mean) > 100 || got.Step <= 0 || !tt.some && len(got.Mean) != 0 {
				t.Errorf("%s: %+v, %v", tt.name, got, err)
			}
		}
	})
}

// Without a folder the last 10 minutes are all there is.
func TestMemoryAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "", time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		r := &running{Store: s, t: t}
		r.feed(20*time.Minute, second, "a")
		got := r.ask("a", time.Hour, 5000)
		if n := measured(got); got.Resolution != "full" || n < 600 || n > 620 {
			t.Errorf("%s, %d measured", got.Resolution, n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The newest measurement is in the last step, and jitter makes no holes.
func TestFullRateHasNoHoles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "", time.Second)
		r := &running{Store: s, t: t}
		for i := range 100 {
			jitter := time.Duration(i%7-3) * 40 * time.Millisecond
			time.Sleep(500*time.Millisecond + jitter)
			s.Record(machine("a"), shot(time.Now(), busy(float64(i))))
			time.Sleep(500*time.Millisecond - jitter)
		}
		got := r.ask("a", 60*time.Second, 5000)
		if measured(got) != len(got.Mean)-1 && measured(got) != len(got.Mean) || got.Step != time.Second {
			t.Errorf("by %v: %v", got.Step, got.Mean)
		}
	})
}

// However much is recorded at once, the mean is that of all measurements, not that of the rows' means.
func TestMeanIsWeighted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir())
		defer r.stop()
		r.feed(10*time.Second, func(int64) float64 { return 100 }, "a")
		r.feed(2*time.Second, func(int64) float64 { return 40 }, "a")
		time.Sleep(time.Minute)
		if got := r.ask("a", 20*time.Minute, 1); got.Mean[0] != 90 || got.Min[0] != 40 || got.Max[0] != 100 {
			t.Errorf("%+v: want 40, 90, 100", got)
		}
	})
}

func FuzzGrid(f *testing.F) {
	f.Add(int64(0), int64(600), 300, int64(1000), int64(0))
	f.Add(int64(1700000000000), int64(30*86400*1000), 1, int64(60000), int64(17))
	f.Add(int64(-5), int64(1), 5000, int64(100), int64(-3))
	f.Fuzz(func(t *testing.T, from, width int64, points int, resolution, zero int64) {
		const month = 30 * 24 * 3600 * 1000
		if width <= 0 || width > month || points < 1 || points > MaxPoints || resolution < 100 || resolution > 60000 || from > 4e12 || from < -4e12 || zero > 4e12 || zero < -4e12 {
			t.Skip()
		}
		q := Query{From: time.UnixMilli(from), To: time.UnixMilli(from + width), Points: points}
		step := time.Duration(resolution) * time.Millisecond
		g := newGrid(q, step, time.UnixMilli(zero))
		if n := len(g.spans); n < 1 || n > points || g.step%step != 0 || g.start.After(q.From) || g.start.Add(g.step*time.Duration(n)).Before(q.To) {
			t.Fatalf("%+v by %v: %d steps of %v from %v", q, step, n, g.step, g.start)
		}
		g.add(q.From, once(1))
		g.add(q.To.Add(-1), once(2))
		g.add(q.From.Add(-24*365*time.Hour), once(math.Inf(1)))
		g.add(q.To.Add(24*365*time.Hour), once(math.Inf(1)))
		total := span{}
		for _, s := range g.spans {
			total = total.with(s)
		}
		if total.count != 2 || total.max != 2 {
			t.Fatalf("%+v", total)
		}
	})
}

// A question for 30 days of one device, beside reading the same file from beginning to end.
func BenchmarkQuery30Days(b *testing.B) {
	folder := b.TempDir()
	now := time.Now()
	t := tiers[1]
	d := newDisk(folder, slog.New(slog.DiscardHandler))
	ids := make([]string, 64)
	for i := range ids {
		ids[i] = string(rune('A' + i))
		r, err := d.ring(ringKey{ids[i], 1}, true)
		if err != nil {
			b.Fatal(err)
		}
		whole := make([]byte, t.rows*rowSize)
		for slot := t.slot(now) - int64(t.rows) + 1; slot <= t.slot(now); slot++ {
			row := someRow(slot)
			row.encode(whole[r.at(slot)-headerSize:][:rowSize], r.seed)
		}
		if _, err := r.file.WriteAt(whole, headerSize); err != nil {
			b.Fatal(err)
		}
	}
	paths := make([]string, len(ids))
	for i, id := range ids {
		paths[i] = d.path(ringKey{id, 1})
	}
	d.closeAll()
	s := open(b, folder, time.Second)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	b.Run("query", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			got, err := s.Query(Query{ID: ids[i%len(ids)], Metric: gpu.MetricPower, From: now.Add(-30 * 24 * time.Hour), To: now, Points: 1000})
			if err != nil || measured(got) < 900 {
				b.Fatal(err, measured(got))
			}
		}
	})
	b.Run("raw", func(b *testing.B) {
		buffer := make([]byte, chunkRows*rowSize)
		for i := 0; b.Loop(); i++ {
			f, err := os.Open(paths[i%len(paths)])
			if err != nil {
				b.Fatal(err)
			}
			for {
				if _, err := f.Read(buffer); err != nil {
					break
				}
			}
			f.Close()
		}
	})
}

// What a tick costs with 64 devices.
func BenchmarkRecord64(b *testing.B) {
	s := open(b, "", time.Second)
	var ids []string
	var readings []gpu.Reading
	for i := range 64 {
		ids = append(ids, string(rune('A'+i)))
		readings = append(readings, gpu.Reading{UtilizationPercent: ptr(1.0), PowerWatts: ptr(2.0), MemoryUsedBytes: ptr(uint64(5)), MemoryTotalBytes: ptr(uint64(9))})
	}
	inventory := machine(ids...)
	for i := 0; b.Loop(); i++ {
		s.Record(inventory, shot(noon.Add(time.Duration(i)*time.Second), readings...))
	}
}
