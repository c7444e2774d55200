package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// PastQuery asks what one metric of a device was between two times. Points is how many values the asker can show: the agent
// chooses the resolution by it.
type PastQuery struct {
	Device   gpu.Ref
	Metric   gpu.Metric
	From, To time.Time
	Points   int
}

// Path is the address that answers the query.
func (q PastQuery) Path() string {
	// None of these needs escaping.
	return "/api/v1/history?device=" + q.Device.String() + "&metric=" + string(q.Metric) + "&points=" + strconv.Itoa(q.Points) +
		"&from=" + strconv.FormatInt(q.From.Unix(), 10) + "&to=" + strconv.FormatInt(q.To.Unix(), 10)
}

// Past is the answer: one value of each column for each of Times, NaN where nothing was recorded.
type Past struct {
	StepSeconds float64     `json:"step_s"` // between two of Times
	Times       []time.Time `json:"times"`  // when each step begins, ascending
	Min         wire.Column `json:"min"`    // in the metric's unit, as the next two
	Mean        wire.Column `json:"mean"`
	Max         wire.Column `json:"max"`
}

// ErrOffline says that the agent can't be reached.
var ErrOffline = errors.New("the agent can't be reached")

// DecodePast reads the answer of the agent to a PastQuery. Its errors are for people; a refusal is what the agent said.
func DecodePast(status int, body []byte) (Past, error) {
	if status != 200 {
		return Past{}, refusal(status, body)
	}
	var past Past
	if err := json.Unmarshal(body, &past); err != nil {
		return Past{}, fmt.Errorf("the agent's answer can't be read: %w", err)
	}
	n := len(past.Times)
	if len(past.Min) != n || len(past.Mean) != n || len(past.Max) != n || !slices.IsSortedFunc(past.Times, time.Time.Compare) || past.StepSeconds < 0 {
		return Past{}, errors.New("the agent's answer contradicts itself")
	}
	return past, nil
}

// refusal gives the sentence that the agent sent with a status of failure, else the status.
func refusal(status int, body []byte) error {
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Error.Message != "" {
		return errors.New(answer.Error.Message)
	}
	return fmt.Errorf("the agent refused (status %d)", status)
}
