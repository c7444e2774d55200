// Package pool holds what people decide about the devices: which may take work, when, and how hot. It is a leaf: it imports only
// the standard library and compiles for js/wasm.
package pool

import (
	"fmt"
	"math"
	"time"
)

// Mode is what a person wants of a device.
type Mode string

// The modes.
const (
	// Active takes work. The zero Control has it as "".
	Active Mode = "active"
	// Paused takes no new work. What runs is finished, and the model stays loaded.
	Paused Mode = "paused"
	// Draining takes no new work. What runs is finished, then the model is unloaded, and the device can be taken out or used for
	// something else.
	Draining Mode = "draining"
	// Reserved belongs to other programs: what runs is made again elsewhere, and the model is unloaded at once.
	Reserved Mode = "reserved"
)

// Modes lists every mode.
var Modes = []Mode{Active, Paused, Draining, Reserved}

// Bounds of a Control.
const (
	MinCelsius = 30
	MaxCelsius = 120
	MaxWatts   = 100_000
)

// Control is what a person decided about one device. The zero value takes work without limits of its own.
type Control struct {
	Mode Mode `json:"mode"` // "" is Active
	// Until is when Mode becomes Active again by itself; nil waits for a person.
	Until *time.Time `json:"until,omitempty"`
	// Yield gives way while another program works on the device: no new image starts, one that runs goes elsewhere unless it is
	// nearly done, and the model is unloaded. It comes back by itself.
	Yield bool `json:"yield,omitempty"`
	// MaxCelsius is the temperature at which no new image starts; nil keeps the agent's own limit.
	MaxCelsius *float64 `json:"max_celsius,omitempty"`
	// MaxWatts is the power draw at which no new image starts; nil is no limit.
	MaxWatts *float64 `json:"max_watts,omitempty"`
	// Hours are the times of day, in the agent's time zone, at which images may start, as ParseHours reads them; "" is always.
	Hours string `json:"hours,omitempty"`
}

// Settings are what a person decided about all devices together. The zero value limits nothing.
type Settings struct {
	// MaxWatts is what all GPUs together may draw: an image starts only if what its device is expected to draw still fits in; nil
	// is no limit.
	MaxWatts *float64 `json:"max_watts,omitempty"`
}

// Steering is everything that people decided.
type Steering struct {
	Pool    Settings           `json:"pool"`
	Devices map[string]Control `json:"devices"` // by gpu.Device.ID; those without decision are left out
}

// FieldError says which field is wrong, and what is allowed.
type FieldError struct{ Field, Message string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// At gives the control as it holds at a time: after Until it is Active again.
func (c Control) At(now time.Time) Control {
	if c.Mode == "" {
		c.Mode = Active
	}
	if c.Until != nil && !now.Before(*c.Until) {
		c.Mode, c.Until = Active, nil
	}
	return c
}

// Validate checks a Control. Its error is a *FieldError that a person can act on.
func (c Control) Validate() error {
	switch c.Mode {
	case "", Active, Paused, Draining, Reserved:
	default:
		return &FieldError{"mode", fmt.Sprintf("is %.20q; allowed are active, paused, draining and reserved", c.Mode)}
	}
	if c.Until != nil && (c.Mode == "" || c.Mode == Active) {
		return &FieldError{"until", "needs a mode that ends then: paused, draining or reserved"}
	}
	if t := c.MaxCelsius; t != nil && !(*t >= MinCelsius && *t <= MaxCelsius) {
		return &FieldError{"max_celsius", fmt.Sprintf("is %g; allowed is %d to %d", *t, MinCelsius, MaxCelsius)}
	}
	if err := checkWatts(c.MaxWatts); err != nil {
		return err
	}
	if _, err := ParseHours(c.Hours); err != nil {
		return &FieldError{"hours", err.Error()}
	}
	return nil
}

// Validate checks Settings. Its error is a *FieldError.
func (s Settings) Validate() error { return checkWatts(s.MaxWatts) }

func checkWatts(w *float64) error {
	if w != nil && (math.IsNaN(*w) || *w < 1 || *w > MaxWatts) {
		return &FieldError{"max_watts", fmt.Sprintf("is %g; allowed is 1 to %d", *w, MaxWatts)}
	}
	return nil
}

// IsZero says whether nothing was decided.
func (c Control) IsZero() bool {
	return (c.Mode == "" || c.Mode == Active) && c.Until == nil && !c.Yield && c.MaxCelsius == nil && c.MaxWatts == nil && c.Hours == ""
}
