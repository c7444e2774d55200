package sim

import (
	"context"
	"fmt"
)

// Goal is one row of the benchmark's table: what was wanted, and what was measured.
type Goal struct {
	What     string `json:"what"`
	Goal     string `json:"goal"`     // "" for a figure without one
	Measured string `json:"measured"` // with the case that was worst, where there are several
	Met      bool   `json:"met"`
}

// Report is the benchmark's outcome.
type Report struct {
	Goals []Goal    `json:"goals"`
	Cases []Figures `json:"cases"`
}

// limits are goals by load.
type limits struct{ mean, p99 [3]float64 }

var (
	toBaseline  = limits{mean: [3]float64{.50, .32, .28}, p99: [3]float64{.65, .45, .38}}
	toBound     = [3]float64{1.65, 2.1, 2.9}
	bestMean    = .85
	bestP99     = .90
	blindFactor = 1.3
	etaError    = .20
)

// allCases are the traces of the benchmark: every box and load, undisturbed and disturbed.
func allCases() []Case {
	var cases []Case
	for _, disturbed := range []bool{false, true} {
		for _, b := range Boxes {
			for _, load := range Loads {
				cases = append(cases, Case{Box: b, Load: load, Disturbed: disturbed})
			}
		}
	}
	return cases
}

// RunGoals measures every goal of BENCHMARKS.md 1.
func RunGoals(ctx context.Context, seeds Seeds) (*Report, error) {
	report := &Report{}
	for _, part := range []func(context.Context, Seeds) ([]Goal, error){oneSetGoals, mixedGoals} {
		goals, err := part(ctx, seeds)
		if err != nil {
			return nil, err
		}
		report.Goals = append(report.Goals, goals...)
	}
	scored, err := Score(ctx, allCases(), All(), seeds)
	if err != nil {
		return nil, err
	}
	for i := range scored {
		report.Cases = append(report.Cases, scored[i].Figures()...)
	}
	report.Goals = append(report.Goals, traceGoals(scored)...)
	for _, part := range []func(context.Context, Seeds) ([]Goal, error){lossGoals, decisionGoals, blindGoals(scored), priorGoals, etaGoals(scored)} {
		goals, err := part(ctx, seeds)
		if err != nil {
			return nil, err
		}
		report.Goals = append(report.Goals, goals...)
	}
	return report, nil
}

// worst keeps the largest value and where it was seen.
type worst struct {
	value float64
	where string
}

func (w *worst) see(value float64, where string, args ...any) {
	if w.where == "" || value > w.value {
		w.value, w.where = value, fmt.Sprintf(where, args...)
	}
}

// atMost is a goal whose worst value must not be above a limit.
func (w *worst) atMost(what string, limit float64, format string) Goal {
	return Goal{
		What: what, Goal: "≤ " + fmt.Sprintf(format, limit), Met: w.value <= limit+1e-9,
		Measured: fmt.Sprintf(format, w.value) + " (" + w.where + ")",
	}
}

// traceGoals judges the traces.
func traceGoals(scored []Scored) []Goal {
	var goals []Goal
	for i, load := range Loads {
		s := find(scored, "het4", load, true)
		r, base := s.Of(Predicted.Name), s.Of(Baseline)
		ratio, tail := r.Mean()/base.Mean(), r.Quantile(.99)/base.Quantile(.99)
		goals = append(goals, Goal{
			What:     fmt.Sprintf("%s, against round-robin, mean / p99", s),
			Goal:     fmt.Sprintf("≤ %.2f / %.2f", toBaseline.mean[i], toBaseline.p99[i]),
			Measured: fmt.Sprintf("%.2f / %.2f", ratio, tail), Met: ratio <= toBaseline.mean[i] && tail <= toBaseline.p99[i],
		})
	}
	for _, box := range []string{"het4", "hom4"} {
		for _, load := range Loads {
			s := find(scored, box, load, true)
			ratio, tail, words := s.againstBest()
			goals = append(goals, Goal{
				What: fmt.Sprintf("%s, against the best other, mean / p99", s), Goal: fmt.Sprintf("≤ %.2f / %.2f", bestMean, bestP99),
				Measured: words, Met: ratio <= bestMean && tail <= bestP99,
			})
		}
	}
	var mean, tail worst
	for i := range scored {
		ratio, p99, words := scored[i].againstBest()
		mean.see(ratio, "%s: %s", scored[i], words)
		tail.see(p99, "%s: %s", scored[i], words)
	}
	goals = append(goals, mean.atMost("any box and load, against the best other, mean", 1, "%.2f"), tail.atMost("any box and load, against the best other, p99", 1, "%.2f"))
	for i, load := range Loads {
		s := find(scored, "het4", load, false)
		ratio := s.Of(Predicted.Name).Mean() / s.Bound
		other, policy := s.BestOther((*Result).Mean)
		goals = append(goals, Goal{
			What: fmt.Sprintf("%s, against the lower bound", s), Goal: fmt.Sprintf("≤ %.2f", toBound[i]), Met: ratio <= toBound[i],
			Measured: fmt.Sprintf("%.2f (%s %.2f)", ratio, policy, other/s.Bound),
		})
	}
	for _, disturbed := range []bool{false, true} {
		s := find(scored, "het4", .85, disturbed)
		value := s.patience(s.Of(Predicted.Name))
		goals = append(goals, Goal{
			What: fmt.Sprintf("%s, longest wait beyond 120 s, in optima of the set", s), Goal: "≤ 10", Measured: fmt.Sprintf("%.1f", value), Met: value <= 10,
		})
	}
	return goals
}

// againstBest gives mean and p99 relative to the best other policy of each.
func (s *Scored) againstBest() (mean, p99 float64, words string) {
	r := s.Of(Predicted.Name)
	tail := func(r *Result) float64 { return r.Quantile(.99) }
	least, name := s.BestOther((*Result).Mean)
	leastTail, tailName := s.BestOther(tail)
	mean, p99 = r.Mean()/least, tail(r)/leastTail
	return mean, p99, fmt.Sprintf("%.2f / %.2f (%s, %s)", mean, p99, name, tailName)
}

func find(scored []Scored, box string, load float64, disturbed bool) *Scored {
	for i := range scored {
		if s := &scored[i]; s.Box.Name == box && s.Load == load && s.Disturbed == disturbed && s.Telemetry == Live {
			return s
		}
	}
	panic("sim: no such case: " + box)
}
