package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"muster/agent/backend"
	"muster/agent/models"
	"muster/agent/server"
	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// openLibrary opens the models folder and shows the generators where its models stand.
func (p *parts) openLibrary(config Config, hardware Hardware, log *slog.Logger) error {
	hub, err := models.ParseHub(config.Hub)
	if err != nil {
		return err
	}
	p.library, err = models.Open(models.Config{
		Dir: config.ModelsDir(), Make: config.Models == "", State: filepath.Join(config.Data, "models.json"), Hub: hub, Token: config.HubToken,
		Loaded: p.loadedOn, Load: p.load, Publish: func(now model.Library) { p.feed.Library(&now) }, Changed: p.wake, Log: log,
	})
	if err == nil && hardware.Models != nil {
		hardware.Models(p.library.Usable, p.library.Barred)
	}
	return err
}

// loadedOn gives the devices that hold a model's file. Generators that somebody else runs hold one of their own.
func (p *parts) loadedOn(name string) []gpu.Ref { return holders(p.spread.Capacity(), name) }

func holders(capacity wire.Capacity, name string) []gpu.Ref {
	return slices.DeleteFunc(capacity.LoadedOn(name), func(ref gpu.Ref) bool {
		return slices.ContainsFunc(capacity.Generators, func(g wire.Generator) bool { return g.Attached && g.Device != nil && *g.Device == ref })
	})
}

// load has a model on a device when it returns.
func (p *parts) load(ctx context.Context, name string, ref gpu.Ref) error {
	if ref == gpu.CPU {
		return p.spread.Load(ctx, name, backend.CPU())
	}
	if inventory := p.sampler.Inventory(); inventory != nil {
		if device, ok := inventory.Device(ref); ok {
			return p.spread.Load(ctx, name, device)
		}
	}
	return fmt.Errorf("device %s: %w", ref, server.ErrNoDevice)
}
