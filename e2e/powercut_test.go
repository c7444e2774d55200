package e2e

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"muster/e2e/disk"
	"muster/e2e/harness"
	"muster/e2e/ordeal"
)

// newDisk gives a disk of that many megabytes; where none can be made the test is skipped.
func newDisk(t *testing.T, megabytes int64) *disk.Image {
	t.Helper()
	image, err := disk.NewImage(t.TempDir(), megabytes)
	if errors.Is(err, disk.ErrNotHere) {
		t.Skip("NOT RUN: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	})
	return image
}

// The power goes again and again: the disk is left with what was handed to it, and without what was only in memory.
func TestPowerCutAgainAndAgainLosesNothing(t *testing.T) {
	image := newDisk(t, 256)
	trial := ordeal.NewTrial(harness.Options{Data: filepath.Join(image.Dir, "data"), Flags: []string{"--simulate", "2x H100, 2x RTX 4090"}}, rand.Uint64())
	trial.Disk, trial.Steer = image, []string{"0", "3"}
	suffer(t, trial, 20)
	verdict(t, trial)
}

// The same cuts take from programs that are less careful than the agent: were it otherwise, the test above would show nothing.
func TestPowerCutTakesWhatIsNotSynced(t *testing.T) {
	rows := func(synchronous string) func(string) (ordeal.Writer, error) {
		return func(dir string) (ordeal.Writer, error) { return ordeal.Rows(dir, synchronous) }
	}
	files := func(synced bool) func(string) (ordeal.Writer, error) {
		return func(dir string) (ordeal.Writer, error) { return ordeal.Files(dir, synced) }
	}
	for _, tt := range []struct {
		name  string
		write func(dir string) (ordeal.Writer, error)
		loses bool
	}{
		{"SQLite, synchronous=FULL", rows("FULL"), false},
		{"SQLite, synchronous=NORMAL", rows("NORMAL"), true},
		{"SQLite, synchronous=OFF", rows("OFF"), true},
		{"files that are synced, as their folder is", files(true), false},
		{"files that are not synced", files(false), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := newDisk(t, 64)
			lost, acknowledged := 0, 0
			for range 4 {
				w, err := tt.write(image.Dir)
				if err != nil {
					t.Fatal(err)
				}
				told, kept, err := ordeal.CutUnder(image, w)
				if err != nil {
					t.Fatal(err)
				}
				lost, acknowledged = lost+max(0, told-kept), acknowledged+told
			}
			t.Logf("%d of %d lost", lost, acknowledged)
			if (lost > 0) != tt.loses || acknowledged < 40 {
				t.Errorf("%d of %d lost: want some: %v", lost, acknowledged, tt.loses)
			}
		})
	}
}
