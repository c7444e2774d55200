package job

import "time"

// Expected is when an image is predicted to be done, by the wall clock of the agent. It is not durable.
type Expected struct {
	At time.Time `json:"at"` // as likely too early as too late
	// Early and Late enclose four of five images, judged by how far predictions were off before.
	Early time.Time `json:"early"`
	Late  time.Time `json:"late"`
}

// Outlook is what the scheduler says of a job without changing its state.
type Outlook struct {
	Reason   string    // why it waits, in words for people; "" leaves it as it is
	Expected *Expected // nil when nothing can be predicted
}

// SetExpected is when the last of these jobs is predicted to be done: of a set, when given all of its jobs. Those that have ended
// do not count. nil when none is left, or one can't be predicted.
func SetExpected(jobs []Job) *Expected {
	var last *Expected
	for i := range jobs {
		if jobs[i].State.Terminal() {
			continue
		}
		e := jobs[i].Expected
		if e == nil {
			return nil
		}
		if last == nil {
			latest := *e
			last = &latest
			continue
		}
		last.At, last.Early, last.Late = later(last.At, e.At), later(last.Early, e.Early), later(last.Late, e.Late)
	}
	return last
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
