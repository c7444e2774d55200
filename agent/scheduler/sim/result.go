package sim

import (
	"math"
	"slices"
	"time"
)

// Result is what one competitor made of one world.
type Result struct {
	Policy string
	Times  []float64 // by set: seconds until its last image had ended
	// Makespan is the seconds until the last image of all had ended, from time 0.
	Makespan float64
	MaxWait  float64 // seconds from an image's submission until the device had it that made it
	Loads    int     // of models
	NoRoom   int     // dispatches to devices without room
	Unseen   int     // of these, where telemetry could not have shown it yet
	Lost     int     // images never made
	Doubled  int     // images made twice
	Deaths   int     // of devices
	Killed   int     // images that were running then
	Made     int     // images, those made twice counted once
	// ImageErrors and SetErrors are how far predictions at submission were off: |predicted − actual| ÷ actual.
	ImageErrors, SetErrors []float64

	waits     []float64 // by set: the longest of its images'
	decisions int
	deciding  time.Duration
}

func newResult(w *World, policy string) *Result {
	return &Result{Policy: policy, Times: make([]float64, len(w.Sets)), waits: make([]float64, len(w.Sets))}
}

func (r *Result) made(i Image, times int, now, took float64) {
	if times > 1 {
		r.Doubled++
		return
	}
	r.Made++
	r.ended(i, now, now-took-i.Arrived)
}

func (r *Result) lost(i Image, now float64) {
	r.Lost++
	r.ended(i, now, now-i.Arrived)
}

func (r *Result) ended(i Image, now, wait float64) {
	r.Makespan = max(r.Makespan, now)
	r.MaxWait = max(r.MaxWait, wait)
	r.waits[i.Set] = max(r.waits[i.Set], wait)
}

// Mean gives the mean time of a set.
func (r *Result) Mean() float64 { return mean(r.Times) }

// Quantile gives the time within which that share of the sets was done.
func (r *Result) Quantile(share float64) float64 { return quantile(r.Times, share) }

// DecisionMicroseconds is how long a decision took on average, of the real clock.
func (r *Result) DecisionMicroseconds() float64 {
	if r.decisions == 0 {
		return 0
	}
	return float64(r.deciding.Nanoseconds()) / 1e3 / float64(r.decisions)
}

// mean of none is 0.
func mean(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// quantile gives the smallest value that at least that share of the values does not exceed (nearest rank); 0 for none.
func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(share*float64(len(sorted)) - 1e-9))
	return sorted[max(0, min(len(sorted), rank)-1)]
}

// pool puts runs of one competitor in different worlds together.
func pool(runs []*Result) *Result {
	all := &Result{Policy: runs[0].Policy}
	for _, r := range runs {
		all.Times = append(all.Times, r.Times...)
		all.waits = append(all.waits, r.waits...)
		all.ImageErrors = append(all.ImageErrors, r.ImageErrors...)
		all.SetErrors = append(all.SetErrors, r.SetErrors...)
		all.Makespan = max(all.Makespan, r.Makespan)
		all.MaxWait = max(all.MaxWait, r.MaxWait)
		all.Loads += r.Loads
		all.NoRoom += r.NoRoom
		all.Unseen += r.Unseen
		all.Made += r.Made
		all.Lost += r.Lost
		all.Doubled += r.Doubled
		all.Deaths += r.Deaths
		all.Killed += r.Killed
		all.decisions += r.decisions
		all.deciding += r.deciding
	}
	return all
}
