package server

import (
	"testing"
	"time"

	"muster/agent/queue"
	"muster/shared/wire"
)

// A page that is open when old sets are taken away is told to drop what it had, and gets what is left.
func TestOpenSocketLearnsThatSetsWerePruned(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	old := a.submitJobs(2)
	for _, j := range old {
		if _, err := a.queue.Cancel(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
	}
	left := a.submitJobs(1)
	a.published(left)
	c := a.connect(wire.JSON, "")
	c.until(func(e wire.Event) bool { return e.Job != nil && e.Job.ID == left[0].ID })
	for done := (queue.Pruned{}); done.Sets == 0; { // its age is measured in whole milliseconds
		var err error
		if done, err = a.queue.Prune(t.Context(), queue.Limits{Age: time.Nanosecond}); err != nil {
			t.Fatal(err)
		}
	}
	a.feed.Forget() // as agent.Run has the queue do
	hello := c.until(func(e wire.Event) bool { return e.Hello != nil }).Hello
	if !hello.Complete || hello.Resume <= left[0].Seq {
		t.Errorf("hello %+v", hello)
	}
	for {
		e := c.next()
		if e.Job != nil && e.Job.ID != left[0].ID {
			t.Fatalf("a job that was pruned is told of: %+v", e.Job)
		}
		if e.Job != nil {
			break
		}
	}
}
