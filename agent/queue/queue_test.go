package queue

import (
	"context"
	"errors"
	"log/slog"
	"os"
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

func submit(t testing.TB, q *Queue, count int) []job.Job {
	t.Helper()
	jobs, created, err := q.Submit(t.Context(), "", spec(count))
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

func TestSubmitKeepsWhatWasAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	pin, seed, guidance := gpu.Ref(3), int64(41), 3.5
	asked := job.Spec{
		Prompt: "a red boat", NegativePrompt: "fog", Model: "sdxl", Sampler: "euler", Width: 640, Height: 384, Steps: 7,
		Guidance: &guidance, Seed: &seed, Count: 3, DeviceID: &pin, Priority: -2, ClientID: "phone",
	}
	jobs, _, err := q.Submit(t.Context(), "key", asked)
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
		if got.Seed != 41+int64(i) || got.Ordinal != i || got.SetID != jobs[0].SetID || *got.PinnedTo != 3 || got.Guidance != 3.5 ||
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
	jobs, _, err := q.Submit(t.Context(), "k", spec(3))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.Submit(t.Context(), "", spec(2)); !errors.Is(err, ErrFull) {
		t.Errorf("fifth of four: %v", err)
	}
	start(t, q, jobs[0])
	submit(t, q, 2) // a job that runs waits no more
	if _, created, err := q.Submit(t.Context(), "k", spec(3)); err != nil || created {
		t.Errorf("a known key must be answered when the queue is full: created=%v, %v", created, err)
	}
	if _, err := q.Cancel(t.Context(), jobs[1].ID); err != nil {
		t.Fatal(err)
	}
	free = 1.9e9
	if _, _, err := q.Submit(t.Context(), "", spec(1)); !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "1900 MB") {
		t.Errorf("nearly full disk: %v", err)
	}
	if _, _, err := q.Submit(t.Context(), "", job.Spec{Prompt: "x"}); err == nil {
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

func TestKeyOfAnotherCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	first, _, err := q.Submit(t.Context(), "k", spec(2))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	q, _ = running(t, dir, Options{})
	started := start(t, q, first[1])
	again, created, err := q.Submit(t.Context(), "k", spec(2))
	if err != nil || created || len(again) != 2 || again[0].ID != first[0].ID || again[1].State != job.Running || again[1].Seq != started.Seq {
		t.Errorf("same key, same spec: created=%v %+v, %v", created, again, err)
	}
	if _, _, err := q.Submit(t.Context(), "k", spec(3)); !errors.Is(err, ErrKeyReused) {
		t.Errorf("same key, other spec: %v", err)
	}
	if a, b := submit(t, q, 1), submit(t, q, 1); a[0].ID == b[0].ID {
		t.Error("no key must never be the same key")
	}
}

func TestSimultaneousSubmitsWithOneKey(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	const clients = 24
	sets, made := make([]string, clients), make([]bool, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			jobs, created, err := q.Submit(t.Context(), "k", spec(4))
			if err != nil || len(jobs) != 4 {
				t.Errorf("%d jobs, %v", len(jobs), err)
				return
			}
			sets[i], made[i] = jobs[0].SetID, created
		})
	}
	all.Wait()
	created := 0
	for i := range sets {
		if made[i] {
			created++
		}
		if sets[i] != sets[0] {
			t.Fatalf("two sets: %s, %s", sets[0], sets[i])
		}
	}
	if n := len(q.Active()); created != 1 || n != 4 {
		t.Errorf("created %d times, %d jobs; want once, 4", created, n)
	}
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
			if _, _, err := q.Submit(t.Context(), "", spec(1)); err != nil {
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
		_, _, err := q.Submit(brief, "", spec(1))
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
	if _, _, err := q.Submit(t.Context(), "", spec(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Run: %v", err)
	}
	if _, _, err := q.List(t.Context(), Filter{}); !errors.Is(err, ErrClosed) {
		t.Errorf("reading after Run: %v", err)
	}
	if err := q.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}

func TestOneAgentPerFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := running(t, dir, Options{})
	_, err := Open(t.Context(), dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "--data") || !strings.Contains(err.Error(), "process ") {
		t.Errorf("second agent: %v", err)
	}
	stop()
	running(t, dir, Options{})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		make    func(t *testing.T, dir string)
		corrupt bool
		says    string
	}{
		{"text", write(databaseName, "my poems, the only copy, "+strings.Repeat("la ", 50)), true, "move it"},
		{"a few bytes", write(databaseName, "x"), true, "move it"},
		{"another program's database", foreign, false, "another program"},
		{"a newer schema", newer, false, "newer muster"},
		{"damaged pages", damaged, true, "move it"},
		{"a log without its database", write(databaseName+"-wal", "frames"), false, "put the database back"},
		{"a folder in its place", func(t *testing.T, dir string) { check(t, os.Mkdir(filepath.Join(dir, databaseName), 0o700)) }, false, databaseName},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.make(t, dir)
			before := contents(t, dir)
			q, err := Open(t.Context(), dir, Options{})
			if err == nil {
				q.release()
				t.Fatal("opened")
			}
			if errors.Is(err, ErrCorrupt) != c.corrupt || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), filepath.Join(dir, databaseName)) {
				t.Errorf("error: %v", err)
			}
			for name, text := range before {
				if contents(t, dir)[name] != text {
					t.Errorf("%s was changed", name)
				}
			}
			if _, err := Open(t.Context(), dir, Options{}); errors.Is(err, ErrLocked) {
				t.Error("the lock was kept")
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
}

