// Package model holds the nouns of image models: what is installed on a machine, what is being installed, and whether it fits a
// device.
//
// It is a leaf: it imports only the standard library and shared/gpu, and compiles for js/wasm.
package model

import (
	"time"

	"muster/shared/gpu"
)

// Family is the architecture of a model. What a generator needs besides the model's own file, and how it is asked, depends on it.
type Family string

// The families that muster tells apart. Unknown is any other: it is offered, and a generator may still refuse it.
const (
	Unknown   Family = ""
	SD1       Family = "sd1"    // Stable Diffusion 1.x
	SD2       Family = "sd2"    // Stable Diffusion 2.x
	SDXL      Family = "sdxl"   // SDXL, Pony, Illustrious, Turbo and the like
	SD3       Family = "sd3"    // Stable Diffusion 3 and 3.5
	Flux      Family = "flux"   // FLUX.1
	Chroma    Family = "chroma" // Chroma1
	QwenImage Family = "qwen-image"
	ZImage    Family = "z-image"
)

// Title is the family's own name, for people; "unknown family" for Unknown.
func (f Family) Title() string {
	switch f {
	case SD1:
		return "Stable Diffusion 1"
	case SD2:
		return "Stable Diffusion 2"
	case SDXL:
		return "SDXL"
	case SD3:
		return "Stable Diffusion 3"
	case Flux:
		return "FLUX.1"
	case Chroma:
		return "Chroma"
	case QwenImage:
		return "Qwen-Image"
	case ZImage:
		return "Z-Image"
	}
	return "unknown family"
}

// Model is a model file of the machine's library.
type Model struct {
	// Name is what a job asks for; unique on the machine and never a path.
	Name   string `json:"name"`
	Title  string `json:"title"` // for people
	Family Family `json:"family,omitempty"`
	Format string `json:"format,omitempty"` // "safetensors" or "gguf"
	Bytes  int64  `json:"bytes"`            // of its file
	// VRAMBytes estimates the device memory for an image of one megapixel.
	VRAMBytes uint64 `json:"vram_bytes,omitempty"`
	// Disabled keeps it from being generated with, until somebody enables it again.
	Disabled bool `json:"disabled,omitempty"`
	// SHA256 of the file in hex, where it was installed by muster; "" when it was not.
	SHA256 string `json:"sha256,omitempty"`
	// Partial says that it is no whole checkpoint: a generator needs further files (text encoders, VAE) beside it. With names those
	// that are there, Missing says in words which are not; both are empty where it is not known what it takes.
	Partial bool     `json:"partial,omitempty"`
	With    []string `json:"with,omitempty"`
	Missing []string `json:"missing,omitempty"`
	// Scaled says that its weights are of 8 bits or fewer with scales beside them that sd-server can't read; ComfyUI can.
	Scaled bool `json:"scaled,omitempty"`
	// Part says that it is no model, but a part of others.
	Part Part `json:"part,omitempty"`
	// Problem is why it can't be used, in words for people: "the file is cut short". "" when nothing is known against it.
	Problem string `json:"problem,omitempty"`
}

// Lacks says why sd-server can't load it, as a sentence about it would go on; "" when nothing is known against that.
func (m *Model) Lacks() string {
	switch {
	case m.Scaled && m.Part == NoPart:
		return "has scaled 8-bit weights, which ComfyUI can read but sd-server can't"
	case len(m.Missing) > 0:
		return "lacks " + gpu.Listed(m.Missing) + " for sd-server"
	}
	return ""
}

// InstallState is where an installation is.
type InstallState string

// The states of an installation.
const (
	Waiting     InstallState = "waiting"     // for another one; they are done one after the other
	Downloading InstallState = "downloading" // a cut connection or a restart of the agent resumes it
	Verifying   InstallState = "verifying"   // the hash of what is there
	Loading     InstallState = "loading"     // on the device that was asked for
	Installed   InstallState = "installed"
	Failed      InstallState = "failed" // Error says why; what was downloaded is kept for a while, so that asking again goes on
	Stopped     InstallState = "stopped"
)

// Ended says that nothing more happens by itself.
func (s InstallState) Ended() bool { return s == Installed || s == Failed || s == Stopped }

// Install is a model on its way to the library.
type Install struct {
	ID    string       `json:"id"`
	Name  string       `json:"name"`   // that the model will have
	From  string       `json:"from"`   // host and path, without query or credentials
	State InstallState `json:"state"`  // see its constants
	Bytes int64        `json:"bytes"`  // that are here
	Total int64        `json:"total"`  // 0 when the server does not say
	Speed int64        `json:"speed"`  // bytes a second, of the last seconds; 0 when not downloading
	Error string       `json:"error"`  // in words for people; "" when nothing went wrong. While it goes on: what is tried again
	SHA   string       `json:"sha256"` // that it must have, or has; "" when not known yet
	// Ended is when nothing more was to happen by itself, UTC; nil while it goes on.
	Ended *time.Time `json:"ended,omitempty"`
	// Device is where it is to be loaded when it is here; nil for nowhere.
	Device *gpu.Ref `json:"device_id,omitempty"`
}

// Library is everything that is installed or on its way. It is sent when it changes.
type Library struct {
	// Dir is the folder of the model files, for people.
	Dir string `json:"dir"`
	// FreeBytes is the free space of its disk, rounded to 100 MB so that it does not change all the time; nil when not known.
	FreeBytes *uint64   `json:"free_bytes"`
	Models    []Model   `json:"models"`
	Installs  []Install `json:"installs"` // newest first; those that ended stay for a while
	// Problem is why the folder can't be read, in words for people; "" when it can.
	Problem string `json:"problem,omitempty"`
}
