package models

import (
	"cmp"
	"math"
	"slices"

	"muster/shared/gpu"
	"muster/shared/model"
)

// Recommend judges the catalogue for a machine, the best for it first: what fits before what does not, then by how good the images
// are and, by the root, how many of the cards can make them: one large card weighs more than several that can make small images
// alone. Those that fit nothing come in the order of what they need. It is pure.
func Recommend(devices []gpu.Device, library model.Library) []model.Recommendation {
	type ranked struct {
		model.Recommendation
		score float64
	}
	var all []ranked
	for _, k := range catalogue {
		installed := slices.ContainsFunc(library.Models, func(m model.Model) bool { return m.Name == k.modelName() && len(m.Missing) == 0 })
		r := k.judged(devices, installed)
		all = append(all, ranked{r, k.worth() * math.Sqrt(share(r.Fits))})
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.NeedBytes, b.NeedBytes))
	})
	out := make([]model.Recommendation, len(all))
	for i := range all {
		out[i] = all[i].Recommendation
	}
	return out
}

// share is how much of the machine can run it, 0 to 1. A device of which it is not known counts half.
func share(fits []model.DeviceFit) float64 {
	sum := 0.0
	for _, fit := range fits {
		switch {
		case fit.Fits == nil:
			sum += 0.5
		case *fit.Fits:
			sum++
		}
	}
	return sum / float64(max(1, len(fits)))
}
