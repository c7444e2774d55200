package queue

import (
	"errors"
	"strings"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

func TestLifeOfAJob(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 891_234_567, time.UTC)
	dir := t.TempDir()
	q, stop := running(t, dir, Options{Now: func() time.Time { return now }})
	j := submit(t, q, 1)[0]
	if j.Created.Nanosecond() != 891_000_000 || j.State != job.Queued || j.DeviceID != nil || j.Started != nil || j.Reason == "" {
		t.Errorf("submitted: %+v", j)
	}
	running1, err := q.Start(t.Context(), j.ID, 0, Placement{Device: gpu.CPU, DeviceKey: "cpu", Backend: "builtin", Simulated: true, Reason: "idle"})
	check(t, err)
	if running1.Attempt != 1 || *running1.DeviceID != gpu.CPU || running1.DeviceKey != "cpu" || !running1.Simulated || running1.Reason != "idle" || running1.Started == nil {
		t.Errorf("started: %+v", running1)
	}
	back, err := q.Requeue(t.Context(), j.ID, 1, "the backend died", true)
	check(t, err)
	if back.State != job.Queued || back.Failures != 1 || back.Error != "the backend died" || !strings.Contains(back.Reason, "the backend died") || back.Started != nil || back.DeviceID == nil {
		t.Errorf("queued again: %+v", back)
	}
	again := start(t, q, back)
	now = now.Add(time.Minute)
	done, err := q.Succeed(t.Context(), j.ID, 2, "abc")
	check(t, err)
	if done.State != job.Succeeded || done.ImageID != "abc" || done.Error != "" || !done.Finished.Equal(done.Started.Add(time.Minute)) || again.Attempt != 2 {
		t.Errorf("succeeded: %+v", done)
	}
	got, err := q.Job(t.Context(), j.ID)
	check(t, err)
	if diff := differ(done, got); diff != "" {
		t.Errorf("disk differs: %s", diff)
	}
	for id, want := range map[string]bool{"abc": true, "abd": false, "": false} {
		if got, err := q.References(t.Context(), id); err != nil || got != want {
			t.Errorf("References(%q) = %v, %v", id, got, err)
		}
	}
	if j.State != job.Queued || running1.State != job.Running {
		t.Error("a published version changed")
	}
	stop()
	events(t, dir, []string{"queued", "running", "queued", "running", "succeeded"})
}

func events(t *testing.T, dir string, want []string) {
	t.Helper()
	q, _ := running(t, dir, Options{})
	rows, err := q.reader.QueryContext(t.Context(), "SELECT state FROM events ORDER BY seq")
	check(t, err)
	defer rows.Close()
	var got []string
	for rows.Next() {
		var state string
		check(t, rows.Scan(&state))
		got = append(got, state)
	}
	if diff := differ(want, got); diff != "" {
		t.Errorf("events: %s", diff)
	}
}

func TestRestartQueuesAgainWhatRan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	jobs := submit(t, q, 3)
	for range 5 { // more deaths of the agent than a job may have failures
		current, err := q.Job(t.Context(), jobs[1].ID)
		check(t, err)
		start(t, q, current)
		stop()
		q, stop = running(t, dir, Options{})
	}
	got, err := q.Job(t.Context(), jobs[1].ID)
	check(t, err)
	if got.State != job.Queued || got.Attempt != 5 || got.Failures != 0 || !strings.Contains(got.Reason, "restarted") || got.Seed != jobs[1].Seed || got.Started != nil {
		t.Errorf("after restarts: %+v", got)
	}
	active := q.Active()
	for i, j := range active {
		if j.ID != jobs[i].ID {
			t.Errorf("order changed: %d is %s", i, j.ID)
		}
	}
	if _, err := q.Succeed(t.Context(), got.ID, 5, "late"); !errors.Is(err, job.ErrTransition) {
		t.Errorf("a result of the agent before: %v", err)
	}
}

func TestFailuresEndAJob(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	j := submit(t, q, 1)[0]
	var err error
	for n := range job.MaxFailures {
		j = start(t, q, j)
		if j.State != job.Running || j.Failures != n {
			t.Fatalf("attempt %d: %+v", n+1, j)
		}
		j, err = q.Requeue(t.Context(), j.ID, j.Attempt, "GPU lost", true)
		check(t, err)
	}
	if j.State != job.Failed || j.Failures != job.MaxFailures || !strings.Contains(j.Error, "GPU lost") || j.Finished == nil {
		t.Errorf("after %d failures: %+v", job.MaxFailures, j)
	}
}

func TestCancelInEachState(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	to := map[job.State]func(job.Job) (job.Job, error){
		job.Queued:  func(j job.Job) (job.Job, error) { return j, nil },
		job.Running: func(j job.Job) (job.Job, error) { return start(t, q, j), nil },
		job.Succeeded: func(j job.Job) (job.Job, error) {
			return q.Succeed(t.Context(), j.ID, start(t, q, j).Attempt, "i")
		},
		job.Failed:    func(j job.Job) (job.Job, error) { return q.Fail(t.Context(), j.ID, 0, "no such model") },
		job.Cancelled: func(j job.Job) (job.Job, error) { return q.Cancel(t.Context(), j.ID) },
	}
	for _, state := range job.States {
		before, err := to[state](submit(t, q, 1)[0])
		check(t, err)
		if before.State != state {
			t.Fatalf("it is %s, want %s", before.State, state)
		}
		after, err := q.Cancel(t.Context(), before.ID)
		if state.Terminal() {
			got, _ := q.Job(t.Context(), before.ID)
			if !errors.Is(err, job.ErrTransition) || got.State != state {
				t.Errorf("cancel of %s: %+v, %v", state, got, err)
			}
			continue
		}
		if err != nil || after.State != job.Cancelled || after.Finished == nil {
			t.Errorf("cancel of %s: %+v, %v", state, after, err)
		}
		if _, err := q.Succeed(t.Context(), before.ID, before.Attempt, "late"); !errors.Is(err, job.ErrTransition) {
			t.Errorf("a result after the cancel: %v", err)
		}
	}
	for _, id := range []string{"", "nonsense", "01ARZ3NDEKTSV4RRFFQ69G5FAV"} {
		if _, err := q.Cancel(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("cancel of %q: %v", id, err)
		}
		if _, err := q.Start(t.Context(), id, 0, Placement{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("start of %q: %v", id, err)
		}
	}
}
