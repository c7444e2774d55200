// Package ordeal puts a real agent under load, ends it as badly as a machine can, starts it again on what is left, and checks
// that nothing it had acknowledged was lost and nothing was done twice. What it acknowledged is every answer that a client got: a
// job that was accepted, a state that was shown, an image that was given out, a decision about a device that was taken.
package ordeal

import (
	"fmt"
	"slices"
	"sync"

	"muster/shared/job"
	"muster/shared/pool"
)

// Ledger is what the agents of one data folder acknowledged to their clients. Its methods may be called from any goroutine.
type Ledger struct {
	mu       sync.Mutex
	sent     map[string]*command // by prompt: every command has one of its own
	keyed    []string            // prompts of commands with a key
	jobs     map[string]*sight   // by id
	ids      []string            // of jobs, in the order in which they were acknowledged
	images   map[string]string   // job by image
	controls map[string]*decided // by device
	token    string
	unended  int // jobs that were not yet seen ended
	broken   []string
	happened func(Happening) // nil: nobody waits for something
	totals   Totals
}

// NewLedger is empty.
func NewLedger() *Ledger {
	return &Ledger{sent: map[string]*command{}, jobs: map[string]*sight{}, images: map[string]string{}, controls: map[string]*decided{}}
}

// Totals count what was done to the agents and what they acknowledged.
type Totals struct {
	Deaths     int
	Midway     int // images that were being made at a death
	Sets, Jobs int // acknowledged
	Doubtful   int // answers that a death cut off
	Repeats    int // commands sent again with their key
	Cancels    int // acknowledged
	Decisions  int // about devices, acknowledged
	Refusals   int // submissions that were refused
	Succeeded  int // as seen at the end
	Images     int // fetched whole
	Remade     int // images made a second time, with equal bytes
}

// Add gives the sum.
func (t Totals) Add(o Totals) Totals {
	return Totals{
		t.Deaths + o.Deaths, t.Midway + o.Midway, t.Sets + o.Sets, t.Jobs + o.Jobs, t.Doubtful + o.Doubtful, t.Repeats + o.Repeats, t.Cancels + o.Cancels,
		t.Decisions + o.Decisions, t.Refusals + o.Refusals, t.Succeeded + o.Succeeded, t.Images + o.Images, t.Remade + o.Remade,
	}
}

func (t Totals) String() string {
	return fmt.Sprintf("%d deaths, %d images cut off; acknowledged: %d sets, %d images, %d cancels, %d decisions; %d answers cut off, %d commands repeated, %d refused; "+
		"%d images finished, %d fetches whole, %d made again alike",
		t.Deaths, t.Midway, t.Sets, t.Jobs, t.Cancels, t.Decisions, t.Doubtful, t.Repeats, t.Refusals, t.Succeeded, t.Images, t.Remade)
}

// command is a submission.
type command struct {
	key      string // "" for none
	spec     job.Spec
	jobs     []string // as acknowledged; nil before
	created  bool     // an answer said that the jobs are new
	doubtful bool     // an answer was cut off: it may have been accepted
}

// sight is what was shown of a job.
type sight struct {
	spec      job.Spec
	newest    job.Job
	floor     uint64 // Seq that the agent before this one had shown
	cancelled bool   // somebody asked for it
	fetched   bool   // its image was given out whole
}

// decided is what was said about a device.
type decided struct {
	last    pool.Control   // acknowledged
	pending []pool.Control // sent after it, with the answer cut off
}

// Broken lists the promises that were broken, in words; empty when all were kept.
func (l *Ledger) Broken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.broken)
}

// Totals counts so far.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals
}

// maxBroken bounds a report: one fault shows in many places.
const maxBroken = 30

func (l *Ledger) breach(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(format, args...)
}

// note is breach with mu held.
func (l *Ledger) note(format string, args ...any) {
	if len(l.broken) < maxBroken {
		l.broken = append(l.broken, fmt.Sprintf(format, args...))
	}
}

func (l *Ledger) tell(h Happening) {
	l.mu.Lock()
	happened := l.happened
	l.mu.Unlock()
	if happened != nil {
		happened(h)
	}
}

