package history

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

// journal is a log that a test can read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

// running is a store whose Run runs.
type running struct {
	*Store
	t       *testing.T
	journal *journal
	stop    func() // ends Run and waits for it
}

func start(t *testing.T, folder string, change ...func(*disk)) *running {
	t.Helper()
	j := &journal{}
	s, err := Open(folder, time.Second, slog.New(slog.NewTextHandler(j, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(s.disk)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	return &running{Store: s, t: t, journal: j, stop: func() { cancel(); <-done }}
}

// feed records a snapshot a second for that long; value gives the utilisation by second since 1970.
func (r *running) feed(long time.Duration, value func(second int64) float64, ids ...string) {
	for range int(long / time.Second) {
		now := time.Now()
		readings := make([]gpu.Reading, len(ids))
		for i := range readings {
			readings[i] = busy(value(now.Unix()))
		}
		r.Record(machine(ids...), shot(now, readings...))
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

func (r *running) ask(id string, back time.Duration, points int) Series {
	r.t.Helper()
	now := time.Now()
	got, err := r.Query(Query{ID: id, Metric: gpu.MetricUtilization, From: now.Add(-back), To: now, Points: points})
	if err != nil {
		r.t.Fatalf("query of the last %v: %v", back, err)
	}
	return got
}

// measured counts the points that hold something.
func measured(s Series) int {
	n := 0
	for _, v := range s.Mean {
		if !math.IsNaN(v) {
			n++
		}
	}
	return n
}

func second(s int64) float64 { return float64(s % 60) }

func TestTiers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir())
		defer r.stop()
		r.feed(2*time.Hour, second, "a")
		// The bubble's time begins at a full minute.
		for _, tt := range []struct {
			back       time.Duration
			points     int
			resolution string
			step       time.Duration
			measured   int
		}{
			{time.Minute, 60, "full", 2 * time.Second, 31}, // 61 s in 59 steps would not be whole seconds
			{10 * time.Minute, 300, "full", 3 * time.Second, 201},
			{10 * time.Minute, 5000, "full", time.Second, 600},
			{11 * time.Minute, 300, "10s", 10 * time.Second, 66},
			{2 * time.Hour, 100, "10s", 80 * time.Second, 90},
			{20 * time.Hour, 5000, "10s", 20 * time.Second, 360},
			{25 * time.Hour, 5000, "1m", time.Minute, 120},
			{29 * 24 * time.Hour, 30, "1m", 24 * time.Hour, 1},
			{100 * 24 * time.Hour, 1, "1m", 30 * 24 * time.Hour, 1},
		} {
			got := r.ask("a", tt.back, tt.points)
			if n := measured(got); got.Resolution != tt.resolution || got.Step != tt.step || n < tt.measured-1 || n > tt.measured || len(got.Mean) > tt.points {
				t.Errorf("%v in %d points: %s by %v, %d of %d measured; want %s by %v, %d", tt.back, tt.points, got.Resolution, got.Step, n, len(got.Mean), tt.resolution, tt.step, tt.measured)
			}
		}
		minutes := r.ask("a", 25*time.Hour, 5000)
		last := len(minutes.Mean) - 2 // the last whole one
		if minutes.Min[last] != 0 || minutes.Max[last] != 59 || minutes.Mean[last] != 29.5 {
			t.Errorf("a minute is %v, %v, %v: want 0, 29.5, 59", minutes.Min[last], minutes.Mean[last], minutes.Max[last])
		}
		if whole := r.ask("a", 100*24*time.Hour, 1); whole.Mean[0] != 29.5 || whole.Max[0] != 59 {
			t.Errorf("all is %v, %v", whole.Mean[0], whole.Max[0])
		}
	})
}

// Each metric comes back from disk as it went in.
func TestMetricsOnDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir())
		defer r.stop()
		for range 30 {
			r.Record(machine("a"), shot(time.Now(), gpu.Reading{
				UtilizationPercent: ptr(97.3), MemoryUsedBytes: ptr(uint64(4 << 30)), MemoryTotalBytes: ptr(uint64(16 << 30)), PowerWatts: ptr(219.87),
				Temperatures: []gpu.Temperature{{Sensor: gpu.SensorJunction, Celsius: 80}, {Sensor: gpu.SensorEdge, Celsius: 61.5}}, CoreClockMHz: ptr(1500.0), MemoryClockMHz: ptr(945.0),
			}))
			time.Sleep(time.Second)
		}
		for metric, want := range map[gpu.Metric]float64{
			gpu.MetricUtilization: 97.3, gpu.MetricMemory: 4 << 30, gpu.MetricMemoryPercent: 25, gpu.MetricTemperature: 61.5,
			gpu.MetricPower: 219.87, gpu.MetricCoreClock: 1500, gpu.MetricMemoryClock: 945,
		} {
			for _, back := range []time.Duration{5 * time.Second, 20 * time.Minute, 26 * time.Hour} {
				got, err := r.Query(Query{ID: "a", Metric: metric, From: time.Now().Add(-back), To: time.Now(), Points: 1})
				if err != nil || got.Min[0] != want || got.Mean[0] != want || got.Max[0] != want {
					t.Errorf("%s over %v: %+v, %v; want %v", metric, back, got, err, want)
				}
			}
		}
	})
}

