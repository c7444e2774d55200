package sim

import (
	"context"
	"fmt"
	"strings"
)

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
