package state

import (
	"slices"
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
)

// Set is the images of one command.
type Set struct {
	ID   string
	Jobs []*job.Job // by ordinal; at least one
}

// Active says whether any image of the set has not ended.
func (s Set) Active() bool {
	return slices.ContainsFunc(s.Jobs, func(j *job.Job) bool { return !j.State.Terminal() })
}

// Count gives how many images of the set are in that state.
func (s Set) Count(state job.State) int {
	n := 0
	for _, j := range s.Jobs {
		if j.State == state {
			n++
		}
	}
	return n
}

// Expected is when the last image of the set is predicted to be done; nil when nothing is left, or when one can't be predicted.
func (s Set) Expected() *job.Expected {
	jobs := make([]job.Job, len(s.Jobs))
	for i, j := range s.Jobs {
		jobs[i] = job.Job{State: j.State, Expected: j.Expected}
	}
	return job.SetExpected(jobs)
}

// Share is how many images of a set a device makes or has made.
type Share struct {
	Device gpu.Ref
	Images int
}

// Shares gives which devices the images of the set are on, by device; those that wait or ended without an image are on none.
func (s Set) Shares() []Share {
	var shares []Share
	for _, j := range s.Jobs {
		if j.DeviceID == nil || j.State != job.Running && j.State != job.Succeeded {
			continue
		}
		at, known := slices.BinarySearchFunc(shares, *j.DeviceID, func(s Share, ref gpu.Ref) int { return int(s.Device) - int(ref) })
		if !known {
			shares = slices.Insert(shares, at, Share{Device: *j.DeviceID})
		}
		shares[at].Images++
	}
	return shares
}

// Sets gives the jobs by command, newest first.
func (s State) Sets() []Set {
	var sets []Set
	for i := 0; i < len(s.Jobs); {
		end := i + 1
		for end < len(s.Jobs) && s.Jobs[end].SetID == s.Jobs[i].SetID {
			end++
		}
		sets = append(sets, Set{ID: s.Jobs[i].SetID, Jobs: s.Jobs[i:end:end]})
		i = end
	}
	return sets
}

// Images gives the jobs that have an image, newest set first.
func (s State) Images() []*job.Job {
	var done []*job.Job
	for _, j := range s.Jobs {
		if j.ImageID != "" {
			done = append(done, j)
		}
	}
	return done
}

// Job gives the job with that id; nil when the app does not know it.
func (s State) Job(id string) *job.Job {
	for _, j := range s.Jobs {
		if j.ID == id {
			return j
		}
	}
	return nil
}

// record puts a version of a job in its place. Versions are ordered by Seq; progress comes with the same Seq as before.
func (s State) record(j *job.Job) State {
	s.LastSeq = max(s.LastSeq, j.Seq)
	at, known := slices.BinarySearchFunc(s.Jobs, j, newestFirst)
	switch {
	case known && (j.Seq < s.Jobs[at].Seq || j.Attempt < s.Jobs[at].Attempt):
		return s
	case known:
		s.Jobs = slices.Clone(s.Jobs)
		s.Jobs[at] = j
	default:
		s.Jobs = slices.Insert(slices.Clip(s.Jobs), at, j)
	}
	s.Jobs = forget(s.Jobs)
	return s
}

func newestFirst(a, b *job.Job) int {
	if c := strings.Compare(b.SetID, a.SetID); c != 0 {
		return c
	}
	if a.Ordinal != b.Ordinal {
		return a.Ordinal - b.Ordinal
	}
	return strings.Compare(a.ID, b.ID)
}

// forget drops the oldest ended job when there are more than MaxJobs. Jobs that have not ended always stay.
func forget(jobs []*job.Job) []*job.Job {
	if len(jobs) <= MaxJobs {
		return jobs
	}
	for i := len(jobs) - 1; i >= 0; i-- {
		if jobs[i].State.Terminal() {
			return slices.Concat(jobs[:i], jobs[i+1:])
		}
	}
	return jobs
}
