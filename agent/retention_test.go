package agent

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/job"
)

// kept is a retention on a real queue and a real store; hours says how much later than now its clock is.
type kept struct {
	*retention
	t     *testing.T
	dir   string
	hours atomic.Int64
}

func keep(t *testing.T, age time.Duration, bytes int64) *kept {
	t.Helper()
	k := &kept{t: t, dir: t.TempDir()}
	jobs, err := queue.Open(t.Context(), t.TempDir(), queue.Options{
		Now:  func() time.Time { return time.Now().Add(time.Duration(k.hours.Load()) * time.Hour) },
		Free: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 40, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- jobs.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	store, err := images.Open(k.dir)
	if err != nil {
		t.Fatal(err)
	}
	k.retention = newRetention(jobs, store, age, bytes, quiet())
	return k
}

// make gives a job that succeeded with a picture of that shade, whose file was put two hours ago.
func (k *kept) make(shade uint8) job.Job {
	k.t.Helper()
	var b bytes.Buffer
	img := image.NewGray(image.Rect(0, 0, 32, 32))
	img.SetGray(0, 0, color.Gray{Y: shade})
	err := png.Encode(&b, img)
	id, putErr := k.store.Put(k.t.Context(), b.Bytes())
	past := time.Now().Add(-2 * time.Hour)
	touchErr := os.Chtimes(filepath.Join(k.dir, id[:2], id+".png"), past, past)
	spec := job.Spec{Prompt: "x", Model: "m"}.WithDefaults()
	accepted, _, submitErr := k.jobs.Submit(k.t.Context(), "", spec, spec)
	if err := errors.Join(err, putErr, touchErr, submitErr); err != nil {
		k.t.Fatal(err)
	}
	started, err := k.jobs.Start(k.t.Context(), accepted[0].ID, 0, queue.Placement{})
	if err == nil {
		started, err = k.jobs.Succeed(k.t.Context(), started.ID, started.Attempt, id)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return started
}

// left says whether row and file of a job are there; they must not differ where the file is what is missing.
func (k *kept) left(j job.Job) bool {
	k.t.Helper()
	_, err := k.jobs.Job(k.t.Context(), j.ID)
	file := k.store.Size(j.ImageID) > 0
	if err == nil && !file {
		k.t.Error("a job names an image that is gone")
	}
	if (err == nil) != file {
		k.t.Errorf("row: %v, file is there: %v", err, file)
	}
	return err == nil
}

func TestRetentionByAge(t *testing.T) {
	t.Parallel()
	k := keep(t, 5*time.Hour, 0)
	old := k.make(1)
	k.hours.Store(5)
	young := k.make(2)
	if removed := k.sweep(t.Context()); removed != 1 || k.left(old) || !k.left(young) {
		t.Errorf("removed %d", removed)
	}
}

// The image of a pruned job was put a moment ago: another job may be about to name the same pixels.
func TestYoungImageOfAPrunedJobStays(t *testing.T) {
	t.Parallel()
	k := keep(t, 5*time.Hour, 0)
	j := k.make(1)
	now := time.Now()
	if err := os.Chtimes(filepath.Join(k.dir, j.ImageID[:2], j.ImageID+".png"), now, now); err != nil {
		t.Fatal(err)
	}
	k.hours.Store(5)
	if removed := k.sweep(t.Context()); removed != 0 || k.count() != 0 || k.store.Size(j.ImageID) == 0 {
		t.Errorf("removed %d images, %d jobs are left, the image has %d bytes", removed, k.count(), k.store.Size(j.ImageID))
	}
}

func TestRetentionByBytes(t *testing.T) {
	t.Parallel()
	k := keep(t, 0, 0)
	var made []job.Job
	for shade := range uint8(4) {
		made = append(made, k.make(shade))
		k.hours.Add(1)
	}
	k.bytes = k.store.Size(made[2].ImageID) + k.store.Size(made[3].ImageID)
	if removed := k.sweep(t.Context()); removed != 2 || k.left(made[0]) || k.left(made[1]) || !k.left(made[2]) || !k.left(made[3]) {
		t.Errorf("removed %d", removed)
	}
	if removed := k.sweep(t.Context()); removed != 0 {
		t.Errorf("then %d more", removed)
	}
	k.make(7)
	k.bytes = 0
	k.hours.Store(100_000)
	if removed := k.sweep(t.Context()); removed != 0 {
		t.Errorf("without limits %d", removed)
	}
}

// Two jobs made the same pixels: the image stays until neither is there.
func TestSharedImageStays(t *testing.T) {
	t.Parallel()
	k := keep(t, 5*time.Hour, 0)
	old := k.make(1)
	k.hours.Store(5)
	young := k.make(1)
	if old.ImageID != young.ImageID {
		t.Fatal("the images differ")
	}
	if removed := k.sweep(t.Context()); removed != 0 || !k.left(young) {
		t.Errorf("removed %d", removed)
	}
	if _, err := k.jobs.Job(t.Context(), old.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the old job: %v", err)
	}
}

// A crash came between rows and files: the next sweep takes the files. One that is young may belong to a job that is just ending.
func TestFilesThatACrashLeft(t *testing.T) {
	t.Parallel()
	k := keep(t, time.Hour, 0)
	crashed, again := k.make(1), k.make(2)
	k.hours.Store(2)
	if done, err := k.jobs.Prune(t.Context(), queue.Limits{Age: time.Hour}); err != nil || done.Sets != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(k.dir, again.ImageID[:2], again.ImageID+".png"), now, now); err != nil {
		t.Fatal(err)
	}
	if removed := k.sweep(t.Context()); removed != 1 || k.store.Size(crashed.ImageID) != 0 || k.store.Size(again.ImageID) == 0 {
		t.Errorf("removed %d", removed)
	}
}

func TestRoomIsMadeWithinTheLimits(t *testing.T) {
	t.Parallel()
	k := keep(t, 0, 0)
	k.make(1)
	k.hours.Store(3)
	step := func(name string, want int) {
		t.Helper()
		if k.makeRoom(t.Context()); k.count() != want {
			t.Errorf("%s: %d jobs are left, want %d", name, k.count(), want)
		}
	}
	step("without limits", 1)
	k.age = 2 * time.Hour
	step("what was kept long enough", 0)
	k.make(2)
	k.hours.Store(6)
	step("within a minute it sweeps once", 1)
	k.last = time.Now().Add(-roomEvery)
	step("after a minute", 0)
	k.last = time.Time{}
	k.make(3)
	k.hours.Store(9)
	k.turn <- struct{}{} // another sweep is under way
	if k.makeRoom(nothing()); k.count() != 1 {
		t.Error("it did not wait for its turn")
	}
}

func (k *kept) count() int {
	k.t.Helper()
	jobs, _, err := k.jobs.List(k.t.Context(), queue.Filter{})
	if err != nil {
		k.t.Fatal(err)
	}
	return len(jobs)
}
