package job

import (
	"encoding/json"
	"testing"
)

// Clients look for the fields that the API promises without asking whether they are there.
func TestPromisedFieldsAreAlwaysThere(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(Job{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id", "set_id", "state", "attempt", "device_id", "backend", "model", "seed", "width", "height", "steps", "progress", "reason", "image_id", "error", "created", "started", "finished"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("%s is left out of %s", name, raw)
		}
	}
	progress, _ := fields["progress"].(map[string]any)
	for _, name := range []string{"step", "steps", "eta_s"} {
		if _, ok := progress[name]; !ok {
			t.Errorf("progress.%s is left out of %s", name, raw)
		}
	}
}