// A minute that an end of the agent divides counts as one: nothing of it is lost or counted twice.
func TestRestartWithinAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		r := start(t, folder)
		r.feed(15*time.Second, func(int64) float64 { return 10 }, "a")
		r.stop()
		r = start(t, folder)
		defer r.stop()
		r.feed(45*time.Second, func(int64) float64 { return 50 }, "a")
		r.feed(30*time.Second, func(int64) float64 { return 90 }, "a")
		got := r.ask("a", 25*time.Hour, 5000)
		first := len(got.Mean) - 2
		if got.Min[first] != 10 || got.Mean[first] != 40 || got.Max[first] != 50 || got.Mean[first+1] != 90 {
			t.Errorf("%v %v %v, then %v: want 10 40 50, then 90", got.Min[first], got.Mean[first], got.Max[first], got.Mean[first+1])
		}
	})
}

// After kill -9 all but the rows that were not complete is there.
func TestKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		killed := start(t, folder)
		killed.feed(3*time.Minute+25*time.Second, second, "a")
		r := start(t, folder) // and the other one never ends what it began
		if n := measured(r.ask("a", 25*time.Hour, 5000)); n != 3 {
			t.Errorf("%d minutes are left: want 3", n)
		}
		if n := measured(r.ask("a", 20*time.Minute, 5000)); n != 20 {
			t.Errorf("%d rows of 10 s are left: want 20", n)
		}
		r.stop()
		killed.stop()
	})
}

// Rows that were written while the clock was wrong are never shown for another time, and cost nothing that is right.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir())
		defer r.stop()
		at := time.Now()
		run := func(shift time.Duration, seconds int, value float64) {
			for range seconds {
				r.Record(machine("a"), shot(time.Now().Add(shift).Round(0), busy(value)))
				time.Sleep(time.Second)
			}
		}
		run(0, 120, 10)
		run(365*24*time.Hour, 120, 20) // forward by a year
		run(0, 120, 30)
		run(-3*time.Minute, 60, 50) // back over what is there
		run(0, 60, 60)
		synctest.Wait()
		got, err := r.Query(Query{ID: "a", Metric: gpu.MetricUtilization, From: at.Add(-25 * time.Hour), To: time.Now(), Points: 5000})
		if err != nil {
			t.Fatal(err)
		}
		n := len(got.Mean)
		// By minutes: 10, 10, none, 20 was another year's, 30 with 50 over it, 30, none, 60.
		var minutes []float64
		for _, v := range got.Mean[n-8:] {
			minutes = append(minutes, v)
		}
		seen := map[float64]bool{}
		for i, v := range minutes {
			if v == 20 || !math.IsNaN(v) && (got.Min[n-8+i] < 10 || got.Max[n-8+i] > 60) {
				t.Errorf("minute %d shows %v", i, v)
			}
			seen[v] = true
		}
		if !seen[10] || !seen[30] || !seen[60] {
			t.Errorf("minutes are %v", minutes)
		}
	})
}

func TestStrangeIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		ids := []string{"../../etc/passwd", "/", ".", "a\x00b", "GPU-1", "GPU-1 ", "\xff\xfe", "ü" + strings.Repeat("x", 10000), "*.10s", "con"}
		r := start(t, folder)
		r.feed(61*time.Second, second, ids...)
		r.stop()
		entries, err := os.ReadDir(folder)
		if err != nil || len(entries) != len(ids)*len(tiers) {
			t.Errorf("%d files, %v: want %d", len(entries), err, len(ids)*len(tiers))
		}
		for _, e := range entries {
			if !ringName.MatchString(e.Name()) {
				t.Errorf("a file is named %q", e.Name())
			}
		}
		again := start(t, folder)
		defer again.stop()
		for _, id := range ids {
			if n := measured(again.ask(id, 30*time.Minute, 500)); n == 0 {
				t.Errorf("nothing of %.20q", id)
			}
		}
		if _, err := again.Query(Query{ID: "GPU-2", Metric: gpu.MetricPower, From: time.Now().Add(-time.Hour), To: time.Now(), Points: 9}); !errors.Is(err, ErrUnknown) {
			t.Errorf("a device that never was: %v", err)
		}
	})
}

func TestFilesThatAreNotRings(t *testing.T) {
	t.Parallel()
	edit := func(at int64, b ...byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		spoil  func(t *testing.T, path string)
		anew   int // times that the log tells of it
		fails  int
		stays  bool // what was recorded before is still there
		mended bool // what comes is recorded
	}{
		{"untouched", func(*testing.T, string) {}, 0, 0, true, true},
		{"missing", func(t *testing.T, path string) { os.Remove(path) }, 0, 0, false, true},
		{"empty", func(t *testing.T, path string) { os.Truncate(path, 0) }, 0, 0, false, true},
		{"short", func(t *testing.T, path string) { os.Truncate(path, 5000) }, 1, 0, false, true},
		{"shorter than its header", func(t *testing.T, path string) { os.Truncate(path, 40) }, 1, 0, false, true},
		{"long", func(t *testing.T, path string) { os.Truncate(path, 10<<20) }, 1, 0, false, true},
		{"magic", edit(0, 'x'), 1, 0, false, true},
		{"another version", edit(8, 9), 1, 0, false, true},
		{"another step", edit(12, 11), 1, 0, false, true},
		{"a header torn by a power cut", edit(300, 1, 2, 3), 1, 0, false, true},
		{"text", func(t *testing.T, path string) { os.WriteFile(path, []byte("hello\n"), 0o600) }, 1, 0, false, true},
		{"a folder", func(t *testing.T, path string) { os.Remove(path); os.Mkdir(path, 0o700) }, 0, 1, false, false},
		{"a FIFO", func(t *testing.T, path string) { os.Remove(path); syscall.Mkfifo(path, 0o600) }, 0, 1, false, false},
		{"a link", func(t *testing.T, path string) { os.Rename(path, path+"x"); os.Symlink(path+"x", path) }, 0, 1, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				folder := t.TempDir()
				r := start(t, folder)
				r.feed(2*time.Minute, second, "a")
				r.stop()
				tt.spoil(t, r.disk.path(ringKey{"a", 1}))
				r = start(t, folder)
				defer r.stop()
				r.feed(3*time.Minute, second, "a")
				if n := r.journal.count("begins anew"); n != tt.anew {
					t.Errorf("told %d times that it begins anew: want %d", n, tt.anew)
				}
				if n := r.journal.count("can't be written"); n != tt.fails {
					t.Errorf("told %d times of faults: want %d", n, tt.fails)
				}
				want := 0
				if tt.stays {
					want += 2
				}
				if tt.mended {
					want += 3
				}
				now := time.Now()
				got, err := r.Query(Query{ID: "a", Metric: gpu.MetricUtilization, From: now.Add(-25 * time.Hour), To: now, Points: 5000})
				if tt.fails > 0 {
					if err == nil {
						t.Error("a question about it was answered")
					}
				} else if n := measured(got); err != nil || n != want {
					t.Errorf("%d minutes, %v: want %d", n, err, want)
				}
				if n := measured(r.ask("a", 20*time.Minute, 5000)); n != 30 {
					t.Errorf("the other tier has %d rows: want 30", n)
				}
			})
		})
	}
}

