// Package builtin is the generator that is always there: it sketches portraits on the processor, in watercolour and pencil,
// without any AI model or download. What it draws follows from the words of the prompt and from the seed; the same request gives
// the same bytes.
//
// For simulated devices it is the stand-in for a real generator: fewer samples, and the time of the device that is simulated.
package builtin

import (
	"context"
	"math"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

// Name of the backend; ModelName and Title of its one model.
const (
	Name      = "builtin"
	ModelName = "sketch"
	Title     = "built-in sketch renderer, no AI model"
)

// Config of a Renderer; the zero value works.
type Config struct {
	// Pace gives the steps per second of a simulated device at 512x512, as they are when a step begins; nil or 0 is as fast as the
	// processor goes.
	Pace func(dev gpu.Device) float64
	// Busy tells the simulation that a device works and what memory that takes, until done is called; may be nil.
	Busy func(deviceID string, vramBytes uint64) (done func())
}

// Renderer implements backend.Backend. It has no state: any number of images may be made at once, each on one core.
type Renderer struct{ config Config }

// New gives a Renderer.
func New(config Config) *Renderer { return &Renderer{config: config} }

// Model is the one model that a Renderer serves.
func Model() backend.Model { return backend.Model{Name: ModelName, Title: Title} }

// Name is Name.
func (r *Renderer) Name() string { return Name }

// Generate sketches one portrait. On the CPU each step gives every pixel one more sample, and more steps mean more strokes. Sampler
// and guidance have no meaning here.
func (r *Renderer) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	steps := max(1, req.Steps)
	s := sketch{steps: steps, passes: steps}
	if dev.Simulated {
		s.passes = 1
		if r.config.Busy != nil {
			defer r.config.Busy(dev.ID, memoryFor(req.Width*req.Height))()
		}
	}
	d := compose(req.Prompt, req.NegativePrompt, req.Seed, shape(req.Width, req.Height), mix(0.6, 1.4, clamp(float64(steps)/60)))
	s.canvas = newCanvas(d, req.Width, req.Height, s.passes)
	for step := range steps {
		if dev.Simulated {
			s.step = r.stepTime(dev, req.Width*req.Height)
		}
		if err := s.do(ctx, step); err != nil {
			return backend.Image{}, err
		}
		report(job.Progress{Step: step + 1, Steps: steps})
	}
	png, err := encode(ctx, req.Width, req.Height, s.canvas.row)
	if err != nil {
		return backend.Image{}, err
	}
	return backend.Image{PNG: png}, nil
}

// Unload has nothing to free: a sketch needs no model, and a simulated device holds memory only while it works.
func (r *Renderer) Unload(context.Context, gpu.Device) error { return nil }

// stepTime is how long the simulated device takes for a step; 0 is no time of its own.
func (r *Renderer) stepTime(dev gpu.Device, pixels int) time.Duration {
	if r.config.Pace == nil {
		return 0
	}
	pace := r.config.Pace(dev)
	if pace <= 0 {
		return 0
	}
	return time.Duration(float64(pixels) / (512 * 512) / pace * float64(time.Second))
}

// memoryFor is what a diffusion model would take for such an image: 2 GiB and 4 KiB a pixel.
func memoryFor(pixels int) uint64 { return 2<<30 + uint64(pixels)<<12 }

// sketch is one image in the making.
type sketch struct {
	canvas *canvas
	steps  int
	passes int           // 1, or one per step
	step   time.Duration // that a simulated device takes; 0 for the CPU
}

// do makes one of the steps: its share of the samples and of the strokes.
func (s *sketch) do(ctx context.Context, step int) error {
	begun := time.Now()
	rows, pass := [2]int{0, s.canvas.height}, step
	if s.passes == 1 {
		rows, pass = part(s.canvas.height, step, s.steps), 0
	}
	for y := rows[0]; y < rows[1]; y++ {
		if err := s.canvas.sample(ctx, y, pass); err != nil {
			return err
		}
	}
	all := s.canvas.d.strokes
	mine := part(len(all), step, s.steps)
	for _, stroke := range all[mine[0]:mine[1]] {
		if err := s.canvas.draw(ctx, stroke); err != nil {
			return err
		}
	}
	return wait(ctx, s.step-time.Since(begun))
}

// part is the step's share of n things: from, to.
func part(n, step, steps int) [2]int {
	at := func(k int) int { return int(math.Round(float64(n) * float64(k) / float64(steps))) }
	return [2]int{at(step), at(step + 1)}
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
