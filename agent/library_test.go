package agent

import (
	"slices"
	"testing"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// A generator that somebody else runs holds a file of its own: it keeps nobody from removing muster's.
func TestHoldersOfAFile(t *testing.T) {
	t.Parallel()
	capacity := wire.Capacity{
		Slots:      []wire.Slot{{Device: 0, Loaded: "sdxl"}, {Device: 1, Loaded: "sdxl"}, {Device: 2, Loaded: "other"}},
		Generators: []wire.Generator{{Device: new(gpu.Ref(0)), Loaded: "sdxl"}, {Device: new(gpu.Ref(1)), Loaded: "sdxl", Attached: true}, {Attached: true}},
	}
	if got := holders(capacity, "sdxl"); !slices.Equal(got, []gpu.Ref{0}) {
		t.Errorf("held on %v", got)
	}
}
