// Package wire is what travels over the socket: Event from agent to app, Command from app to agent, and two codecs for events,
// JSON and a compact binary one. It imports only the standard library and its sibling nouns, and compiles for js/wasm.
package wire

import (
	"slices"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/pool"
)

// Subprotocols of GET /api/v1/events. A client that asks for none gets JSON.
const (
	SubprotocolBinary = "muster.v1.bin"
	SubprotocolJSON   = "muster.v1.json"
)

// Version is raised when a codec changes so that older ones can't read it.
const Version = 1

// Event is exactly one of its fields; the others are nil.
type Event struct {
	Hello     *Hello         `json:"hello,omitempty"`
	Inventory *gpu.Inventory `json:"inventory,omitempty"`
	Snapshot  *gpu.Snapshot  `json:"snapshot,omitempty"`
	Details   *gpu.Report    `json:"details,omitempty"`
	History   *History       `json:"history,omitempty"`
	Capacity  *Capacity      `json:"capacity,omitempty"`
	Library   *model.Library `json:"library,omitempty"`
	Job       *job.Job       `json:"job,omitempty"`
	Error     *Error         `json:"error,omitempty"`
}

// Hello is the first event of every connection.
type Hello struct {
	Version int    `json:"version"`
	Build   string `json:"build"` // of the agent
	// Instance changes with every start of the agent.
	Instance string `json:"instance"`
	// Resume is the number of the newest job event: pass it as ?after= to get only what came later.
	Resume uint64 `json:"resume"`
	// IntervalMilliseconds is the time between snapshots.
	IntervalMilliseconds int64 `json:"interval_ms"`
	// Complete says that the jobs which follow are all there are (the client asked without ?after=, or its point is too old):
	// drop what is not among them.
	Complete bool `json:"complete"`
}

// Capacity is what can generate here, and what it can make. It is sent when it changes.
type Capacity struct {
	// DefaultModel is what a Spec without a model gets; "" when nothing can generate.
	DefaultModel string  `json:"default_model"`
	Models       []Model `json:"models"`
	Slots        []Slot  `json:"slots"`
	// Generators are the programs behind the slots, and those that can't take work yet: not reached, or on a device not known.
	Generators []Generator `json:"generators,omitempty"`
	// Loads are the models that somebody wants loaded ahead of the first image, and those that could not be; oldest first.
	Loads  []model.Load `json:"loads,omitempty"`
	Policy string       `json:"policy"` // "predicted", "least-loaded" or "round-robin"
	// Pool is what people decided about all devices together, Devices about each: those with a decision, and those that are
	// limited or give way now.
	Pool    pool.Settings `json:"pool"`
	Devices []Steered     `json:"devices,omitempty"`
}

// TakesOrders says whether an image can be asked for: something can make it, or will when it is back.
func (c Capacity) TakesOrders() bool {
	return len(c.Models) > 0 && (len(c.Slots) > 0 || slices.ContainsFunc(c.Models, func(m Model) bool { return m.Away != "" }))
}

// LoadedOn gives the devices that hold a model, by what the slots know and by what the generators themselves say: a slot knows
// nothing while it can't be used, as when its last model was disabled.
func (c Capacity) LoadedOn(model string) (devices []gpu.Ref) {
	add := func(device gpu.Ref) {
		if !slices.Contains(devices, device) {
			devices = append(devices, device)
		}
	}
	for _, slot := range c.Slots {
		if slot.Loaded == model && model != "" {
			add(slot.Device)
		}
	}
	for _, one := range c.Generators {
		if one.Loaded == model && model != "" && one.Device != nil {
			add(*one.Device)
		}
	}
	slices.Sort(devices)
	return devices
}

// Steered is a device about which people decided something, and what that means now.
type Steered struct {
	Device  gpu.Ref      `json:"device_id"`
	Key     string       `json:"device_key"` // its stable ID
	Control pool.Control `json:"control"`
	Phase   Phase        `json:"phase"`
	// Words say why it takes no work, for people: "gives way to another program". "" when it does.
	Words string `json:"words,omitempty"`
}

// Phase is what a device does about what people decided.
type Phase string

// The phases.
const (
	PhaseActive   Phase = "active"   // it takes work
	PhasePaused   Phase = "paused"   // by a person
	PhaseDraining Phase = "draining" // by a person; something still runs or is being unloaded
	PhaseDrained  Phase = "drained"  // nothing runs and no model is loaded: the device is free
	PhaseReserved Phase = "reserved" // for other programs, and free of ours
	PhaseYielding Phase = "yielding" // another program works on it
	PhaseLimited  Phase = "limited"  // by temperature, power or time of day
)

// Model is a model that at least one slot can use, or will when a generator is back.
type Model struct {
	Name string `json:"name"`
	// Title is for people: "built-in sketch renderer, no AI model".
	Title string `json:"title"`
	Bytes int64  `json:"bytes,omitempty"` // of its file; 0 when it has none
	// Family is its architecture, as far as a generator knows it.
	Family model.Family `json:"family,omitempty"`
	// Grid is what both sides of its images are whole multiples of, in pixels; other sizes are rounded up when a command is taken. 1 is
	// any size, and so is 0, of agents that do not tell.
	Grid int `json:"grid,omitempty"`
	// Away is the ID of the generator that had it when it was seen last, where no slot has it; "" when one has. Images of it wait.
	Away string `json:"away,omitempty"`
}

// Slot is a device with a generator: what takes one image at a time.
type Slot struct {
	Device    gpu.Ref  `json:"device_id"`
	Backend   string   `json:"backend"`
	Models    []string `json:"models"`
	Loaded    string   `json:"loaded,omitempty"` // model that is resident; "" for none
	Paused    bool     `json:"paused,omitempty"`
	Simulated bool     `json:"simulated,omitempty"`
	// Problem says why the slot takes no work, in words for people; "" when it does.
	Problem string `json:"problem,omitempty"`
}

// Error answers a command that was refused, and names it.
type Error struct {
	ID      string `json:"id"` // of the command; "" when the command could not be read
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

// History is what was measured before the page opened: one column per device and metric, Start + i·Step each.
type History struct {
	Start            time.Time `json:"start"` // UTC
	StepMilliseconds int64     `json:"step_ms"`
	Devices          []Series  `json:"devices"` // by position in the inventory
}

// Series is the past of one device. All columns of a History have the same length.
type Series struct {
	ID                 string `json:"id"`
	UtilizationPercent Column `json:"utilization_percent"`
	MemoryUsedPercent  Column `json:"memory_used_percent"`
	TemperatureCelsius Column `json:"temperature_celsius"`
	PowerWatts         Column `json:"power_watts"`
}

// Command is exactly one of its fields. Commands are JSON text in both subprotocols.
type Command struct {
	Submit *Submit `json:"submit,omitempty"`
	Cancel *Cancel `json:"cancel,omitempty"`
}

// Submit asks for images. ID is chosen by the client and is the idempotency key too.
type Submit struct {
	ID   string   `json:"id"`
	Spec job.Spec `json:"spec"`
}

// Cancel gives up one job.
type Cancel struct {
	ID    string `json:"id"`
	JobID string `json:"job_id"`
}
