// Package backend says what a generator of images is to muster: one method that turns a request into a PNG on one device.
//
// It is a leaf: the scheduler calls the interface, the packages below implement it, and none of them knows the others.
package backend

import (
	"context"
	"errors"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/sampler"
)

// What the scheduler branches on. Every other error is final for the job, and its text is shown to a person.
var (
	// ErrUnavailable is wrapped when the generator or its device died or can't be reached: the job is tried again elsewhere.
	ErrUnavailable = errors.New("generator is unavailable")
	// ErrOutOfMemory is wrapped when the device has no room for the job: it is tried again elsewhere.
	ErrOutOfMemory = errors.New("no room on the device")
)

// Backend makes images on one kind of device.
type Backend interface {
	// Name is what a job shows as its backend: "builtin", "sdserver", "comfyui", "sdapi", "openai".
	Name() string
	// Generate makes one image on dev and blocks until it is done. report may be called from its goroutine at any rate, and
	// never after Generate has returned. When ctx ends it returns context.Cause(ctx) promptly; a cause that wraps ErrUnavailable
	// gives up the device or the generator itself, and what it holds there is freed soon after. At most one call per device runs at
	// a time; calls for different devices run side by side.
	Generate(ctx context.Context, dev gpu.Device, req Request, report func(job.Progress)) (Image, error)
}

// Unloader is a Backend that keeps models in device memory between images.
type Unloader interface {
	// Unload frees what the backend holds on dev; nil when there was nothing. It is never called while Generate runs on dev, and
	// the next Generate loads again.
	Unload(ctx context.Context, dev gpu.Device) error
}

// Loader is a Backend that can load a model before it is asked for an image.
type Loader interface {
	// Load has the model in dev's memory when it returns. It is never called while Generate or Unload runs on dev, nor they while it
	// runs. Errors are those of Generate.
	Load(ctx context.Context, dev gpu.Device, model string) error
}

// Request is one image to make. The same request gives the same image wherever the generator can promise that.
type Request struct {
	JobID   string
	Attempt int // rises with every start of the job

	Prompt         string // never logged, never in a program's arguments
	NegativePrompt string
	Model          string // a Model.Name
	Sampler        string // "" is the generator's own default
	Seed           int64
	Width, Height  int // pixels
	Steps          int
	Guidance       float64 // classifier-free guidance scale

	// Preview takes a picture of the unfinished image, at any rate, under the rules of report; nil when nobody wants any.
	Preview func(Preview)
}

// Preview is a picture of an unfinished image.
type Preview struct {
	Data []byte // a whole file, at most MaxPreviewBytes; nobody changes it afterwards
	Type string // "image/jpeg" or "image/png"
}

// MaxPreviewBytes bounds a Preview; larger ones are dropped.
const MaxPreviewBytes = 1 << 20

// Image is a finished image.
type Image struct {
	PNG []byte // a complete PNG file
}

// Model is something that a backend can make images with.
type Model struct {
	Name  string // unique on this machine; what a job asks for
	Title string // for people
	// Family is its architecture, as far as that is known.
	Family model.Family
	Path   string // of its file; "" when it has none. It is never shown.
	Bytes  int64  // of its file; 0 when it has none, or when that is not known
	// Parts are further files that it can't be used without; nil for a whole model.
	Parts []Part
	// VRAMBytes estimates the device memory it needs for an image of one megapixel; 0 when it needs none, or when the generator
	// makes room by itself.
	VRAMBytes uint64
	// Refused says that the generator could not load it and does not try it now: it is nobody's default.
	Refused bool
	// Grid says that the sides of its images are whole multiples of so many pixels; 0 and 1 are any.
	Grid int
	// Samplers are those that it can be told to use; nil when they are not known before it is tried. Nobody changes them.
	Samplers *sampler.List
}

// Part is a file that completes a model.
type Part struct {
	Kind  model.Part
	Path  string // never shown
	Bytes int64
}

// Guidance gives what a guidance that was asked for is for this model: the classifier-free scale, and the number of its own that a
// distilled model has beside it, nil for none.
func (m Model) Guidance(asked float64) (scale float64, own *float64) {
	switch {
	case m.Family.OwnGuidance():
		return 1, &asked
	case model.Unguided(m.Family, m.Name):
		return 1, nil
	}
	return asked, nil
}

// CPU gives the pseudo device that stands for the processor in calls of Generate.
func CPU() gpu.Device { return gpu.Device{ID: "cpu", Index: gpu.CPU, Name: "CPU"} }