func foreign(t *testing.T, dir string) {
	db, err := openDatabase(filepath.Join(dir, databaseName), writerPragmas)
	check(t, err)
	_, err = db.Exec("CREATE TABLE poems (line TEXT); INSERT INTO poems VALUES ('only copy')")
	check(t, err)
	check(t, db.Close())
}

func newer(t *testing.T, dir string) {
	_, stop := running(t, dir, Options{})
	stop()
	db, err := openDatabase(filepath.Join(dir, databaseName), writerPragmas)
	check(t, err)
	_, err = db.Exec("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
	check(t, err)
	check(t, db.Close())
}

func damaged(t *testing.T, dir string) {
	_, stop := running(t, dir, Options{})
	stop()
	path := filepath.Join(dir, databaseName)
	text, err := os.ReadFile(path)
	check(t, err)
	for i := 200; i < len(text); i++ {
		text[i] = 0xa5
	}
	check(t, os.WriteFile(path, text, 0o600))
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			texts[name] = string(text)
		}
	}
	return texts
}

func TestFolderWithOddName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b?c=%41#d;e")
	q, stop := running(t, dir, Options{})
	submit(t, q, 1)
	stop()
	for _, name := range []string{databaseName, "lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v; prompts are private", name, info.Mode())
		}
	}
}

func TestEveryConnectionIsDurable(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	for range readers {
		conn, err := q.reader.Conn(t.Context()) // held, so that each is another one
		check(t, err)
		defer conn.Close()
		var mode string
		var level, readOnly int
		check(t, conn.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode))
		check(t, conn.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&level))
		check(t, conn.QueryRowContext(t.Context(), "PRAGMA query_only").Scan(&readOnly))
		if mode != "wal" || level != 2 || readOnly != 1 {
			t.Errorf("journal_mode %s, synchronous %d, query_only %d", mode, level, readOnly)
		}
	}
	if _, err := openLax(t); err == nil || !strings.Contains(err.Error(), "synchronous") {
		t.Errorf("a connection without synchronous=FULL was let through: %v", err)
	}
}

func openLax(t *testing.T) (any, error) {
	db, err := openDatabase(filepath.Join(t.TempDir(), databaseName), []string{"journal_mode=WAL", "synchronous=NORMAL"})
	check(t, err)
	defer db.Close()
	return nil, db.Ping()
}

func TestCheckAfterUncleanStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	if q.unclean {
		t.Error("a new folder counts as unclean")
	}
	stop()
	q, err := Open(t.Context(), dir, spacious(Options{}))
	check(t, err)
	if q.unclean {
		t.Error("an orderly stop counts as unclean")
	}
	q.release() // without Run: as after a crash
	log := &lines{}
	q, err = Open(t.Context(), dir, spacious(Options{Log: slog.New(slog.NewTextHandler(log, nil))}))
	check(t, err)
	if !q.unclean {
		t.Error("a crash counts as orderly")
	}
	q.check(t.Context())
	if !strings.Contains(log.String(), "sound") {
		t.Errorf("log: %s", log)
	}
	damage := error(ErrCorrupt)
	q.damage.Store(&damage)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	if _, _, err := q.Submit(t.Context(), "", spec(1)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged database accepted a job: %v", err)
	}
	cancel()
	check(t, <-done)
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestSessions(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	q, _ := running(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	hash, other := [32]byte{1}, [32]byte{2}
	check(t, q.PutSession(t.Context(), hash, "phone", now.Add(time.Hour)))
	check(t, q.PutSession(t.Context(), hash, "phone", now.Add(2*time.Hour)))
	for name, want := range map[[32]byte]bool{hash: true, other: false} {
		if ok, err := q.Session(t.Context(), name); err != nil || ok != want {
			t.Errorf("session %x: %v, %v", name[0], ok, err)
		}
	}
	check(t, q.PutSession(t.Context(), other, "", now.Add(time.Hour)))
	check(t, q.DeleteSession(t.Context(), other))
	check(t, q.DeleteSession(t.Context(), other))
	if ok, _ := q.Session(t.Context(), other); ok {
		t.Error("a deleted session is still good")
	}
	now = now.Add(2 * time.Hour)
	if ok, _ := q.Session(t.Context(), hash); ok {
		t.Error("an expired session is still good")
	}
}
