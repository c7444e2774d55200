package agent

import (
	"strings"
	"testing"

	"muster/shared/wire"
)

func TestReadySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for want, slots := range map[string][]wire.Slot{
		"":                {{Paused: true}, {}},
		"is paused":       {{Paused: true}, {Problem: "no program"}},
		"no device can":   {{Problem: "no program"}, {Problem: "no program", Paused: true}},
		"no device can g": {},
	} {
		err := readyWith(wire.Capacity{Slots: slots})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", slots, err, want)
		}
	}
}
