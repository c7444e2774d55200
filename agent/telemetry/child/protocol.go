package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// Version of the protocol; it rises with every change that the other half could misunderstand. Fields may be added without.
const Version = 1

// Lines are JSON values. No request is longer than maxRequest bytes and no answer longer than maxAnswer (64 devices with
// partitions and every source take a tenth of that).
const (
	maxRequest = 32 << 10
	maxAnswer  = 4 << 20
)

// kind says what is asked.
type kind string

const (
	askInventory kind = "inventory"
	askRead      kind = "read"
	askDetails   kind = "details"
	askPCIe      kind = "pcie"
	askExamine   kind = "examine"
)

// request is one line to the collector.
type request struct {
	Number uint64 `json:"n"` // from 1; the answer bears it too
	Kind   kind   `json:"do"`
	ID     string `json:"id,omitempty"` // of the device, where the kind needs one
	// Milliseconds is how long the caller waits: a reader that can give up does so then. 0 is for ever.
	Milliseconds int64 `json:"ms,omitempty"`

	// Careful asks for an inventory as Careful makes it, with what that takes.
	Careful bool         `json:"careful,omitempty"`
	Known   []gpu.Device `json:"known,omitempty"`
	Skip    []int        `json:"skip,omitempty"`
}

// answer is one line from the collector: its hello, or what it found for a request.
type answer struct {
	Hello  *hello `json:"hello,omitempty"`
	Number uint64 `json:"n,omitempty"`
	// Asking is no answer yet: the careful inventory of that number is about to touch the device at that place.
	Asking *int `json:"asking,omitempty"`

	// What the reader returned, by kind. A Reading may come with a failure.
	Found    *telemetry.Found     `json:"found,omitempty"`
	Wedged   bool                 `json:"wedged,omitempty"` // with Found: only another process can go on, see Wedger
	Reading  *gpu.Reading         `json:"reading,omitempty"`
	Details  *gpu.Details         `json:"details,omitempty"`
	PCIe     *gpu.PCIeThroughput  `json:"pcie,omitempty"`
	Findings *[]telemetry.Finding `json:"findings,omitempty"`
	Failure  *failure             `json:"failure,omitempty"`
}

// hello is the first line: the program on disk may have been replaced since the agent was started.
type hello struct {
	Version int    `json:"protocol"`
	Build   string `json:"build"`
}

// failure is an error on its way: its text, and the state that it stands for.
type failure struct {
	State gpu.State `json:"state,omitempty"` // "" for an error that is none of the sentinels
	Text  string    `json:"text"`
}

// sentinels are the errors that callers of readers branch on, by the state that each means.
var sentinels = map[gpu.State]error{
	gpu.StateSuspended:      telemetry.ErrSuspended,
	gpu.StateLost:           telemetry.ErrLost,
	gpu.StateDriverMismatch: telemetry.ErrDriverMismatch,
	gpu.StateNoDriver:       telemetry.ErrNoDriver,
	gpu.StateNoPermission:   telemetry.ErrNoPermission,
	gpu.StateUnsupported:    telemetry.ErrUnsupported,
	gpu.StateStuck:          context.DeadlineExceeded,
}

// newFailure gives nil for nil.
func newFailure(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	for state, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			f.State = state
		}
	}
	return f
}

// err is the error as it was: with the same words, and wrapping the same sentinel.
func (f *failure) err() error {
	if f == nil {
		return nil
	}
	return &carried{f.Text, sentinels[f.State]}
}

type carried struct {
	text string
	is   error // nil for none of the sentinels
}

func (e *carried) Error() string { return e.text }
func (e *carried) Unwrap() error { return e.is }

// line is the answer as bytes with their end. An answer that JSON has no words for (NaN), or that is too long, becomes a failure.
func (a answer) line() []byte {
	b, err := json.Marshal(a)
	if err == nil && len(b) >= maxAnswer {
		err = fmt.Errorf("an answer of %d bytes is too long", len(b))
	}
	if err != nil {
		b, _ = json.Marshal(answer{Number: a.Number, Failure: newFailure(fmt.Errorf("what was read can't be passed on: %w", err))})
	}
	return append(b, '\n')
}

// decodeAnswer takes a line without its end. Its error says that the line is no answer.
func decodeAnswer(line []byte) (answer, error) {
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return answer{}, err
	}
	if a.Hello == nil && a.Number == 0 {
		return answer{}, errors.New("neither a hello nor an answer")
	}
	return a, nil
}

// decodeRequest takes a line without its end.
func decodeRequest(line []byte) (request, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return request{}, err
	}
	if r.Number == 0 || r.Milliseconds < 0 {
		return request{}, errors.New("no request")
	}
	return r, nil
}
