package queue

import (
	"errors"
	"sync"
	"testing"

	"muster/shared/gpu"
	"muster/shared/job"
)

func TestKeyOfAnotherCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	first, _, err := q.Submit(t.Context(), "k", spec(2), spec(2))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	q, _ = running(t, dir, Options{})
	started := start(t, q, first[1])
	again, created, err := q.Submit(t.Context(), "k", spec(2), spec(2))
	if err != nil || created || len(again) != 2 || again[0].ID != first[0].ID || again[1].State != job.Running || again[1].Seq != started.Seq {
		t.Errorf("same key, same spec: created=%v %+v, %v", created, again, err)
	}
	if _, _, err := q.Submit(t.Context(), "k", spec(3), spec(3)); !errors.Is(err, ErrKeyReused) {
		t.Errorf("same key, other spec: %v", err)
	}
	if a, b := submit(t, q, 1), submit(t, q, 1); a[0].ID == b[0].ID {
		t.Error("no key must never be the same key")
	}
}

// A client that sends a command once more must get its images, whatever the agent would make of the command by now.
func TestKeyAfterTheDefaultsChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	asked := spec(2)
	asked.Model, asked.DeviceKey = "", "GPU-7"
	resolved := func(model string, number gpu.Ref) job.Spec {
		s := asked
		s.Model, s.DeviceID = model, &number
		return s
	}
	first, _, err := q.Submit(t.Context(), "k", asked, resolved("sketch", 3))
	check(t, err)
	for range 2 {
		again, created, err := q.Submit(t.Context(), "k", asked, resolved("sdxl", 0))
		if err != nil || created || len(again) != 2 || again[0].ID != first[0].ID || again[0].Model != "sketch" || *again[0].PinnedTo != 3 || again[0].PinnedKey != "GPU-7" {
			t.Errorf("created=%v, %v: %+v", created, err, again)
		}
		stop()
		q, stop = running(t, dir, Options{})
	}
	other := asked
	other.Model = "sketch" // what was made, but not what was asked for
	if _, _, err := q.Submit(t.Context(), "k", other, resolved("sketch", 3)); !errors.Is(err, ErrKeyReused) {
		t.Errorf("another command that comes to the same: %v", err)
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
			jobs, created, err := q.Submit(t.Context(), "k", spec(4), spec(4))
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
