package live

import (
	"encoding/json"
	"net/url"
	"strconv"

	"muster/shared/pool"
)

// Act is one of the agent's short commands about a device.
type Act string

// The acts.
const (
	Resume  Act = "resume"
	Pause   Act = "pause"
	Drain   Act = "drain"
	Reserve Act = "reserve"
)

// Decision is what a person decided: about a device an Act or a Change, else Pool about all devices together. It goes by HTTP and
// is never kept for later: a device that is paused hours after somebody asked for it is a surprise.
type Decision struct {
	Device  string // its stable ID, "cpu" for the processor; "" with Pool
	Act     Act    // "" with Change and Pool
	Seconds int    // how long Act holds; 0 until a person says otherwise
	Change  Change
	Pool    *pool.Settings
}

// Change is fields of a pool.Control by their JSON names: nil undoes one, and those that are not named stay as they are, whoever
// decided them meanwhile.
type Change map[string]any

// Request gives the method, path and JSON body that carry the decision.
func (d Decision) Request() (method, path, body string) {
	device := "/api/v1/devices/" + url.PathEscape(d.Device)
	switch {
	case d.Pool != nil:
		return "PUT", "/api/v1/pool", written(d.Pool)
	case d.Change != nil:
		return "PATCH", device + "/control", written(d.Change)
	case d.Seconds > 0:
		return "POST", device + "/" + string(d.Act), `{"for_s":` + strconv.Itoa(d.Seconds) + `}`
	default:
		return "POST", device + "/" + string(d.Act), ""
	}
}

func written(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers that Validate lets through, and texts
	}
	return string(b)
}

// Decided reads the agent's answer to a decision: nil when it is carried out. Its errors are for people; a *pool.FieldError names
// the field that was refused.
func Decided(status int, body []byte) error {
	if status >= 200 && status < 300 {
		return nil
	}
	var answer struct {
		Error struct{ Message, Field string }
	}
	if json.Unmarshal(body, &answer) == nil && answer.Error.Field != "" {
		return &pool.FieldError{Field: answer.Error.Field, Message: answer.Error.Message}
	}
	return refusal(status, body)
}
