package sdapi

import (
	"context"
	"fmt"
	"strings"

	"muster/agent/backend/exchange"
)

// samplers are those that a server knows; nil before it was asked.
type samplers struct {
	known      []sampler
	schedulers []scheduler
}

type sampler struct {
	Name    string
	Aliases []string
}

type scheduler struct{ Name, Label string }

// canonical makes one of the spellings that programs and people use for a sampler: "Euler a", "euler_a", "k_euler_ancestral";
// "DPM++ 2M", "dpm++2m", "dpmpp_2m".
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.TrimPrefix(strings.NewReplacer("-", "_", " ", "_").Replace(name), "k_")
	return strings.NewReplacer("ancestral", "a", "dpmpp", "dpm++", "_", "").Replace(name)
}

// find gives the program's own name of a sampler, and the scheduler that stands behind it, as in "DPM++ 2M Karras"; false when it
// is none of the program's.
func (s samplers) find(wanted string) (name, schedule string, ok bool) {
	if name, ok := s.named(canonical(wanted)); ok {
		return name, "", true
	}
	for _, one := range s.schedulers {
		for _, label := range []string{one.Label, one.Name} {
			first, ok := strings.CutSuffix(canonical(wanted), canonical(label))
			if !ok || first == "" || label == "" {
				continue
			}
			if name, ok := s.named(first); ok {
				return name, one.Label, true
			}
		}
	}
	return "", "", false
}

func (s samplers) named(wanted string) (string, bool) {
	for _, one := range s.known {
		if canonical(one.Name) == wanted {
			return one.Name, true
		}
		for _, alias := range one.Aliases {
			if canonical(alias) == wanted {
				return one.Name, true
			}
		}
	}
	return "", false
}

func (s samplers) list() string {
	var names []string
	for _, one := range s.known {
		names = append(names, one.Name)
	}
	return exchange.Clean(strings.Join(names, ", "))
}

// sampler translates the name that a job asks for. Most programs take their default for one that they do not know, without a word, so
// it is refused here. The caller has the turn.
func (g *Generator) sampler(ctx context.Context, p program, wanted string) (name, schedule string, err error) {
	if wanted == "" {
		return "", "", nil
	}
	if name, schedule, ok := g.samplers.find(wanted); ok {
		return name, schedule, nil
	}
	var found samplers
	if err := g.get(ctx, "/sdapi/v1/samplers", &found.known); err != nil {
		return "", "", g.explain(err)
	}
	if p.web {
		_ = g.get(ctx, "/sdapi/v1/schedulers", &found.schedulers) // before 1.9 there were none apart from samplers
	}
	g.samplers = found
	if name, schedule, ok := found.find(wanted); ok {
		return name, schedule, nil
	}
	return "", "", fmt.Errorf("sampler %q is not known to %s: choose one of %s, or none", wanted, p.name, found.list())
}
