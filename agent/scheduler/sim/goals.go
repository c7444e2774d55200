package sim

import (
	"context"
	"fmt"
	"math"
	"strings"
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

// oneSetGoals plays one set of 1 to 16 images of each model on each box, cold and warm.
func oneSetGoals(ctx context.Context, _ Seeds) ([]Goal, error) {
	var goals []Goal
	for _, warm := range []bool{false, true} {
		var w worst
		words := "cold"
		if warm {
			words = "warm"
		}
		for _, b := range Boxes {
			for _, m := range Models {
				if len(b.fits(m)) == 0 {
					continue
				}
				for n := 1; n <= 16; n++ {
					world := OneSet(b, m, n, warm)
					r, err := Run(ctx, world, Predicted)
					if err != nil {
						return nil, err
					}
					w.see(r.Mean()/LowerBound(world).Mean, "%s, %d of %s", b.Name, n, m.Name)
				}
			}
		}
		goals = append(goals, w.atMost("one set of equal images, no noise, "+words+", against the optimum", 1.005, "%.2f"))
	}
	world := OneSet(Boxes[0], Models[1], 4, true)
	var others []string
	for _, name := range []string{Baseline, "swarmui", "invokeai"} {
		c, err := Named([]string{name})
		if err != nil {
			return nil, err
		}
		r, err := Run(ctx, world, c[0])
		if err != nil {
			return nil, err
		}
		others = append(others, fmt.Sprintf("%s %.2f", name, r.Mean()/LowerBound(world).Mean))
	}
	return append(goals, Goal{What: "the same of others (4 sdxl, warm, het4)", Measured: strings.Join(others, ", "), Met: true}), nil
}

// mixedPerSeed is how many mixed worlds there are for each seed, on each box.
const mixedPerSeed = 40

// mixedGoals plays up to eight images of several sets against the least that is possible.
func mixedGoals(ctx context.Context, seeds Seeds) ([]Goal, error) {
	var ratios []float64
	var w worst
	cut := 0
	for b := range Boxes {
		for i := range mixedPerSeed * seeds.Count {
			world := Mixed(Boxes[b], seeds.seed(i))
			r, err := Run(ctx, world, Predicted)
			if err != nil {
				return nil, err
			}
			bound := LowerBound(world)
			if !bound.Exact {
				cut++
			}
			ratio := r.Mean() / bound.Mean
			ratios = append(ratios, ratio)
			w.see(ratio, "%s, seed %d", Boxes[b].Name, world.Seed)
		}
	}
	average := mean(ratios)
	note := ""
	if cut > 0 {
		note = fmt.Sprintf(", %d bounds not exact", cut)
	}
	return []Goal{
		{What: "up to 8 mixed images, against the optimum, mean", Goal: "≤ 1.05", Met: average <= 1.05, Measured: fmt.Sprintf("%.3f (%d cases%s)", average, len(ratios), note)},
		w.atMost("up to 8 mixed images, against the optimum, worst", 1.25, "%.3f"),
	}, nil
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

// deathsWanted is over how many deaths of devices nothing may be lost.
const deathsWanted = 1000

// lossGoals plays disturbed traces until enough devices have died.
func lossGoals(ctx context.Context, seeds Seeds) ([]Goal, error) {
	all := &Result{}
	for i := 0; all.Deaths < deathsWanted; i++ {
		w := Traffic(Boxes[3], Loads[i%2], seeds.Sets, seeds.seed(1000+i), true)
		r, err := Run(ctx, w, Predicted)
		if err != nil {
			return nil, err
		}
		all.Deaths += r.Deaths
		all.NoRoom += r.NoRoom
		all.Unseen += r.Unseen
		all.Lost += r.Lost
		all.Doubled += r.Doubled
		all.Killed += r.Killed
	}
	return []Goal{{
		What: "dispatches without room; images lost; made twice", Goal: "0; 0; 0", Met: all.NoRoom+all.Lost+all.Doubled == 0,
		Measured: fmt.Sprintf("%d, of which %d before telemetry could show it; %d; %d (%d deaths, %d of them during an image)", all.NoRoom, all.Unseen, all.Lost, all.Doubled, all.Deaths, all.Killed),
	}}, nil
}

// blindGoals plays het4 with telemetry that is frozen or absent.
func blindGoals(live []Scored) func(context.Context, Seeds) ([]Goal, error) {
	return func(ctx context.Context, seeds Seeds) ([]Goal, error) {
		var goals []Goal
		for _, telemetry := range []Telemetry{Frozen, Absent} {
			var cases []Case
			for _, load := range Loads {
				cases = append(cases, Case{Box: Boxes[0], Load: load, Disturbed: true, Telemetry: telemetry})
			}
			scored, err := Score(ctx, cases, []Competitor{Predicted}, seeds)
			if err != nil {
				return nil, err
			}
			var words []string
			met := true
			for i, load := range Loads {
				r, seeing := scored[i].Of(Predicted.Name), find(live, "het4", load, true)
				mine, base := seeing.Of(Predicted.Name), seeing.Of(Baseline)
				met = met && r.Mean()/base.Mean() <= blindFactor*toBaseline.mean[i] && r.Quantile(.99)/base.Quantile(.99) <= blindFactor*toBaseline.p99[i]
				words = append(words, fmt.Sprintf("%.2f/%.2f", r.Mean()/mine.Mean(), r.Quantile(.99)/mine.Quantile(.99)))
				met = met && r.Mean() <= blindFactor*mine.Mean()
			}
			goals = append(goals, Goal{
				What: fmt.Sprintf("telemetry %s, het4 disturbed, against live, mean/p99 by load", telemetry), Goal: "≤ 1.30, and within 1.3x of the goals against round-robin",
				Measured: strings.Join(words, "  "), Met: met,
			})
		}
		return goals, nil
	}
}

// priorGoals plays sets one after the other on a box whose devices' speeds were told wrong, until each device could have made five
// images, and judges the sets after that: each must take what it takes at least.
func priorGoals(ctx context.Context, seeds Seeds) ([]Goal, error) {
	var w worst
	for b := range Boxes {
		for i := range seeds.Count {
			box := Boxes[b]
			world := &World{Box: box, Models: Models[1:2], Seed: seeds.seed(i), Stale: telemetryLate, PriorError: wrongPriors, Warm: 0}
			learning := (priorImages*len(box.Devices) + 3) / 4
			for n := range learning + 4 {
				world.Sets = append(world.Sets, Set{At: float64(n) * 600, Count: 4})
			}
			r, err := Run(ctx, world, Predicted)
			if err != nil {
				return nil, err
			}
			best := OneSet(box, Models[1], 4, true)
			for n := learning; n < len(world.Sets); n++ {
				w.see(r.Times[n]/LowerBound(best).Mean, "%s, seed %d, set %d", box.Name, world.Seed, n)
			}
		}
	}
	return []Goal{w.atMost("priors wrong by 3x, after 5 images a device: a set against its optimum", 1.005, "%.2f")}, nil
}

// priorImages is how many images a device may make until wrong priors must not matter any more.
const priorImages = 5

// etaGoals judges predictions at submission.
func etaGoals(scored []Scored) func(context.Context, Seeds) ([]Goal, error) {
	return func(context.Context, Seeds) ([]Goal, error) {
		var goals []Goal
		for _, disturbed := range []bool{false, true} {
			for _, load := range Loads {
				s := find(scored, "het4", load, disturbed)
				r := s.Of(Predicted.Name)
				image, set := quantile(r.ImageErrors, .5), quantile(r.SetErrors, .5)
				g := Goal{
					What: fmt.Sprintf("%s, time predicted at submission, median error of images / sets", s), Goal: "≤ 20 % / 20 %",
					Measured: fmt.Sprintf("%.0f %% / %.0f %%", 100*image, 100*set), Met: image <= etaError && set <= etaError,
				}
				if len(r.ImageErrors) == 0 || math.IsNaN(image) {
					g.Measured, g.Met = "nothing was predicted", false
				}
				goals = append(goals, g)
			}
		}
		return goals, nil
	}
}
