package comfyui

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
)

// probe asks the server what it is and has.
func (g *Generator) probe(ctx context.Context) (attach.Facts, error) {
	s, err := g.server.api.stats(ctx)
	if err != nil {
		return attach.Facts{}, explainProbe(err)
	}
	c, err := g.server.api.catalogue(ctx)
	if err != nil {
		return attach.Facts{}, explainProbe(err)
	}
	g.catalogue.Store(&c)
	facts := attach.Facts{Title: s.title(), CPU: s.onCPU(), Loaded: g.attached.Facts().Loaded}
	for _, e := range g.options.entries(c) {
		facts.Models = append(facts.Models, e.model(c))
	}
	if len(s.Devices) == 1 && !facts.CPU { // of several it is not told which one is used
		facts.DeviceName, facts.MemoryBytes = exchange.Clean(s.Devices[0].Name), uint64(max(0, s.Devices[0].VRAMTotal))
	}
	if !s.onCPU() && s.held() < leftOver {
		facts.Loaded = ""
	}
	return facts, nil
}

// explainProbe tells a server that answers, but is none that can be used, from one that does not answer.
func explainProbe(err error) error {
	var answered *exchange.StatusError
	switch {
	case errors.As(err, &answered) && answered.Status == 404, errors.Is(err, exchange.ErrBroken):
		return fmt.Errorf("it is no ComfyUI, or not one that answers as ComfyUI does (%w): %w", err, attach.ErrUnusable)
	case errors.As(err, &answered) && (answered.Status == 401 || answered.Status == 403):
		return fmt.Errorf("it wants a user and a password: write them before its address, as in http://user:password@127.0.0.1:8188 (%w): %w", err, attach.ErrUnusable)
	}
	return err
}
