package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// Query asks what a metric of a device was between two times.
type Query struct {
	ID       string // Device.ID
	Metric   gpu.Metric
	From, To time.Time
	Points   int // at most so many are answered; 1 to MaxPoints
}

// MaxPoints bounds an answer.
const MaxPoints = 5000

// Series is the past of one metric. The columns have one value per Step, the first of which begins at Start; NaN is where nothing
// was measured. Min and Max are of everything measured in that time, Mean is weighted by the number of measurements.
type Series struct {
	Start          time.Time // UTC
	Step           time.Duration
	Resolution     string // of what is kept for that range: "full", "10s" or "1m"
	Min, Mean, Max wire.Column
}

var (
	// ErrUnknown says that nothing was ever recorded of the device, or nothing for the last 30 days. It wraps fs.ErrNotExist.
	ErrUnknown = fmt.Errorf("history: nothing is known of that device: %w", fs.ErrNotExist)
	// ErrBusy says that the disk has not answered in time. It wraps context.DeadlineExceeded.
	ErrBusy = fmt.Errorf("history: the disk does not answer: %w", context.DeadlineExceeded)
)

// answerWithin is how long a question waits for the disk.
const answerWithin = 2 * time.Second

// Query answers from the finest tier that reaches back to From, in steps that are a multiple of what it keeps and that fit into
// Points. What is older than 30 days or not over yet is left out, so a range may come back shorter, down to no points at all.
// Errors: ErrUnknown, ErrBusy, those of reading, and of questions that make no sense.
func (s *Store) Query(q Query) (Series, error) {
	if q.Metric.Unit() == "" || q.Points < 1 || q.Points > MaxPoints || !q.From.Before(q.To) {
		return Series{}, errors.New("history: want a known metric, from before to, and 1 to 5000 points")
	}
	now := time.Now().Round(0)
	q.From, q.To = q.From.UTC().Round(0), q.To.UTC().Round(0)
	if oldest := now.Add(-tiers[len(tiers)-1].span()); q.From.Before(oldest) {
		q.From = oldest
	}
	if q.To.After(now) {
		q.To = now
	}
	if chosen := s.choose(q, now); chosen >= 0 {
		series, err := s.askDisk(q, chosen)
		if err == nil || now.Sub(q.From) > recentWindow+recentSlack || !s.knows(q.ID) {
			return series, err
		}
		// A disk that can't be used takes the time before this start with it, not what was measured since.
	}
	return s.askMemory(q)
}

// knows says whether the device is in memory.
func (s *Store) knows(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.devices[id] != nil
}

// choose gives the finest tier that reaches back far enough; -1 is memory.
func (s *Store) choose(q Query, now time.Time) int {
	age := now.Sub(q.From)
	if s.disk == nil || s.knows(q.ID) && age <= recentWindow+recentSlack && !q.From.Before(s.began) {
		return -1
	}
	for i, t := range tiers {
		if age <= t.span() {
			return i
		}
	}
	return len(tiers) - 1
}

// grid divides a range into steps.
type grid struct {
	start time.Time
	step  time.Duration
	spans []span
}

// newGrid makes steps of a multiple of resolution, at most points. They begin at multiples of their length after zero, so that
// the same question a moment later divides time in the same way.
func newGrid(q Query, resolution time.Duration, zero time.Time) grid {
	down := func(t time.Time, step time.Duration) time.Time {
		rest := t.Sub(zero) % step
		if rest < 0 {
			rest += step
		}
		return t.Add(-rest)
	}
	up := func(d time.Duration) time.Duration { return max((d+resolution-1)/resolution, 1) * resolution }
	width := q.To.Sub(q.From)
	if width <= 0 {
		return grid{start: q.To.UTC(), step: resolution}
	}
	g := grid{start: down(q.From, resolution)}
	if q.Points == 1 {
		g.step = up(q.To.Sub(g.start))
	} else {
		g.step = up((width + time.Duration(q.Points) - 2) / time.Duration(q.Points-1))
		g.start = down(q.From, g.step)
	}
	g.start = g.start.UTC()
	g.spans = make([]span, int((q.To.Sub(g.start)+g.step-1)/g.step))
	return g
}

