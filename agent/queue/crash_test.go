package queue

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"muster/shared/job"
)

// Environment variables that make this test binary a child of one test, working in the folder that they name.
const (
	crashDir = "MUSTER_TEST_CRASH_QUEUE"
	fullDir  = "MUSTER_TEST_FULL_QUEUE"
)

func child(t *testing.T, test, variable, dir string, arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(append(os.Environ(), variable+"="+dir), arguments...)
	return cmd
}

// TestKill kills an agent that accepts, starts, ends and cancels jobs as fast as it can. What it had acknowledged is there.
// It shows what a crash of the process does, not of the machine: that rests on synchronous=FULL, which TestEveryConnectionIsDurable checks.
func TestKill(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(crashDir); dir != "" {
		acknowledge(t, dir)
		return
	}
	dir := t.TempDir()
	told := map[string]string{} // id → what was acknowledged of it last
	keys := map[string][]string{}
	for round := range 3 {
		cmd := child(t, "TestKill", crashDir, dir, fmt.Sprintf("MUSTER_TEST_ROUND=%d", round))
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			fields := strings.Fields(lines.Text())
			switch {
			case len(fields) > 2 && fields[0] == "accepted":
				keys[fields[1]] = fields[2:]
			case len(fields) == 3 && fields[0] == "told":
				told[fields[1]] = fields[2]
			default:
				t.Fatalf("child: %s", lines.Text())
			}
			if n == 150+round*37 {
				check(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
			t.Fatalf("child ended by itself: %v", cmd.ProcessState)
		}
		afterKill(t, dir, told, keys)
	}
	if len(keys) < 100 || len(told) < 100 {
		t.Errorf("only %d sets and %d changes were acknowledged", len(keys), len(told))
	}
}

// acknowledge works until it is killed, and prints what was durable when the call returned.
func acknowledge(t *testing.T, dir string) {
	q, _ := running(t, dir, Options{MaxQueued: 1 << 30})
	var printing sync.Mutex
	say := func(words ...any) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Println(words...)
	}
	var all sync.WaitGroup
	for client := range 6 {
		all.Go(func() {
			for n := range 100_000 {
				key := fmt.Sprintf("%s-%d-%d", os.Getenv("MUSTER_TEST_ROUND"), client, n)
				jobs, _, err := q.Submit(t.Context(), key, spec(2), spec(2))
				check(t, err)
				say("accepted", key, jobs[0].ID, jobs[1].ID)
				j, err := q.Start(t.Context(), jobs[0].ID, 0, Placement{Device: 1})
				check(t, err)
				switch n % 3 {
				case 0:
					j, err = q.Succeed(t.Context(), j.ID, 1, "image-of-"+j.ID)
				case 1:
					j, err = q.Cancel(t.Context(), j.ID)
				}
				check(t, err)
				say("told", j.ID, j.State)
			}
		})
	}
	all.Wait()
}

func afterKill(t *testing.T, dir string, told map[string]string, keys map[string][]string) {
	t.Helper()
	q, stop := running(t, dir, Options{})
	defer stop()
	if !q.unclean {
		t.Error("a kill counts as an orderly stop")
	}
	for key, want := range keys {
		jobs, created, err := q.Submit(t.Context(), key, spec(2), spec(2))
		if err != nil || created || !slices.Equal(ids(jobs), want) {
			t.Fatalf("accepted set %s: created=%v %v, %v", key, created, ids(jobs), err)
		}
	}
	for id, state := range told {
		j, err := q.Job(t.Context(), id)
		if state == string(job.Running) {
			state = string(job.Queued)
		}
		if err != nil || string(j.State) != state || state == string(job.Succeeded) && j.ImageID != "image-of-"+id {
			t.Fatalf("%s was told %s and is %+v, %v", id, state, j, err)
		}
	}
	var halves int
	check(t, q.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM (SELECT 1 FROM jobs GROUP BY set_id HAVING count(*) <> 2)").Scan(&halves))
	if halves != 0 {
		t.Errorf("%d sets are not whole", halves)
	}
	compareMirror(t, q)
	check(t, quickCheck(t.Context(), q.reader))
}

// TestDiskFailsAndRecovers lets real writes fail in the middle of transactions.
func TestDiskFailsAndRecovers(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(fullDir); dir != "" {
		fill(t, dir)
		return
	}
	if out, err := child(t, "TestDiskFailsAndRecovers", fullDir, t.TempDir()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func fill(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	p := &published{jobs: map[string]job.Job{}}
	q, stop := running(t, dir, Options{Publish: p.take})
	first := submit(t, q, 2)
	lift := limitFiles(t, 150_000)
	accepted := map[string][]string{}
	var mu sync.Mutex
	var refused atomic.Int64
	flood := func(name string) {
		var all sync.WaitGroup
		for client := range 8 {
			all.Go(func() {
				for n := range 12 {
					key := fmt.Sprintf("%s-%d-%d", name, client, n)
					jobs, _, err := q.Submit(t.Context(), key, spec(4), spec(4))
					if err != nil {
						refused.Add(1)
						continue
					}
					mu.Lock()
					accepted[key] = ids(jobs)
					mu.Unlock()
				}
			})
		}
		all.Wait()
	}
	flood("full")
	if refused.Load() == 0 || len(accepted) == 0 {
		t.Fatalf("%d accepted, %d refused: the limit does not work", len(accepted), refused.Load())
	}
	limitFiles(t, 1) // SQLite begins its log anew when it can: the limit before does not stop every write
	if _, err := q.Start(t.Context(), first[0].ID, 0, Placement{}); err == nil || errors.Is(err, job.ErrTransition) || !strings.Contains(err.Error(), databaseName) {
		t.Errorf("start on a full disk: %v", err)
	}
	if j, err := q.Job(t.Context(), first[0].ID); err != nil || j.State != job.Queued {
		t.Errorf("after the failed start: %+v, %v", j, err)
	}
	compareMirror(t, q)
	lift()
	before := refused.Load()
	flood("again")
	if refused.Load() != before {
		t.Errorf("%d refused after the disk recovered", refused.Load()-before)
	}
	flood("full") // the refused ones come again with their keys
	start(t, q, first[0])
	if want := 2 + 4*len(accepted); len(accepted) != 2*8*12 || len(q.Active()) != want {
		t.Errorf("%d sets, %d active jobs, want %d", len(accepted), len(q.Active()), want)
	}
	compareMirror(t, q)
	stop()
	for _, err := range p.errs {
		t.Error(err)
	}
	if p.missing > 0 {
		t.Errorf("%d events were not published", p.missing)
	}
	q, _ = running(t, dir, Options{})
	for _, key := range slices.Sorted(maps.Keys(accepted)) {
		jobs, created, err := q.Submit(t.Context(), key, spec(4), spec(4))
		if err != nil || created || !slices.Equal(ids(jobs), accepted[key]) {
			t.Fatalf("%s after a restart: created=%v, %v", key, created, err)
		}
	}
	check(t, quickCheck(t.Context(), q.reader))
}

// limitFiles lets no file of this process grow beyond that size until lift.
func limitFiles(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	var limit syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = bytes
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
	return func() { check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)) }
}
