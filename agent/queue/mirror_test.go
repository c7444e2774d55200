package queue

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/job"
)

// seen is what a listener got, and when.
type seen struct {
	mu   sync.Mutex
	jobs []job.Job
	at   []time.Time
}

func (s *seen) take(jobs []job.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range jobs {
		s.jobs = append(s.jobs, j)
		s.at = append(s.at, time.Now())
	}
}

func (s *seen) last() job.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.jobs) == 0 {
		return job.Job{}
	}
	return s.jobs[len(s.jobs)-1]
}

// listening publishes a mirror with one running job "r" and one queued "q" until stop.
func listening(out func([]job.Job)) (m *mirror, stop func()) {
	m = newMirror(true)
	m.load(committed{jobs: []job.Job{{ID: "q", Seq: 2, State: job.Queued}, {ID: "r", Seq: 4, State: job.Running, Attempt: 1}}, seq: 4})
	last, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		m.publish(last, out, nil)
	}()
	return m, func() {
		close(last)
		<-done
	}
}

func TestProgressAtMostFourTimesASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s seen
		m, stop := listening(s.take)
		for step := range 101 { // one second
			m.progress("r", 1, job.Progress{Step: step})
			time.Sleep(10 * time.Millisecond)
		}
		m.progress("r", 1, job.Progress{Step: 1000})
		time.Sleep(progressInterval)
		synctest.Wait()
		if got := s.last(); got.Progress.Step != 1000 || got.Seq != 4 {
			t.Errorf("the last of a burst did not get out: %+v", got)
		}
		if n := len(s.jobs); n < 5 || n > 7 {
			t.Errorf("%d versions in 1.25 s", n)
		}
		for i := 1; i < len(s.at); i++ {
			if gap := s.at[i].Sub(s.at[i-1]); gap < progressInterval {
				t.Errorf("gap of %v", gap)
			}
		}
		if first := s.jobs[0].Progress.Step; first > 1 {
			t.Errorf("the first waited: step %d", first)
		}
		time.Sleep(time.Hour)
		m.progress("r", 1, job.Progress{Step: 2000})
		synctest.Wait()
		if got := s.last(); got.Progress.Step != 2000 {
			t.Error("after a pause the first did not get out at once")
		}
		stop()
	})
}

func TestExplainPublishesWhatChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s seen
		m, stop := listening(s.take)
		for range 3 {
			m.explain(map[string]job.Outlook{"q": {Reason: "waits for GPU 0"}, "r": {Reason: "runs"}, "x": {Reason: "unknown"}})
			time.Sleep(time.Second)
		}
		m.explain(map[string]job.Outlook{"q": {Reason: "waits for GPU 1"}})
		time.Sleep(time.Second)
		stop()
		if len(s.jobs) != 2 || s.jobs[0].Reason != "waits for GPU 0" || s.jobs[1].Reason != "waits for GPU 1" || s.jobs[1].Seq != 2 {
			t.Errorf("published: %+v", s.jobs)
		}
	})
}

func TestExpectedIsToldAndDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s seen
		m, stop := listening(s.take)
		at := time.Now().Add(time.Minute)
		expected := &job.Expected{At: at, Early: at, Late: at}
		tell := func(e *job.Expected) {
			m.explain(map[string]job.Outlook{"q": {Expected: e}, "r": {Expected: e}})
			time.Sleep(time.Second)
		}
		tell(expected)
		tell(&job.Expected{At: at, Early: at, Late: at.In(time.FixedZone("elsewhere", 3600))}) // the same
		expected.At = at.Add(time.Hour)                                                        // the caller's memory is no longer the queue's
		if len(s.jobs) != 2 || s.jobs[0].Expected == nil || !s.jobs[1].Expected.At.Equal(at) || s.jobs[0].Reason != "" {
			t.Errorf("published: %+v", s.jobs)
		}
		m.apply(committed{jobs: []job.Job{{ID: "q", Seq: 5, State: job.Running, Attempt: 1}}}) // the transaction did not know of it
		if j, _ := m.get("q"); j.Expected == nil {
			t.Error("a start forgets when the image is expected")
		}
		m.apply(committed{jobs: []job.Job{{ID: "q", Seq: 6, State: job.Queued, Attempt: 1}}})
		if j, _ := m.get("q"); j.Expected != nil {
			t.Error("it is expected still, though it was given back")
		}
		tell(nil)
		if j, _ := m.get("r"); j.Expected != nil {
			t.Errorf("still expected: %+v", j)
		}
		stop()
	})
}

func TestNothingFollowsANewerVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s seen
		m, stop := listening(s.take)
		m.progress("r", 1, job.Progress{Step: 1})
		synctest.Wait()
		m.progress("r", 1, job.Progress{Step: 2}) // waits for its turn
		m.apply(committed{jobs: []job.Job{{ID: "r", Seq: 5, State: job.Succeeded, Attempt: 1}}})
		m.progress("r", 1, job.Progress{Step: 3})
		time.Sleep(time.Second)
		stop()
		if len(s.jobs) != 2 || s.jobs[1].State != job.Succeeded {
			t.Errorf("published: %+v", s.jobs)
		}
	})
}

// Those who watch are told that sets went before they get anything that is newer: then what they saw last is older than that.
func TestPrunedIsToldBeforeWhatIsNewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order []string
		m := newMirror(true)
		m.apply(committed{jobs: []job.Job{{ID: "a", Seq: 1, State: job.Queued}}, seq: 1})
		m.apply(committed{seq: 2, floor: 2})
		m.apply(committed{jobs: []job.Job{{ID: "b", Seq: 3, State: job.Queued}}, seq: 3})
		m.apply(committed{seq: 3, floor: 2}) // as after a failed transaction: nothing new
		last, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			m.publish(last, func(jobs []job.Job) {
				for _, j := range jobs {
					order = append(order, j.ID)
				}
			}, func() { order = append(order, "pruned") })
		}()
		synctest.Wait()
		close(last)
		<-done
		if told := slices.Index(order, "pruned"); told < 0 || told > slices.Index(order, "b") || len(order) != 3 {
			t.Errorf("told in this order: %v", order)
		}
	})
}

func TestSlowListenerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s seen
		release := make(chan struct{})
		m, stop := listening(func(jobs []job.Job) {
			<-release
			s.take(jobs)
		})
		for seq := range uint64(50) {
			m.progress("r", 1, job.Progress{Step: int(seq)})
			m.apply(committed{jobs: []job.Job{{ID: "q", Seq: 5 + seq, State: job.Queued}}})
			synctest.Wait()
		}
		close(release)
		stop()
		var seq uint64
		for _, j := range s.jobs {
			if j.ID == "q" {
				if j.Seq != max(seq+1, 5) {
					t.Errorf("event %d after %d", j.Seq, seq)
				}
				seq = j.Seq
			}
		}
		if seq != 54 {
			t.Errorf("the last event is %d", seq)
		}
		for _, j := range s.jobs {
			if j.ID == "r" && j.Progress.Step == 49 {
				return
			}
		}
		t.Error("the last progress did not get out before the end")
	})
}

func TestWithoutListenerNothingGathers(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	j := start(t, q, submit(t, q, 1)[0])
	q.Progress(j.ID, j.Attempt, job.Progress{Step: 1})
	q.mirror.mu.Lock()
	defer q.mirror.mu.Unlock()
	if n, d := len(q.mirror.outbox), len(q.mirror.dirty); n+d != 0 {
		t.Errorf("%d versions, %d marks", n, d)
	}
}
