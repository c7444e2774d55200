package job

import (
	"time"

	"muster/shared/gpu"
)

// Job is one image of a set: the unit of work that is spread, retried and cancelled. A Job is a value; only the queue makes
// new versions of it. In JSON, the fields that the API promises (facts/api.md) are always there; others are left out when empty.
type Job struct {
	ID    string `json:"id"`     // ULID: sorts by submission
	SetID string `json:"set_id"` // ULID of the command; the same for every image of it
	// Ordinal is the image's place in its set, from 0.
	Ordinal int `json:"ordinal"`
	// Key is the idempotency key or socket command id it was submitted with; "" for none.
	Key string `json:"key,omitempty"`
	// Seq is the number of the last event of this job: versions of a job are ordered by it, and a client resumes after it.
	// Progress does not raise it.
	Seq   uint64 `json:"seq"`
	State State  `json:"state"`
	// Attempt counts the starts, 0 before the first. It fences results of an attempt that was given up.
	Attempt int `json:"attempt"`
	// Failures counts deaths of a device or backend during this job while the agent lived; MaxFailures end it.
	Failures int `json:"failures,omitempty"`

	// DeviceID is where it runs or ran last; nil before the first start.
	DeviceID *gpu.Ref `json:"device_id"`
	// DeviceKey is that device's stable ID ("" for none, "cpu" for the processor).
	DeviceKey string `json:"device_key,omitempty"`
	// Simulated says that a simulated device made it.
	Simulated bool   `json:"simulated,omitempty"`
	Backend   string `json:"backend"`
	// PinnedTo is the device that the command asked for; nil when the scheduler chooses.
	PinnedTo *gpu.Ref `json:"pinned_to,omitempty"`
	// PinnedKey is that device's stable ID: it is what counts when numbers have changed since. "" when the scheduler chooses, and
	// in jobs of versions that kept the number only.
	PinnedKey string `json:"pinned_key,omitempty"`

	Prompt         string  `json:"prompt"`
	NegativePrompt string  `json:"negative_prompt,omitempty"`
	Model          string  `json:"model"`
	Sampler        string  `json:"sampler,omitempty"`
	Seed           int64   `json:"seed"`
	Width          int     `json:"width"`
	Height         int     `json:"height"`
	Steps          int     `json:"steps"`
	Guidance       float64 `json:"guidance"`
	Priority       int     `json:"priority,omitempty"`
	ClientID       string  `json:"client_id,omitempty"`

	// Progress is not durable; the zero value is "not started".
	Progress Progress `json:"progress"`
	// Expected is when it is predicted to be done; nil when that is not known, and when it has ended. It is not durable.
	Expected *Expected `json:"expected,omitempty"`
	// Reason is why it is where it is, or why it waits, in words for people.
	Reason string `json:"reason"`
	// ImageID names the finished image; "" until it succeeded.
	ImageID string `json:"image_id"`
	// Error is why it failed, or what the last failed attempt said, in words for people; "" when nothing went wrong.
	Error string `json:"error"`

	Created  time.Time  `json:"created"`
	Started  *time.Time `json:"started"`  // of the current attempt; nil when not running and never run
	Finished *time.Time `json:"finished"` // nil until the state is terminal
}

// Progress is how far the running attempt is.
type Progress struct {
	Step  int `json:"step"`  // steps done
	Steps int `json:"steps"` // 0 when the backend does not tell
	// ETASeconds is the time left of this image; nil when not known.
	ETASeconds *float64 `json:"eta_s"`
	// Preview rises with every picture of the unfinished image; 0 when there is none. GET /api/v1/jobs/{id}/preview gives the newest.
	Preview int `json:"preview,omitempty"`
}

// MaxFailures is how many deaths of a device or backend one job may meet before it fails.
const MaxFailures = 3
