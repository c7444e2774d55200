// Package scheduler spreads queued images over the devices that can make them.
package scheduler

import (
	"context"
	"fmt"
	"log/slog"

	"muster/agent/backend"
	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// Policy is how images are spread.
type Policy string

// The policies.
const (
	Predicted   Policy = "predicted"    // by predicted completion; the default
	LeastLoaded Policy = "least-loaded" // the idle device with the least memory in use
	RoundRobin  Policy = "round-robin"  // a set dealt over the devices by memory in use, at submission
)

// ParsePolicy takes a policy's name; "" is Predicted.
func ParsePolicy(name string) (Policy, error) {
	switch p := Policy(name); p {
	case "":
		return Predicted, nil
	case Predicted, LeastLoaded, RoundRobin:
		return p, nil
	default:
		return "", fmt.Errorf("policy %q: choose %s, %s or %s", name, Predicted, LeastLoaded, RoundRobin)
	}
}

// Slot is a device with a generator: it takes one image at a time.
type Slot struct {
	Device  gpu.Device // or backend.CPU()
	Backend backend.Backend
	Models  []backend.Model
	Speed   float64 // relative, as long as nothing was measured; 0 is 1
	Problem string  // why it can't take work now, in words for people; "" when it can
}

// Config of a Scheduler.
type Config struct {
	Policy    Policy // "" is Predicted
	Queue     *queue.Queue
	Images    *images.Store
	Slots     func(gpu.Inventory) []Slot // must not block
	Inventory func() *gpu.Inventory      // nil until the devices are known
	Snapshot  func() *gpu.Snapshot       // nil until something was measured
	Publish   func(wire.Capacity)        // must not block
	Log       *slog.Logger               // nil discards
}

// Scheduler gives queued images to devices.
type Scheduler struct{ config Config }

func New(config Config) *Scheduler                        { return &Scheduler{config: config} }
func (s *Scheduler) Run(ctx context.Context) error        { <-ctx.Done(); return nil }
func (s *Scheduler) Wake()                                {}
func (s *Scheduler) Pause(ref gpu.Ref, paused bool) error { return nil }
func (s *Scheduler) Capacity() wire.Capacity              { return wire.Capacity{} }
