package scheduler

import (
	"math"
	"slices"
	"time"

	"muster/shared/job"
)

// accuracy is how far predictions were off: the newest ratios of what it took to what was predicted, apart for images whose wait was
// predicted when they were submitted and for images that had started.
type accuracy struct {
	queued, started ratios
}

func newAccuracy() *accuracy {
	return &accuracy{queued: ratios{prior: 2}, started: ratios{prior: 1.4}}
}

// ratios keeps the newest ratios of actual to predicted times, as logarithms.
type ratios struct {
	prior  float64 // the factor by which it may be off, until enough is known
	values []float64
	next   int
	// Of values, kept up to date by add.
	early, middle, late float64 // as factors
}

const (
	ratiosKept   = 64
	ratiosNeeded = 8   // for quantiles that mean something
	ratioLimit   = 3.0 // as a logarithm: a factor of 20
)

func (r *ratios) add(ratio float64) {
	v := math.Log(ratio)
	if math.IsNaN(v) {
		return
	}
	v = max(-ratioLimit, min(ratioLimit, v))
	if len(r.values) < ratiosKept {
		r.values = append(r.values, v)
	} else {
		r.values[r.next%ratiosKept] = v
	}
	r.next++
	sorted := slices.Sorted(slices.Values(r.values))
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+0.5)] }
	r.early, r.middle, r.late = math.Exp(at(0.1)), math.Exp(at(0.5)), math.Exp(at(0.9))
}

// expect turns predicted seconds into times: four of five images lie between early and late.
func (r *ratios) expect(now time.Time, seconds float64) *job.Expected {
	if !(seconds >= 0 && seconds < never) {
		return nil
	}
	early, middle, late := 1/r.prior, 1.0, r.prior
	if len(r.values) >= ratiosNeeded {
		early, middle, late = r.early, r.middle, r.late
	}
	in := func(factor float64) time.Time {
		return now.Add(time.Duration(seconds * factor * float64(time.Second))).Truncate(time.Millisecond).UTC()
	}
	return &job.Expected{At: in(middle), Early: in(early), Late: in(late)}
}
