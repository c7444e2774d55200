// Package job holds the nouns of generation: what is asked for (Spec), one image of it (Job), and the only ways in which a job
// changes state. It is a leaf: it imports only the standard library and shared/gpu, and compiles for js/wasm.
package job

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"muster/shared/gpu"
)

// Bounds of a Spec. They hold for every door (HTTP, socket, command line), and the app shows them in its form.
const (
	MinSide      = 64
	MaxSide      = 4096
	MaxPixels    = 16 << 20 // 16 megapixels
	MaxSteps     = 200
	MaxCount     = 16
	MaxPrompt    = 8 << 10 // bytes
	MaxPriority  = 10
	MaxGuidance  = 50.0
	MaxNameBytes = 200 // of model and sampler names
	MaxKeyBytes  = 200 // of an idempotency key or command id
)

// Values that WithDefaults fills in. An agent that knows what suits the model takes that in place of size, steps and guidance that a
// command leaves open.
const (
	DefaultSide     = 512
	DefaultSteps    = 20
	DefaultGuidance = 7.0
	DefaultCount    = 1
)

// Spec is a generation command: a set of Count images that differ by their seeds.
type Spec struct {
	Prompt         string `json:"prompt"`
	NegativePrompt string `json:"negative_prompt,omitempty"`
	// Model is a name from the list of models; "" lets the agent choose the default one.
	Model   string `json:"model,omitempty"`
	Sampler string `json:"sampler,omitempty"` // "" is the backend's own default
	Width   int    `json:"width,omitempty"`   // pixels; 0 is DefaultSide
	Height  int    `json:"height,omitempty"`  // pixels; 0 is the same
	Steps   int    `json:"steps,omitempty"`   // 0 is what suits the model, else DefaultSteps
	// Guidance is the guidance scale: classifier-free, or what a distilled model has in its place; nil is what suits the model, else
	// DefaultGuidance.
	Guidance *float64 `json:"guidance,omitempty"`
	// Seed is the first image's; image i gets Seed + i. nil: the agent draws one at submission.
	Seed  *int64 `json:"seed,omitempty"`
	Count int    `json:"count,omitempty"` // images; 0 is DefaultCount
	// DeviceID pins every image to one device; nil lets the scheduler choose.
	DeviceID *gpu.Ref `json:"device_id,omitempty"`
	// DeviceKey pins by the device's stable ID ("cpu" for the processor) in place of DeviceID; "" for none. The agent fills in
	// whichever is missing at submission, and goes by the key from then on.
	DeviceKey string `json:"device_key,omitempty"`
	Priority  int    `json:"priority,omitempty"` // −10 to 10, higher first
	ClientID  string `json:"client_id,omitempty"`
}

// MaxSeed is the largest first seed: every image of a set, and every generator's 32-bit seed, stays in range.
const MaxSeed = math.MaxUint32 - MaxCount

// FieldError says which field of a Spec is wrong, and what is allowed.
type FieldError struct {
	Field   string
	Message string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// WithDefaults fills in what was left out, except seed and model, which the agent chooses at submission.
func (s Spec) WithDefaults() Spec {
	if s.Width == 0 {
		s.Width = DefaultSide
	}
	if s.Height == 0 {
		s.Height = DefaultSide
	}
	if s.Steps == 0 {
		s.Steps = DefaultSteps
	}
	if s.Count == 0 {
		s.Count = DefaultCount
	}
	if s.Guidance == nil {
		guidance := DefaultGuidance
		s.Guidance = &guidance
	}
	return s
}

// Validate checks a Spec after WithDefaults. Its error is a *FieldError that a person can act on; it never repeats the prompt.
func (s Spec) Validate() error {
	switch {
	case strings.TrimSpace(s.Prompt) == "":
		return &FieldError{"prompt", "must not be empty"}
	case len(s.Prompt) > MaxPrompt:
		return &FieldError{"prompt", fmt.Sprintf("is %d bytes long; at most %d are allowed", len(s.Prompt), MaxPrompt)}
	case len(s.NegativePrompt) > MaxPrompt:
		return &FieldError{"negative_prompt", fmt.Sprintf("is %d bytes long; at most %d are allowed", len(s.NegativePrompt), MaxPrompt)}
	case !utf8.ValidString(s.Prompt) || strings.ContainsRune(s.Prompt, 0):
		return &FieldError{"prompt", "must be valid UTF-8 without NUL"}
	case !utf8.ValidString(s.NegativePrompt) || strings.ContainsRune(s.NegativePrompt, 0):
		return &FieldError{"negative_prompt", "must be valid UTF-8 without NUL"}
	}
	for _, check := range []struct {
		field        string
		value        int
		least, limit int
	}{
		{"width", s.Width, MinSide, MaxSide},
		{"height", s.Height, MinSide, MaxSide},
		{"steps", s.Steps, 1, MaxSteps},
		{"count", s.Count, 1, MaxCount},
		{"priority", s.Priority, -MaxPriority, MaxPriority},
	} {
		if check.value < check.least || check.value > check.limit {
			return &FieldError{check.field, fmt.Sprintf("is %d; allowed is %d to %d", check.value, check.least, check.limit)}
		}
	}
	if s.Width*s.Height > MaxPixels {
		return &FieldError{"width", fmt.Sprintf("times height is %d pixels; at most %d are allowed", s.Width*s.Height, MaxPixels)}
	}
	if s.Guidance != nil && (math.IsNaN(*s.Guidance) || *s.Guidance < 0 || *s.Guidance > MaxGuidance) {
		return &FieldError{"guidance", fmt.Sprintf("is %g; allowed is 0 to %g", *s.Guidance, MaxGuidance)}
	}
	if s.Seed != nil && (*s.Seed < 0 || *s.Seed > MaxSeed) {
		return &FieldError{"seed", fmt.Sprintf("is %d; allowed is 0 to %d", *s.Seed, int64(MaxSeed))}
	}
	for field, name := range map[string]string{"model": s.Model, "sampler": s.Sampler, "client_id": s.ClientID, "device_key": s.DeviceKey} {
		if len(name) > MaxNameBytes || !utf8.ValidString(name) {
			return &FieldError{field, fmt.Sprintf("must be valid UTF-8 of at most %d bytes", MaxNameBytes)}
		}
	}
	return nil
}