// accepted notes an answer to a submission.
func (l *Ledger) accepted(prompt string, created bool, jobs []job.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.sent[prompt]
	ids := make([]string, len(jobs))
	for i := range jobs {
		ids[i] = jobs[i].ID
	}
	switch {
	case len(jobs) != c.spec.Count:
		l.note("a command for %d images got %d jobs", c.spec.Count, len(jobs))
	case c.jobs != nil && !slices.Equal(c.jobs, ids):
		l.note("key %q gave jobs %v and then %v", c.key, c.jobs, ids)
	case !created && c.key == "":
		l.note("a command without key is said to be known: %v", ids)
	case created && c.created:
		l.note("key %q made jobs %v twice", c.key, ids)
	case c.jobs == nil:
		c.jobs = ids
		l.totals.Sets++
		l.totals.Jobs += len(ids)
	}
	c.created = c.created || created
	for i := range jobs {
		if want := *c.spec.Seed + int64(i); jobs[i].Seed != want || jobs[i].Ordinal != i {
			l.note("job %s has seed %d and is number %d of its set: want seed %d, number %d", jobs[i].ID, jobs[i].Seed, jobs[i].Ordinal, want, i)
		}
		if l.jobs[jobs[i].ID] == nil {
			l.jobs[jobs[i].ID] = &sight{spec: c.spec}
			l.ids = append(l.ids, jobs[i].ID)
			l.unended++
		}
		l.look(jobs[i])
	}
}

// see notes a version of a job that an answer showed.
func (l *Ledger) see(j job.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(j)
}

// look is see with mu held. Answers overtake one another: an older version is no fault, unless it is older than what an agent
// before had shown.
func (l *Ledger) look(j job.Job) {
	s := l.jobs[j.ID]
	if s == nil {
		return // its command's answer was cut off, or is still to come
	}
	old := s.newest
	switch {
	case old.ID == "":
		s.newest = j
	case j.Seed != old.Seed || j.SetID != old.SetID:
		l.note("job %s had seed %d in set %s and has %d in %s", j.ID, old.Seed, old.SetID, j.Seed, j.SetID)
	case j.Seq < s.floor:
		l.note("job %s was shown %s (event %d) before a restart and is %s (event %d) after it", j.ID, old.State, old.Seq, j.State, j.Seq)
	case j.Seq < old.Seq:
		return
	case j.Seq == old.Seq && (j.State != old.State || j.Attempt != old.Attempt || j.ImageID != old.ImageID):
		l.note("event %d of job %s is %s at attempt %d, and is %s at attempt %d", j.Seq, j.ID, old.State, old.Attempt, j.State, j.Attempt)
	case j.Attempt < old.Attempt:
		l.note("job %s went back from attempt %d to %d", j.ID, old.Attempt, j.Attempt)
	case old.State.Terminal() && j.Seq > old.Seq:
		l.note("job %s was %s and is %s", j.ID, old.State, j.State)
	}
	if j.Failures > 0 || j.State == job.Failed {
		l.note("job %s is %s with %d failures, though no device or generator died by itself: %s", j.ID, j.State, j.Failures, j.Error)
	}
	if j.State == job.Cancelled && !s.cancelled {
		l.note("job %s is cancelled, and nobody asked for that", j.ID)
	}
	s.newest = j
	if j.State.Terminal() && !old.State.Terminal() {
		l.unended--
		l.ended(j)
	}
}

// ended notes the first sight of an end.
func (l *Ledger) ended(j job.Job) {
	switch {
	case j.State != job.Succeeded:
	case j.ImageID == "":
		l.note("job %s succeeded without an image", j.ID)
	case l.images[j.ImageID] != "":
		l.note("jobs %s and %s have one image", l.images[j.ImageID], j.ID)
	default:
		l.images[j.ImageID] = j.ID
		l.totals.Succeeded++
	}
}

// restarted tells that the agent is a new one: whatever was shown before must still hold.
func (l *Ledger) restarted(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token != "" && l.token != token {
		l.note("the token has changed: programs that had it are locked out")
	}
	l.token = token
	for _, s := range l.jobs {
		s.floor = s.newest.Seq
	}
}
