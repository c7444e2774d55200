package sim

import (
	"fmt"
	"slices"
	"strings"
)

// Baseline is the policy that the others are compared with.
const Baseline = "round-robin"

// Others are the policies of other programs and of textbooks.
var Others = []Competitor{
	{Name: Baseline, New: binding(roundRobin)},
	{Name: "least-loaded", New: pulling(leastLoaded)},
	{Name: "random", New: binding(tossed)},
	{Name: "jsq", New: binding(shortestQueue)},
	{Name: "sed", New: binding(shortestDelay)},
	{Name: "swarmui", New: func(*World) Policy { return &swarmUI{} }},
	{Name: "invokeai", New: pulling(invokeAI)},
	{Name: "mold", New: func(*World) Policy { return &mold{} }},
	{Name: "mold-spread", New: func(*World) Policy { return &mold{spread: true} }},
	{Name: "ollama", New: func(*World) Policy { return &ollama{} }},
}

func binding(choose func(b *bound, m *Machine, image, turn int, able []int) int) func(*World) Policy {
	return func(*World) Policy { return &bound{choose: choose} }
}

func pulling(next func(p *pulled, m *Machine) (Order, int, bool)) func(*World) Policy {
	return func(*World) Policy { return &pulled{next: next} }
}

// All are all competitors, muster's own first.
func All() []Competitor { return append([]Competitor{Predicted}, Others...) }

// Named gives the competitors of those names; none gives all.
func Named(names []string) ([]Competitor, error) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []Competitor
	for _, name := range names {
		at := slices.IndexFunc(all, func(c Competitor) bool { return c.Name == name })
		if at < 0 {
			known := make([]string, len(all))
			for i, c := range all {
				known[i] = c.Name
			}
			return nil, fmt.Errorf("policy %q is not simulated: choose among %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}
