package model

import (
	"time"

	"muster/shared/gpu"
)

// Load is a model that somebody wants in a device's memory before any image asks for it, or one that did not get there. What was loaded
// is none any more.
type Load struct {
	Model  string    `json:"model"`
	Device gpu.Ref   `json:"device_id"`
	State  LoadState `json:"state"`
	Asked  time.Time `json:"asked"` // UTC
	// Words are what it waits for, or why it failed and what to do, for people; "" while it is being loaded.
	Words string `json:"words,omitempty"`
}

// LoadState is what becomes of a Load.
type LoadState string

// The states of a Load.
const (
	LoadWaits  LoadState = "waiting" // until the device is free; the scheduler moves it on between two images
	LoadRuns   LoadState = "loading" // by the generator; it ends within half an hour
	LoadFailed LoadState = "failed"  // kept for a day, or until the model is loaded there, or asked for there again, or the agent ends
)

// LoadOf gives the newest Load of a model on a device; nil when there is none.
func LoadOf(loads []Load, name string, device gpu.Ref) *Load {
	for i := len(loads) - 1; i >= 0; i-- {
		if loads[i].Model == name && loads[i].Device == device {
			return &loads[i]
		}
	}
	return nil
}
