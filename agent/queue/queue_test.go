package queue

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

// running opens a queue and runs it until the test ends or stop is called.
func running(t testing.TB, dir string, o Options) (q *Queue, stop func()) {
	t.Helper()
	o = spacious(o)
	q, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("Run:", err)
		}
	})
	t.Cleanup(stop)
	return q, stop
}

// spacious makes tests independent of the disk of the machine.
func spacious(o Options) Options {
	if o.Free == nil {
		o.Free = func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil }
	}
	return o
}

func spec(count int) job.Spec {
	return job.Spec{Prompt: "a lighthouse", Model: "sketch", Count: count}.WithDefaults()
}

func asCommand(t testing.TB, key string, s job.Spec) command {
	t.Helper()
	c, err := newCommand(key, s, s)
	check(t, err)
	return c
}

func submit(t testing.TB, q *Queue, count int) []job.Job {
	t.Helper()
	jobs, created, err := q.Submit(t.Context(), "", spec(count), spec(count))
	if err != nil || !created || len(jobs) != count {
		t.Fatalf("Submit: %d jobs, created=%v, %v", len(jobs), created, err)
	}
	return jobs
}

func start(t testing.TB, q *Queue, j job.Job) job.Job {
	t.Helper()
	next, err := q.Start(t.Context(), j.ID, j.Attempt, Placement{Device: 2, DeviceKey: "GPU-2", Backend: "builtin", Reason: "idle"})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSubmitKeepsWhatWasAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	pin, seed, guidance := gpu.Ref(3), int64(41), 3.5
	asked := job.Spec{
		Prompt: "a red boat", NegativePrompt: "fog", Model: "sdxl", Sampler: "euler", Width: 640, Height: 384, Steps: 7,
		Guidance: &guidance, Seed: &seed, Count: 3, DeviceID: &pin, DeviceKey: "GPU-3", Priority: -2, ClientID: "phone",
	}
	jobs, _, err := q.Submit(t.Context(), "key", asked, asked)
	if err != nil {
		t.Fatal(err)
	}
	pin, seed, guidance = 9, 9, 9 // the queue must not look at the caller's memory any more
	stop()
	q, _ = running(t, dir, Options{})
	for i, before := range jobs {
		got, err := q.Job(t.Context(), before.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := differ(before, got); diff != "" {
			t.Errorf("job %d changed over a restart: %s", i, diff)
		}
		if got.Seed != 41+int64(i) || got.Ordinal != i || got.SetID != jobs[0].SetID || *got.PinnedTo != 3 || got.PinnedKey != "GPU-3" || got.Guidance != 3.5 ||
			got.Key != "key" || got.Prompt != "a red boat" || got.NegativePrompt != "fog" || got.Width != 640 || got.Priority != -2 {
			t.Errorf("job %d: %+v", i, got)
		}
		if i > 0 && jobs[i-1].ID >= got.ID {
			t.Errorf("ids do not sort by ordinal: %s, %s", jobs[i-1].ID, got.ID)
		}
	}
}

func TestSubmitDrawsASeed(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	a, b := submit(t, q, 2), submit(t, q, 1)
	if a[1].Seed != a[0].Seed+1 || a[0].Seed < 0 || a[0].Seed > job.MaxSeed {
		t.Errorf("seeds %d, %d", a[0].Seed, a[1].Seed)
	}
	if a[0].Seed == b[0].Seed {
		t.Errorf("two sets drew the same seed %d", a[0].Seed)
	}
}

func TestIDsRiseWhenTheClockFalls(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last := ""
	for range 3 {
		q, stop := running(t, dir, Options{Now: func() time.Time { return now }})
		for _, j := range append(submit(t, q, 2), submit(t, q, 2)...) {
			if j.ID <= last {
				t.Fatalf("id %s after %s", j.ID, last)
			}
			last = j.ID
		}
		stop()
		now = now.Add(-time.Hour)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	free := uint64(10e9)
	q, _ := running(t, t.TempDir(), Options{
		MaxQueued: 4,
		Free:      func(string) (uint64, uint64, error) { return free, 100e9, nil },
	})
	jobs, _, err := q.Submit(t.Context(), "k", spec(3), spec(3))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.Submit(t.Context(), "", spec(2), spec(2)); !errors.Is(err, ErrFull) {
		t.Errorf("fifth of four: %v", err)
	}
	start(t, q, jobs[0])
	submit(t, q, 2) // a job that runs waits no more
	if _, created, err := q.Submit(t.Context(), "k", spec(3), spec(3)); err != nil || created {
		t.Errorf("a known key must be answered when the queue is full: created=%v, %v", created, err)
	}
	if _, err := q.Cancel(t.Context(), jobs[1].ID); err != nil {
		t.Fatal(err)
	}
	free = 1.9e9
	if _, _, err := q.Submit(t.Context(), "", spec(1), spec(1)); !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "1900 MB") {
		t.Errorf("nearly full disk: %v", err)
	}
	if _, _, err := q.Submit(t.Context(), "", job.Spec{Prompt: "x"}, job.Spec{Prompt: "x"}); err == nil {
		t.Error("a spec without defaults was accepted")
	}
}

func TestDefaultMinFree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		total, want uint64
	}{
		{"2 GB on usual disks", 50e9, 2e9},
		{"2 % on large ones", 1000e9, 20e9},
		{"half of small ones", 1e9, 0.5e9},
		{"nothing of nothing", 0, 0},
	} {
		if got := DefaultMinFree(c.total); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestFreeOfThisDisk(t *testing.T) {
	t.Parallel()
	free, total, err := diskFree(t.TempDir())
	if err != nil || total == 0 || free > total {
		t.Errorf("free %d of %d: %v", free, total, err)
	}
	if _, _, err := diskFree(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("no error for a folder that does not exist")
	}
}

func TestUnknownFreeSpaceRefusesNothing(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{Free: func(string) (uint64, uint64, error) { return 0, 0, errors.New("stale handle") }})
	submit(t, q, 1)
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	q, err := Open(t.Context(), t.TempDir(), spacious(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	const clients = 40
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			if _, _, err := q.Submit(t.Context(), "", spec(1), spec(1)); err != nil {
				t.Error(err)
			}
		})
	}
	before := q.writer.commits.Load()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	all.Wait()
	commits := q.writer.commits.Load() - before
	cancel()
	<-done
	if n := len(q.Active()); n != clients {
		t.Errorf("%d jobs, want %d", n, clients)
	}
	if commits == 0 || commits > clients/2 {
		t.Errorf("%d submissions took %d transactions", clients, commits)
	}
}

func TestCallsBeforeAndAfterRun(t *testing.T) {
	t.Parallel()
	q, err := Open(t.Context(), t.TempDir(), spacious(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	brief, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() {
		_, _, err := q.Submit(brief, "", spec(1), spec(1))
		waits <- err
	}()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("before Run: %v", err)
	}
	if jobs, _, err := q.List(t.Context(), Filter{}); err != nil || len(jobs) != 0 {
		t.Errorf("reading before Run: %v, %v", jobs, err)
	}
	if err := q.Run(brief); err != nil {
		t.Error(err)
	}
	if _, _, err := q.Submit(t.Context(), "", spec(1), spec(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Run: %v", err)
	}
	if _, _, err := q.List(t.Context(), Filter{}); !errors.Is(err, ErrClosed) {
		t.Errorf("reading after Run: %v", err)
	}
	if err := q.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}
