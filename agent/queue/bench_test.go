package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/shared/job"
)

// Each figure stands beside the raw cost of the same disk in the same run: 4 KiB appended and fdatasync.
func BenchmarkSubmit(b *testing.B) {
	b.Run("raw_fdatasync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		page := make([]byte, 4096)
		measure(b, 1, func() error {
			if _, err := f.Write(page); err != nil {
				return err
			}
			return unix.Fdatasync(int(f.Fd()))
		})
	})
	for _, clients := range []int{1, 32} {
		b.Run(fmt.Sprintf("clients_%d", clients), func(b *testing.B) {
			q, _ := running(b, b.TempDir(), Options{MaxQueued: 1 << 30})
			before := q.writer.commits.Load()
			measure(b, clients, func() error {
				_, _, err := q.Submit(b.Context(), "", spec(1), spec(1))
				return err
			})
			b.ReportMetric(float64(b.N)/float64(q.writer.commits.Load()-before), "jobs/commit")
		})
	}
}

// measure runs do b.N times from that many goroutines.
func measure(b *testing.B, clients int, do func() error) {
	b.Helper()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range clients {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				began := time.Now()
				if err := do(); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
}

// BenchmarkRestart opens a folder with 100,000 jobs that have ended, some that wait and some that were running at a crash.
func BenchmarkRestart(b *testing.B) {
	for _, queued := range []int{16, DefaultMaxQueued} {
		b.Run(fmt.Sprintf("history_100000_queued_%d", queued), func(b *testing.B) {
			crashed := history(b, 100_000, queued)
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				copyFiles(b, crashed, dir)
				b.StartTimer()
				q, err := Open(b.Context(), dir, spacious(Options{}))
				if err != nil {
					b.Fatal(err)
				}
				if n := len(q.Active()); n != queued {
					b.Fatalf("%d active jobs", n)
				}
				b.StopTimer()
				q.release()
				os.RemoveAll(dir)
				b.StartTimer()
			}
		})
	}
}

// history gives a folder as a crash leaves it, with a full log. The jobs are written in large transactions to save time.
func history(b *testing.B, terminal, queued int) (crashed string) {
	b.Helper()
	dir := b.TempDir()
	q, err := Open(b.Context(), dir, spacious(Options{MaxQueued: 1 << 30}))
	if err != nil {
		b.Fatal(err)
	}
	defer q.release()
	for n := 0; n < terminal+queued; n += 1000 {
		err := q.writer.transaction(func(t *batch) error {
			t.q = q
			for i := n; i < min(n+1000, terminal+queued); i += 4 {
				jobs, _, err := t.submit(asCommand(b, "", job.Spec{Prompt: fmt.Sprintf("job %d, a lighthouse in a storm at dusk", i), Model: "sketch", Count: 4}.WithDefaults()))
				if err != nil {
					return err
				}
				for k := range jobs {
					if i+k < terminal {
						t.update(jobs[k], ended(t, jobs[k], job.Cancelled), "")
					}
				}
			}
			return t.failed
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	crashed = b.TempDir()
	copyFiles(b, dir, crashed)
	return crashed
}

func copyFiles(b *testing.B, from, to string) {
	b.Helper()
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkActive is what the scheduler pays on every event, with a full queue: an image got on, or one ended.
func BenchmarkActive(b *testing.B) {
	q, _ := running(b, b.TempDir(), Options{})
	for range DefaultMaxQueued / job.MaxCount {
		submit(b, q, job.MaxCount)
	}
	runs := start(b, q, q.Active()[17])
	for _, durable := range []bool{false, true} {
		b.Run(fmt.Sprintf("durable_change_%v", durable), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				q.Progress(runs.ID, runs.Attempt, job.Progress{Step: n})
				if durable {
					q.mirror.apply(committed{jobs: []job.Job{runs}})
				}
				q.Active()
			}
		})
	}
}
