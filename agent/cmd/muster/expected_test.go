package main

import (
	"testing"
	"time"

	"muster/shared/job"
)

func TestExpectedWords(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		early, at, late time.Duration
		want            string
	}{
		{25 * time.Second, 40 * time.Second, 70 * time.Second, "in 40 s, 25 to 70 s"},
		{-5 * time.Second, 400 * time.Millisecond, 12 * time.Second, "in 1 s, 0 to 12 s"},
		{-time.Minute, -30 * time.Second, 5 * time.Second, "in 1 s, 0 to 5 s"},
		{-time.Minute, -30 * time.Second, -time.Second, "any moment"},
		{80 * time.Second, 2 * time.Minute, 3 * time.Minute, "in 2 min, 80 s to 3 min"},
		{10 * time.Minute, 12 * time.Minute, 15 * time.Minute, "in 12 min, 10 to 15 min"},
		{90 * time.Minute, 2 * time.Hour, 150 * time.Minute, "in 2.0 h, 90 min to 2.5 h"},
	} {
		if got := expectedWords(&job.Expected{At: now.Add(test.at), Early: now.Add(test.early), Late: now.Add(test.late)}, now); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if got := expectedWords(nil, now); got != "" {
		t.Errorf("what is not known: %q", got)
	}
}
