package job

import (
	"errors"
	"fmt"
	"slices"
)

// State is where a job is in its life.
type State string

// The states of a job.
const (
	// Queued waits for a device. The scheduler moves it to Running, a person to Cancelled. After a crash it is still queued.
	Queued State = "queued"
	// Running is being made. The scheduler moves it to Succeeded or Failed, or back to Queued when its device or backend died;
	// a person moves it to Cancelled. After a crash of the agent it is queued again, with the same seed and a higher attempt.
	Running State = "running"
	// Succeeded has its image on disk. Nobody moves it out; a crash does not touch it.
	Succeeded State = "succeeded"
	// Failed has a reason in Error. Nobody moves it out.
	Failed State = "failed"
	// Cancelled was given up by a person. Nobody moves it out.
	Cancelled State = "cancelled"
)

// States lists every state.
var States = []State{Queued, Running, Succeeded, Failed, Cancelled}

// transitions holds every change of state that may happen.
var transitions = map[State][]State{
	Queued:  {Running, Failed, Cancelled},
	Running: {Queued, Succeeded, Failed, Cancelled},
}

// ErrTransition is wrapped by the error of a change of state that may not happen.
var ErrTransition = errors.New("not allowed in this state")

// Terminal says whether the job has ended.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Check gives nil when a job may go from this state to the next, else an error that wraps ErrTransition.
func (s State) Check(next State) error {
	if slices.Contains(transitions[s], next) {
		return nil
	}
	return fmt.Errorf("%s to %s: %w", s, next, ErrTransition)
}
