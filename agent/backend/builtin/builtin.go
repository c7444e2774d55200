// Package builtin is the generator that is always there: it sketches portraits on the processor, without any AI model or download.
package builtin

import (
	"context"
	"errors"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

// ModelName and Title name the one model of this backend.
const (
	ModelName = "sketch"
	Title     = "built-in sketch renderer, no AI model"
)

// Config of a Renderer; the zero value works.
type Config struct {
	// Pace gives the steps per second of a simulated device at 512x512; nil or 0 is as fast as the processor goes.
	Pace func(dev gpu.Device) float64
	// Busy tells the simulation that a device works and what memory that takes, until done is called; may be nil.
	Busy func(deviceID string, vramBytes uint64) (done func())
}

// Renderer implements backend.Backend.
type Renderer struct{ config Config }

// New gives a Renderer.
func New(config Config) *Renderer { return &Renderer{config: config} }

// Model is the one model that a Renderer serves.
func Model() backend.Model { return backend.Model{Name: ModelName, Title: Title} }

// Name is "builtin".
func (r *Renderer) Name() string { return "builtin" }

// Generate sketches one portrait.
func (r *Renderer) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	return backend.Image{}, errors.New("not yet built")
}
