package scheduler

import (
	"testing"
	"time"

	"muster/shared/job"
)

func TestExpectedTimesFollowHowFarPredictionsWereOff(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := newAccuracy().queued
	if e := r.expect(now, 10); !e.At.Equal(now.Add(10*time.Second)) || !e.Early.Equal(now.Add(5*time.Second)) || !e.Late.Equal(now.Add(20*time.Second)) {
		t.Errorf("before anything was measured: %+v", e)
	}
	for range 30 {
		for _, ratio := range []float64{.5, .5, 2, 2, 2, 2, 2, 2, 4, 4} {
			r.add(ratio)
		}
	}
	if e := r.expect(now, 10); !e.At.Round(time.Second).Equal(now.Add(20*time.Second)) || !e.Early.Round(time.Second).Equal(now.Add(5*time.Second)) || !e.Late.Round(time.Second).Equal(now.Add(40*time.Second)) {
		t.Errorf("after images that mostly took twice as long: %+v", e)
	}
	for _, seconds := range []float64{unplanned, -1, never} {
		if e := r.expect(now, seconds); e != nil {
			t.Errorf("%g s: %+v", seconds, e)
		}
	}
}

// An image that takes twice as long as predicted makes what is told next later, not earlier.
func TestLateImagesMakeThePredictionsLater(t *testing.T) {
	t.Parallel()
	c, now := NewCore(Predicted), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	image := job.Job{ID: "a", Width: 512, Height: 512, Steps: 20}
	c.estimates.learn(pace{pixels: 512 * 512}, 1, observation{step: 1}) // nothing is guessed any more
	a := &Attempt{Job: image, promised: 10, decided: now.Add(-20 * time.Second)}
	c.told["a"] = &telling{since: now.Add(-60 * time.Second), ahead: 20}
	c.succeeded(a, 20*time.Second, now)
	if got := c.accuracy.started.middle; got < 1.99 || got > 2.01 {
		t.Errorf("what runs takes %.2f of what is predicted: want 2", got)
	}
	if got := c.accuracy.queued.middle; got < 2.99 || got > 3.01 {
		t.Errorf("what waits takes %.2f of what is predicted: want 3", got)
	}
}

// A time that has passed is not told any longer of an image that nobody has planned since.
func TestAPassedTimeIsForgotten(t *testing.T) {
	t.Parallel()
	c, now := NewCore(Predicted), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	told := telling{text: "waits", expected: c.accuracy.queued.expect(now, 10)}
	for _, tt := range []struct {
		after time.Duration
		want  bool
	}{{15 * time.Second, true}, {25 * time.Second, false}} {
		next := telling{text: "waits"}
		c.tell("a", &next, &told, c.accuracy.queued.expect, unplanned, now.Add(tt.after), map[string]job.Outlook{})
		if (next.expected != nil) != tt.want {
			t.Errorf("after %s: %+v", tt.after, next.expected)
		}
	}
}
