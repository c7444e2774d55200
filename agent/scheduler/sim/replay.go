package sim

import (
	"context"
	"math"
	"runtime"
	"sync"
)

// Replay is what competitors made of one world, as `muster bench schedule --trace` prints it.
type Replay struct {
	Policies   []Replayed    `json:"policies"`
	LowerBound ReplayedBound `json:"lower_bound"`
}

// Replayed is one competitor's part. All but DecisionUS is the same every time.
type Replayed struct {
	Policy     string  `json:"policy"`
	Sets       int     `json:"sets"`
	MeanS      float64 `json:"mean_s"`
	P50S       float64 `json:"p50_s"`
	P95S       float64 `json:"p95_s"`
	P99S       float64 `json:"p99_s"`
	MakespanS  float64 `json:"makespan_s"`
	Loads      int     `json:"loads"`
	NoRoom     int     `json:"no_room"`
	Lost       int     `json:"lost"`
	Doubled    int     `json:"doubled"`
	MaxWaitS   float64 `json:"max_wait_s"`
	DecisionUS float64 `json:"decision_us"`
}

// ReplayedBound is what no policy can beat.
type ReplayedBound struct {
	MeanS     float64 `json:"mean_s"`
	MakespanS float64 `json:"makespan_s"`
}

// ReplayAll plays a world with every competitor.
func ReplayAll(ctx context.Context, w *World, competitors []Competitor) (*Replay, error) {
	results := make([]*Result, len(competitors))
	err := each(len(competitors), func(i int) (err error) {
		results[i], err = Run(ctx, w, competitors[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	bound := LowerBound(w)
	replay := &Replay{LowerBound: ReplayedBound{micro(bound.Mean), micro(bound.Makespan)}}
	for _, r := range results {
		replay.Policies = append(replay.Policies, Replayed{
			Policy: r.Policy, Sets: len(r.Times), MeanS: micro(r.Mean()), P50S: micro(r.Quantile(.5)), P95S: micro(r.Quantile(.95)), P99S: micro(r.Quantile(.99)),
			MakespanS: micro(r.Makespan), Loads: r.Loads, NoRoom: r.NoRoom, Lost: r.Lost, Doubled: r.Doubled, MaxWaitS: micro(r.MaxWait),
			DecisionUS: r.DecisionMicroseconds(),
		})
	}
	return replay, nil
}

// micro rounds seconds to microseconds: what is beyond comes from adding up steps.
func micro(seconds float64) float64 { return math.Round(seconds*1e6) / 1e6 }

// workers is how many runs go on at a time.
const workers = 2

// each calls do for 0 to n−1, a few at a time, until one fails, and gives the first error.
func each(n int, do func(i int) error) error {
	var mu sync.Mutex
	var first error
	next := 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n && first == nil
	}
	var wait sync.WaitGroup
	for range min(workers, n, runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := do(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	return first
}
