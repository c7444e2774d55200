package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"muster/agent/backend"
	"muster/agent/models"
	"muster/agent/server"
	"muster/shared/gpu"
	"muster/shared/model"
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

// loadedOn gives the devices that hold a model.
func (p *parts) loadedOn(name string) []gpu.Ref { return p.spread.Capacity().LoadedOn(name) }

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