// add counts in what was measured at that time, or from that time on.
func (g *grid) add(at time.Time, s span) {
	if at.Before(g.start) || s.count == 0 {
		return
	}
	if i := int(at.Sub(g.start) / g.step); i < len(g.spans) {
		g.spans[i] = g.spans[i].with(s)
	}
}

func (g *grid) series(resolution string, metric gpu.Metric) Series {
	n := len(g.spans)
	result := Series{Start: g.start, Step: g.step, Resolution: resolution, Min: make(wire.Column, n), Mean: make(wire.Column, n), Max: make(wire.Column, n)}
	parts := 100.0 // what is kept is single precision: more digits are noise
	if metric == gpu.MetricMemory {
		parts = 1
	}
	for i, s := range g.spans {
		if s.count == 0 {
			s = span{math.NaN(), math.NaN(), math.NaN(), 0}
		}
		result.Min[i], result.Mean[i], result.Max[i] = math.Round(s.min*parts)/parts, math.Round(s.mean*parts)/parts, math.Round(s.max*parts)/parts
	}
	return result
}

func (s *Store) askMemory(q Query) (Series, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.devices[q.ID]
	if p == nil {
		return Series{}, ErrUnknown
	}
	// The newest measurement lies in the middle of its step, so that jitter does not move others into neighbouring ones.
	g := newGrid(q, s.interval, s.wall(p.measured).Add(-s.interval/2))
	p.recent.since(s.clock-recentWindow-recentSlack, func(m *measurement) { g.add(s.wall(m.at), m.of(q.Metric)) })
	return g.series("full", q.Metric), nil
}

// question is a Query on its way to the disk, and back.
type question struct {
	Query
	tier  int
	open  row // what of the tier is not complete; empty when there is none
	known bool
	reply chan reply // with room for the answer
}

type reply struct {
	series Series
	err    error
}

func (s *Store) askDisk(q Query, tier int) (Series, error) {
	timeout := time.NewTimer(answerWithin)
	defer timeout.Stop()
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-timeout.C:
		return Series{}, ErrBusy
	}
	ask := &question{Query: q, tier: tier, reply: make(chan reply, 1)}
	if !s.enqueue(ask) {
		return Series{}, ErrBusy
	}
	select {
	case r := <-ask.reply:
		return r.series, r.err
	case <-timeout.C:
		return Series{}, ErrBusy
	case <-s.ended:
		return Series{}, ErrBusy
	}
}

// enqueue sends a question together with the row that is not complete yet: what was complete before is ahead of it in the queue.
func (s *Store) enqueue(ask *question) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.devices[ask.ID]; p != nil {
		ask.open, ask.known = p.open[ask.tier], true
	}
	select {
	case s.orders <- order{question: ask}:
		return true
	default:
		return false
	}
}

// answer reads the rows of a question.
func (d *disk) answer(ask *question) reply {
	t := tiers[ask.tier]
	g := newGrid(ask.Query, t.step, time.Unix(0, 0))
	r, err := d.ring(ringKey{ask.ID, ask.tier}, false)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !ask.known:
		return reply{err: ErrUnknown}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return reply{err: err}
	case err == nil && len(g.spans) > 0:
		r.used = time.Now()
		column := columnOf[ask.Metric]
		err := r.read(t.slot(g.start), t.slot(ask.To)+1, d.buffer, func(slot int64, b []byte) {
			g.add(t.time(slot), inUnitOf(ask.Metric, decodeSpan(b, column), decodeTotal(b)))
		})
		if err != nil {
			return reply{err: err}
		}
	}
	g.add(t.time(ask.open.slot), ask.open.of(ask.Metric))
	return reply{series: g.series(t.name, ask.Metric)}
}
