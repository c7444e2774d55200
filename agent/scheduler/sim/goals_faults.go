package sim

import (
	"context"
	"fmt"
	"math"
	"strings"
)

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
