package job

import (
	"testing"
	"time"
)

func TestASetIsDoneWithItsLastImage(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	expected := func(early, at, late int) *Expected {
		second := func(n int) time.Time { return now.Add(time.Duration(n) * time.Second) }
		return &Expected{At: second(at), Early: second(early), Late: second(late)}
	}
	jobs := []Job{{State: Queued, Expected: expected(5, 10, 30)}, {State: Running, Expected: expected(8, 12, 20)}, {State: Succeeded}}
	got := SetExpected(jobs)
	if want := expected(8, 12, 30); got == nil || *got != *want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if *jobs[0].Expected != *expected(5, 10, 30) {
		t.Error("the first job's own was changed")
	}
	if SetExpected([]Job{{State: Queued}, jobs[0]}) != nil {
		t.Error("a set is predicted although one of its images is not")
	}
	if SetExpected([]Job{{State: Succeeded}, {State: Failed}}) != nil {
		t.Error("a set that has ended is predicted")
	}
}
