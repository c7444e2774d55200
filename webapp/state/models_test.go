package state

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

func TestModelsOfLibraryAndGenerators(t *testing.T) {
	t.Parallel()
	library := &model.Library{Models: []model.Model{{Name: "a", Title: "A", Family: model.SDXL, Bytes: 7}, {Name: "b", Disabled: true}, {Name: "a", Title: "twice"}}}
	capacity := &wire.Capacity{
		Models: []wire.Model{{Name: "a", Title: "ignored"}, {Name: "c", Title: "C", Bytes: 3}},
		Slots: []wire.Slot{
			{Device: 0, Backend: "sdserver", Models: []string{"a"}, Loaded: "a"}, {Device: 1, Backend: "sdserver", Models: []string{"a", "unheard of"}, Problem: "it rests"},
			{Device: 2, Backend: "comfyui", Models: []string{"a", "c"}, Loaded: "c"}, {Device: 3, Backend: "comfyui", Models: []string{"c"}, Paused: true},
		},
		Devices:    []wire.Steered{{Device: 2, Phase: wire.PhaseYielding}},
		Generators: []wire.Generator{{Device: ptr(gpu.Ref(1)), Loaded: "b"}}, // it was loaded before somebody disabled it
	}
	s := apply(State{}, wire.Event{Inventory: machine(1, 4)}, wire.Event{Library: library}, wire.Event{Capacity: capacity})
	want := []Model{
		{Model: library.Models[0], InLibrary: true, Backends: []string{"sdserver", "comfyui"}, Slots: []gpu.Ref{0, 1, 2}, Able: []gpu.Ref{0}, Loaded: []gpu.Ref{0}},
		{Model: library.Models[1], InLibrary: true, Loaded: []gpu.Ref{1}},
		{Model: model.Model{Name: "c", Title: "C", Bytes: 3}, Backends: []string{"comfyui"}, Slots: []gpu.Ref{2, 3}, Loaded: []gpu.Ref{2}},
	}
	if diff := cmp.Diff(want, s.Models(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("models (-want +got): %s", diff)
	}
	if got := (State{}).Models(); len(got) > 0 {
		t.Errorf("of nothing: %v", got)
	}
	if got := apply(State{}, wire.Event{Library: library}).Models(); len(got) != 2 || len(got[0].Slots) > 0 {
		t.Errorf("before the generators are known: %+v", got)
	}
}

func TestWhichLibrariesLookTheSame(t *testing.T) {
	t.Parallel()
	base := func() *model.Library {
		return &model.Library{Dir: "/m", FreeBytes: ptr(uint64(1)), Models: []model.Model{{Name: "a"}}, Installs: []model.Install{{ID: "1", State: model.Downloading, Bytes: 1, Speed: 1, Total: 9, Device: ptr(gpu.Ref(1))}}}
	}
	for name, test := range map[string]struct {
		change func(*model.Library)
		same   bool
	}{
		"nothing":            {func(*model.Library) {}, true},
		"progress":           {func(l *model.Library) { l.Installs[0].Bytes, l.Installs[0].Speed = 5, 7 }, true},
		"free space":         {func(l *model.Library) { l.FreeBytes = nil }, true},
		"size known":         {func(l *model.Library) { l.Installs[0].Total = 10 }, false},
		"state":              {func(l *model.Library) { l.Installs[0].State = model.Failed }, false},
		"trouble":            {func(l *model.Library) { l.Installs[0].Error = "busy" }, false},
		"device":             {func(l *model.Library) { l.Installs[0].Device = ptr(gpu.Ref(2)) }, false},
		"no device":          {func(l *model.Library) { l.Installs[0].Device = nil }, false},
		"one less":           {func(l *model.Library) { l.Installs = nil }, false},
		"a model is off":     {func(l *model.Library) { l.Models[0].Disabled = true }, false},
		"the folder is gone": {func(l *model.Library) { l.Problem = "gone" }, false},
	} {
		other := base()
		test.change(other)
		if got := SameLibrary(base(), other); got != test.same {
			t.Errorf("%s: same is %v", name, got)
		}
	}
	if !SameLibrary(nil, nil) || SameLibrary(nil, base()) || SameLibrary(base(), nil) {
		t.Error("none is the same as some")
	}
}

func TestTheLibraryIsKept(t *testing.T) {
	t.Parallel()
	library := &model.Library{Dir: "/m", Models: []model.Model{{Name: "a", Disabled: true}}}
	s := apply(State{}, wire.Event{Library: &model.Library{Dir: "/old"}}, wire.Event{Library: library})
	kept, err := s.Save(start)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Restore(kept)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(library, back.Library); diff != "" {
		t.Errorf("library (-want +got): %s", diff)
	}
}
