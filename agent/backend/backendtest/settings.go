package backendtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Settings lie beside the program, in PROGRAM.json. All are optional.
type Settings struct {
	// Devices are what the build sees without a mask, in its own order. None: one CPU.
	Devices []Device `json:"devices,omitempty"`
	// Version is what --version says; "" is "master-827-97d2990+".
	Version string `json:"version,omitempty"`
	// Without names flags that this build does not know ("--list-devices", "--eager-load").
	Without []string `json:"without,omitempty"`
	// Probe is what --version, -h and --list-devices do: "" answer, "hang", "fail".
	Probe string `json:"probe,omitempty"`
	// Scenario is that of models without one of their own.
	Scenario Scenario `json:"scenario,omitzero"`
}

// Device is one that the program lists.
type Device struct {
	Name        string `json:"name"` // "ROCm0", "CUDA1", "Vulkan0", "CPU"
	Description string `json:"description"`
	ID          string `json:"id,omitempty"` // what a mask may name it by, besides its number: "GPU-c34f1a2b00000000"
	// Slower is how many times longer loading, steps and decoding take on it than a scenario says; 0 is 1.
	Slower float64 `json:"slower,omitempty"`
}

// Scenario lies beside a model file, in MODEL.fake.json. The zero value loads at once and makes each step in a millisecond.
type Scenario struct {
	LoadMilliseconds   int `json:"load_ms,omitempty"`
	StepMilliseconds   int `json:"step_ms,omitempty"`
	DecodeMilliseconds int `json:"decode_ms,omitempty"`
	// Tiles is how many progress bars the image decoder draws, in the same form as steps.
	Tiles int `json:"tiles,omitempty"`
	// Grain has images of noise, whose files are as large as those of photographs.
	Grain bool `json:"grain,omitempty"`
	// SlowOutput writes stdout byte by byte, so many microseconds apart.
	SlowOutput int `json:"slow_output_us,omitempty"`
	// IgnoreTerm lives on after SIGTERM, as a process that hangs in a driver does.
	IgnoreTerm bool `json:"ignore_term,omitempty"`
	// IgnoreKill stays 15 s after any signal, SIGKILL too, as a process that hangs in a driver does. It needs ptrace(2).
	IgnoreKill bool    `json:"ignore_kill,omitempty"`
	Faults     []Fault `json:"faults,omitempty"`
}

// Fault is one thing that goes wrong.
type Fault struct {
	Start int    `json:"start,omitempty"` // only in the n-th start with this model, from 1; 0: in each
	Job   int    `json:"job,omitempty"`   // only in the n-th job of a start, from 1; 0: in each
	Step  int    `json:"step,omitempty"`  // before this step, from 1; 0: before the first; steps+1: before decoding
	Do    Action `json:"do"`
	Text  string `json:"text,omitempty"` // for stderr, or the message of a failed job
}

// Action says what goes wrong.
type Action string

// Actions while loading.
const (
	LoadHangs       Action = "load-hangs"
	LoadCrashes     Action = "load-crashes"       // by SIGSEGV
	LoadFails       Action = "load-fails"         // exit status 1, with Text on stderr
	LoadOutOfMemory Action = "load-out-of-memory" // exit status 1
	TakesTwinPort   Action = "twin"               // a second process listens on the port too
)

// Actions at a step.
const (
	Crash       Action = "crash"        // by SIGSEGV
	Abort       Action = "abort"        // by SIGABRT, with Text on stderr
	Hang        Action = "hang"         // nothing more is printed; HTTP answers
	Fail        Action = "fail"         // the job fails with Text
	OutOfMemory Action = "oom"          // the job fails as it does without room for the compute buffer
	BusyQueue   Action = "queue-full"   // 429
	Refuse      Action = "refuse"       // 400
	ServerError Action = "server-error" // 500 on submission
	NoID        Action = "no-id"        // 202 without an id
)

// Actions on the answer with the image.
const (
	Garbage     Action = "garbage"       // no JSON
	HalfJSON    Action = "half-json"     // the connection drops in the middle
	WrongID     Action = "wrong-id"      // of another job
	Lost        Action = "lost"          // 404
	Huge        Action = "huge"          // 10 GB
	Drip        Action = "drip"          // a byte a second
	CutPNG      Action = "cut-png"       // half a PNG
	DamagedPNG  Action = "damaged-png"   // one bit differs
	WrongSize   Action = "wrong-size"    // twice as wide
	NoImage     Action = "no-image"      // completed without images
	OddStatus   Action = "odd-status"    // a status that does not exist
	AnswerFails Action = "answer-fails"  // 500
	HeldAnswer  Action = "held-answer"   // completed, but no answer ever comes
	EarlyTiles  Action = "early-tiles"   // tile bars before the first step
	LoadingBars Action = "loading-bars"  // weights are loaded within the job
	LongLine    Action = "long-line"     // a megabyte without an end of line
	OtherError  Action = "foreign-error" // an unrelated ERROR line
)

// Start is a line of the journal, PROGRAM.journal: one start of the program.
type Start struct {
	PID   int               `json:"pid"`
	Args  []string          `json:"args"`
	Dir   string            `json:"dir"`
	Env   []string          `json:"env"`             // names of all variables
	Masks map[string]string `json:"masks"`           // device masks that are set
	Model string            `json:"model,omitempty"` // path; "" for a probe
	// Device is the ID of the device it runs on ("cpu" for the processor); "" for a probe and when it refused to start.
	Device string `json:"device,omitempty"`
	// Refused is why it ended at once; "" when it did not.
	Refused string `json:"refused,omitempty"`
}

// SettingsPath, ScenarioPath and JournalPath say where a program's files are.
func SettingsPath(program string) string { return program + ".json" }

// ScenarioPath is that of a model.
func ScenarioPath(model string) string { return model + ".fake.json" }

// JournalPath is that of a program.
func JournalPath(program string) string { return program + ".journal" }

// Load reads a JSON file into out; one that is not there changes nothing.
func Load(path string, out any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Starts reads the journal. A start that is being written is left out, and one that was killed while it wrote.
func Starts(program string) ([]Start, error) {
	text, err := os.ReadFile(JournalPath(program))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var starts []Start
	for line := range bytes.Lines(text) {
		var s Start
		if bytes.HasSuffix(line, []byte("}\n")) && json.Unmarshal(line, &s) == nil {
			starts = append(starts, s)
		}
	}
	return starts, nil
}

// Record appends a start to the journal, in one write, on a line of its own: SIGKILL may cut the one before short.
func Record(program string, s Start) error {
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(JournalPath(program), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write([]byte("\n" + string(line) + "\n"))
	return err
}
