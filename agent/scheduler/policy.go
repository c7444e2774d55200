package scheduler

import "fmt"

// Policy is how images are spread over the devices.
type Policy string

// The policies.
const (
	// Predicted starts each image where it is predicted to be done first; waiting for a busy device can be that. The default.
	Predicted Policy = "predicted"
	// LeastLoaded starts the oldest image on the free device with the least memory in use by all programs.
	LeastLoaded Policy = "least-loaded"
	// RoundRobin deals the images of a set over the devices, from least to most memory in use, when the set is submitted.
	RoundRobin Policy = "round-robin"
)

// Policies lists them.
var Policies = []Policy{Predicted, LeastLoaded, RoundRobin}

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
