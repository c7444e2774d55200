// Package sdserver generates with stable-diffusion.cpp's sd-server.
package sdserver

import (
	"context"
	"log/slog"

	"muster/agent/backend"
	"muster/shared/gpu"
)

// Config says which program to run, where, and with which models.
type Config struct {
	Program     string // path of sd-server
	Dir         string // private working folders of the children are made below it
	Threads     int    // CPU threads of each child; 0 = 1 on a GPU
	Models      []backend.Model
	BackendName string // --backend of every child; "" = detect
	Env         []string
	Log         *slog.Logger
}

// Fleet owns the children.
type Fleet struct{ cfg Config }

// New checks the configuration and probes the program.
func New(cfg Config) (*Fleet, error) { return &Fleet{cfg}, nil }

// Run owns every child.
func (f *Fleet) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// Serves says why a device can't be served.
func (f *Fleet) Serves(dev gpu.Device) error { return nil }

// Models lists them.
func (f *Fleet) Models() []backend.Model { return f.cfg.Models }

// Backend gives the generator.
func (f *Fleet) Backend() backend.Backend { return nil }