// A ring of another device, put in this one's place, shows nothing of the other.
func TestForeignRing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		r := start(t, folder)
		r.feed(61*time.Second, second, "a", "b")
		r.stop()
		for i := range tiers {
			b, err := os.ReadFile(r.disk.path(ringKey{"b", i}))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.disk.path(ringKey{"a", i}), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r = start(t, folder)
		defer r.stop()
		if got := r.ask("a", 30*time.Minute, 500); measured(got) != 0 {
			t.Errorf("%v", got.Mean)
		}
	})
}

// sick is a file on a disk that has a fault.
type sick struct {
	file
	fault func() error // runs before each write; may wait
}

func (s sick) WriteAt(b []byte, at int64) (int, error) {
	if err := s.fault(); err != nil {
		return 0, &fs.PathError{Op: "write", Path: "ring", Err: err}
	}
	return s.file.WriteAt(b, at)
}

func onDisk(fault func() error) func(*disk) {
	return func(d *disk) {
		d.open = func(path string, flags int, mode fs.FileMode) (file, error) {
			f, err := openFile(path, flags, mode)
			if err != nil {
				return nil, err
			}
			return sick{f, fault}, nil
		}
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full := false
		r := start(t, t.TempDir(), onDisk(func() error {
			if full {
				return syscall.ENOSPC
			}
			return nil
		}))
		defer r.stop()
		r.feed(2*time.Minute, second, "a", "b")
		full = true
		r.feed(10*time.Minute, second, "a", "b")
		if n := r.journal.count("can't be written"); n != 1 {
			t.Errorf("told %d times: want once", n)
		}
		if n := measured(r.ask("a", 5*time.Minute, 5000)); n != 300 {
			t.Errorf("%d measurements in memory: want 300", n)
		}
		full = false
		r.feed(3*time.Minute, second, "a", "b")
		if n := r.journal.count("is written again"); n != 1 {
			t.Errorf("told %d times that it is over: want once", n)
		}
		if n := measured(r.ask("a", 25*time.Hour, 5000)); n != 5 {
			t.Errorf("%d minutes: want 2 before and 3 after", n)
		}
	})
}

// Files that a full disk had no room for are not damaged ones.
func TestDiskThatIsFullAtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full := true
		r := start(t, t.TempDir(), onDisk(func() error {
			if full {
				return syscall.ENOSPC
			}
			return nil
		}))
		defer r.stop()
		r.feed(2*time.Minute, second, "a", "b")
		full = false
		r.feed(3*time.Minute, second, "a", "b")
		if n := r.journal.count("begins anew"); n != 0 {
			t.Errorf("%d files were taken for damaged ones", n)
		}
		if n := measured(r.ask("a", 25*time.Hour, 5000)); n != 4 {
			t.Errorf("%d minutes: want the 3, and the one before that was complete then", n)
		}
	})
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, filepath.Join(t.TempDir(), "history"), func(d *disk) {
			d.open = func(path string, flags int, _ fs.FileMode) (file, error) {
				if flags&os.O_CREATE == 0 {
					return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
				}
				return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EROFS}
			}
		})
		defer r.stop()
		r.feed(5*time.Minute, second, "a", "b")
		if n := r.journal.count("read-only file system"); n != 1 {
			t.Errorf("told %d times: want once", n)
		}
		if n := measured(r.ask("a", 4*time.Minute, 5000)); n != 240 {
			t.Errorf("%d measurements in memory: want 240", n)
		}
		if got := r.ask("a", time.Hour, 60); measured(got) != 1 {
			t.Errorf("the open row alone is known: %v", got.Mean)
		}
	})
}

