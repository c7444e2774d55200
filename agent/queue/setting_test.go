package queue

import (
	"context"
	"errors"
	"strings"
	"testing"

	"muster/shared/job"
)

func TestSettingsSurvive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	want := func(name, value string) {
		t.Helper()
		got, err := q.Setting(t.Context(), name)
		check(t, err)
		if got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	want("model", "")
	check(t, q.PutSetting(t.Context(), "model", "sd15"))
	check(t, q.PutSetting(t.Context(), "other", "x"))
	want("model", "sd15")
	check(t, q.PutSetting(t.Context(), "model", "folder: ünï"))
	want("model", "folder: ünï")
	stop()
	q, _ = running(t, dir, Options{})
	want("model", "folder: ünï")
	want("other", "x")
	check(t, q.PutSetting(t.Context(), "model", ""))
	want("model", "")
}

// A setting never touches what the queue itself keeps in meta, whatever its name.
func TestSettingsKeepOffTheQueuesOwnRows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	for _, name := range []string{metaVersion, metaStopped, metaPool, metaPruned, metaLastID} {
		check(t, q.PutSetting(t.Context(), name, "not what it was"))
		if got, err := q.Setting(t.Context(), name); got != "not what it was" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	stop()
	q, _ = running(t, dir, Options{}) // opens, so the version and the rest are as they were
	submit(t, q, 1)
}

func TestSettingsRefuse(t *testing.T) {
	t.Parallel()
	q, stop := running(t, t.TempDir(), Options{})
	for _, value := range []string{strings.Repeat("x", job.MaxNameBytes+1), "\xff"} {
		if err := q.PutSetting(t.Context(), "model", value); err == nil {
			t.Errorf("%.10q was taken", value)
		}
	}
	check(t, q.PutSetting(t.Context(), "model", strings.Repeat("x", job.MaxNameBytes)))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Setting(gone, "model"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context: %v", err)
	}
	stop()
	if err := q.PutSetting(t.Context(), "model", "x"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Run: %v", err)
	}
	if _, err := q.Setting(t.Context(), "model"); !errors.Is(err, ErrClosed) {
		t.Errorf("read after Run: %v", err)
	}
}
