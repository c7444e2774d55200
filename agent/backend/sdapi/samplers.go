package sdapi

import (
	"context"
	"errors"

	"muster/agent/backend/exchange"
	"muster/shared/sampler"
)

// choice gives the samplers of the program.
func (g *Generator) choice() *sampler.List {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.samplers
}

// learnSamplers asks for the samplers, and for the schedules that may stand behind them. A program that does not tell has none.
func (g *Generator) learnSamplers(ctx context.Context, p program) (*sampler.List, error) {
	var known []struct {
		Name    string
		Aliases []string
	}
	list := &sampler.List{}
	if told, err := g.list(ctx, "/sdapi/v1/samplers", &known); !told {
		return list, err
	}
	for _, one := range known[:min(len(known), maxSamplers)] {
		if one.Name != "" {
			list.Samplers = append(list.Samplers, sampler.Name{Own: one.Name, Aliases: one.Aliases[:min(len(one.Aliases), maxAliases)]})
		}
	}
	if !p.web {
		return list, nil
	}
	var schedules []struct{ Name, Label string }
	if told, err := g.list(ctx, "/sdapi/v1/schedulers", &schedules); !told { // before 1.9 there were none apart from samplers
		return list, err
	}
	for _, one := range schedules[:min(len(schedules), maxSamplers)] {
		if one.Label != "" {
			list.Schedules = append(list.Schedules, sampler.Name{Own: one.Label, Aliases: []string{one.Name}})
		}
	}
	return list, nil
}

// list asks for a list; told is false when the program has none. A program that fails to tell now is asked again.
func (g *Generator) list(ctx context.Context, path string, out any) (told bool, err error) {
	err = g.get(ctx, path, out)
	if code := exchange.StatusOf(err); code >= 400 && code < 500 || errors.Is(err, exchange.ErrBroken) {
		return false, nil
	}
	return err == nil, err
}

// maxSamplers bounds how many names of samplers are used, and maxAliases how many others each may have.
const (
	maxSamplers = 500
	maxAliases  = 8
)