// A folder that can't be made is no reason not to start.
func TestFolderThatIsAFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := start(t, path)
		defer r.stop()
		r.feed(3*time.Minute, second, "a")
		if n := r.journal.count("can't be written"); n != 1 {
			t.Errorf("told %d times: want once", n)
		}
		if n := measured(r.ask("a", recentWindow, 5000)); n != 180 {
			t.Errorf("%d measurements of the last 10 minutes: want 180, those since the start", n)
		}
	})
}

// A disk that hangs costs neither the snapshots nor who asks: rows are dropped, and that is told once.
func TestHangingDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var hang chan struct{}
		var mu sync.Mutex
		r := start(t, t.TempDir(), onDisk(func() error {
			mu.Lock()
			wait := hang
			mu.Unlock()
			if wait != nil {
				<-wait
			}
			return nil
		}))
		r.feed(2*time.Minute, second, "a")
		mu.Lock()
		hang = make(chan struct{})
		mu.Unlock()
		before := time.Now()
		r.feed(30*time.Minute, second, "a")
		if took := time.Since(before); took != 30*time.Minute {
			t.Errorf("recording took %v", took-30*time.Minute)
		}
		if n := r.journal.count("does not answer"); n != 1 {
			t.Errorf("told %d times: want once", n)
		}
		before = time.Now()
		_, err := r.Query(Query{ID: "a", Metric: gpu.MetricUtilization, From: before.Add(-time.Hour), To: before, Points: 9})
		if !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) || time.Since(before) > answerWithin {
			t.Errorf("%v after %v", err, time.Since(before))
		}
		if n := measured(r.ask("a", 5*time.Minute, 5000)); n != 300 {
			t.Errorf("%d measurements in memory: want 300", n)
		}
		mu.Lock()
		close(hang)
		hang = nil
		mu.Unlock()
		r.feed(2*time.Minute, second, "a")
		if n := r.journal.count("history has a gap"); n != 1 {
			t.Errorf("told %d times that there is a gap: want once", n)
		}
		if n := measured(r.ask("a", 25*time.Hour, 5000)); n < 2+8+2 || n > 2+12+2 {
			t.Errorf("%d minutes: want those before and after, and what the queue held", n)
		}
		r.stop()
	})
}

// The agent's end does not wait for a disk that never answers.
func TestStopWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		r := start(t, t.TempDir(), onDisk(func() error { <-hang; return nil }))
		r.feed(time.Minute, second, "a")
		before := time.Now()
		r.stop()
		if took := time.Since(before); took != stopGrace {
			t.Errorf("took %v: want %v", took, stopGrace)
		}
		if n := r.journal.count("newest history is lost"); n != 1 {
			t.Errorf("told %d times", n)
		}
		if _, err := r.Query(Query{ID: "a", Metric: gpu.MetricPower, From: time.Now().Add(-time.Hour), To: time.Now(), Points: 9}); !errors.Is(err, ErrBusy) {
			t.Errorf("a question after the end: %v", err)
		}
		close(hang)
	})
}

// Somebody removes the folder while it is written.
func TestFolderIsRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "history")
		r := start(t, folder)
		r.feed(2*time.Minute, second, "a")
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		r.feed(syncEvery+2*time.Minute, second, "a")
		r.stop()
		if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
			t.Errorf("%d files, %v: want new ones", len(entries), err)
		}
	})
}

func TestDevicesThatAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		old := func(id string, age time.Duration) {
			for i, tr := range tiers {
				path := filepath.Join(folder, nameOf(id)+"."+tr.name)
				r, _, err := openRing(openFile, path, id, tiers[i], true)
				if err != nil {
					t.Fatal(err)
				}
				r.file.Close()
				at := time.Now().Add(-age)
				if err := os.Chtimes(path, at, at); err != nil {
					t.Fatal(err)
				}
			}
		}
		old("gone long ago", 31*24*time.Hour)
		old("gone", 28*24*time.Hour)
		if err := os.WriteFile(filepath.Join(folder, "README"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := start(t, folder)
		defer r.stop()
		time.Sleep(sweepAfter + time.Second)
		synctest.Wait()
		left := func() int {
			entries, err := os.ReadDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			return len(entries)
		}
		if n := left(); n != 3 {
			t.Errorf("%d files are left: want those of the one that may come back, and what is not ours", n)
		}
		time.Sleep(3 * sweepEvery)
		synctest.Wait()
		if n := left(); n != 1 {
			t.Errorf("%d files are left: want what is not ours", n)
		}
	})
}

func TestFilesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		d := newDisk(folder, slog.New(slog.DiscardHandler))
		for i := range MaxDevices {
			key := ringKey{string(rune('A' + i)), 0}
			if _, err := d.ring(key, true); err != nil {
				t.Fatal(err)
			}
			at := time.Now().Add(time.Duration(i) * time.Second)
			if err := os.Chtimes(d.path(key), at, at); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.ring(ringKey{"one more", 0}, true); err == nil {
			t.Error("one more device than fits was taken, though all others are in use")
		}
		if _, err := d.ring(ringKey{"A", 1}, true); err != nil {
			t.Errorf("the other file of a known device: %v", err)
		}
		d.closeAll()
		if _, err := d.ring(ringKey{"one more", 0}, true); err != nil {
			t.Errorf("the oldest did not make place: %v", err)
		}
		// A's other file was just made, so B was written longest ago.
		if _, err := d.ring(ringKey{"B", 0}, false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the oldest is still there: %v", err)
		}
		d.closeAll()
	})
}

// 5 MB for each device, whatever it does.
func TestBudget(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := newDisk(folder, slog.New(slog.DiscardHandler))
	for i, tr := range tiers {
		for slot := range int64(tr.rows) + 1000 { // more than a lap
			if err := d.write(line{"a", i, someRow(170000000 + slot)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	d.closeAll()
	var size, blocks int64
	for i := range tiers {
		info, err := os.Stat(d.path(ringKey{"a", i}))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
		blocks += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	t.Logf("%d bytes, %d on disk", size, blocks)
	const budget = 5_000_000
	if size > budget || blocks > budget {
		t.Errorf("%d bytes, %d on disk: want at most %d", size, blocks, budget)
	}
}

// A row that a power cut tore is a gap of its own length, and the next one that is written there heals it.
func TestTornRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		r := start(t, folder)
		r.feed(3*time.Minute, second, "a")
		minutes := tiers[1]
		middle := minutes.slot(time.Now().Add(-90 * time.Second))
		ring, _, err := openRing(openFile, r.disk.path(ringKey{"a", 1}), "a", minutes, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.file.WriteAt(bytes.Repeat([]byte{0xa5}, 40), ring.at(middle)+30); err != nil {
			t.Fatal(err)
		}
		if n := measured(r.ask("a", 25*time.Hour, 5000)); n != 2 {
			t.Errorf("%d minutes: want those beside the torn one", n)
		}
		healed := someRow(middle)
		if err := ring.write(healed); err != nil {
			t.Fatal(err)
		}
		if err := ring.file.Close(); err != nil {
			t.Fatal(err)
		}
		if n := measured(r.ask("a", 25*time.Hour, 5000)); n != 3 {
			t.Errorf("%d minutes: want all", n)
		}
		r.stop()
	})
}
