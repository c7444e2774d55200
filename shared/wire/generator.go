package wire

import (
	"time"

	"muster/shared/gpu"
)

// Generator is a program that makes images, as the agent sees it: one that it starts itself for a device, or one that somebody
// else runs and that it is attached to.
type Generator struct {
	// ID tells one from another: "sdserver 0", "comfyui 127.0.0.1:8188".
	ID   string `json:"id"`
	Kind string `json:"kind"` // "sdserver", "comfyui", "sdapi", "openai" or "builtin"
	// Title is for people: "ComfyUI 0.3.62", "sd-server master-827".
	Title string `json:"title"`
	// Address is where it is reached, host:port; "" where it is not by one, or not running.
	Address string `json:"address,omitempty"`
	// Attached says that somebody else runs it: the agent neither starts nor ends it.
	Attached bool           `json:"attached,omitempty"`
	Device   *gpu.Ref       `json:"device_id"` // that it works on; nil while that is not known
	State    GeneratorState `json:"state"`
	// Models counts those that it has; of an attached one that does not answer, those that it had when it was seen last.
	Models int `json:"models"`
	// Seen is when an attached one that does not answer now did last, before the agent's start too; nil for one that answers, or never
	// did.
	Seen *time.Time `json:"seen,omitempty"`
	// Loaded is the model that it holds in memory, as far as that is known; "" for none.
	Loaded string `json:"loaded,omitempty"`
	// Problem is why it takes no work and what would help, in words for people; "" when it does.
	Problem string `json:"problem,omitempty"`
	// Failures counts those in a row that its breaker has seen; RetryAt is when a resting one is tried again, nil when it does not
	// rest.
	Failures int        `json:"failures,omitempty"`
	RetryAt  *time.Time `json:"retry_at,omitempty"`
}

// KindTitle is what people call a kind of generators: "sd-server", "ComfyUI". A kind that is not known is called as it is.
func KindTitle(kind string) string {
	switch kind {
	case "sdserver":
		return "sd-server"
	case "comfyui":
		return "ComfyUI"
	case "sdapi":
		return "A1111 API"
	case "openai":
		return "OpenAI images API"
	case "builtin":
		return "built in"
	}
	return kind
}

// GeneratorState is what a generator does.
type GeneratorState string

// The states of a generator.
const (
	GeneratorIdle        GeneratorState = "idle"        // it can be given work; one of the agent's own is started when it is needed
	GeneratorStarting    GeneratorState = "starting"    // it loads, or is asked for the first time
	GeneratorReady       GeneratorState = "ready"       // it runs and answers
	GeneratorResting     GeneratorState = "resting"     // its breaker is open after failures
	GeneratorUnreachable GeneratorState = "unreachable" // an attached one does not answer
	GeneratorUnplaced    GeneratorState = "unplaced"    // it is not known which device it uses: a person has to say so
	GeneratorUnusable    GeneratorState = "unusable"    // it can't be used as it is; Problem says why
)
