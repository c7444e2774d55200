package state

import (
	"reflect"
	"slices"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// Model is a model as the machine has it: a file of the library, one that generators have, or both.
type Model struct {
	model.Model
	// InLibrary says that it is a file of the library: it can be enabled, disabled and removed.
	InLibrary bool
	// Backends are the kinds of the generators that have it, without repetition; empty when none has.
	Backends []string
	// Slots are the devices whose generator has it, and Able those of them that take work now.
	Slots, Able []gpu.Ref
	// Loaded are the devices that hold it in memory; of a model that was disabled they may be more than Slots.
	Loaded []gpu.Ref
	// Loads are those that somebody has asked for, and those that failed; oldest first.
	Loads []model.Load
}

// Models gives the library's models in its order, then those that only generators have.
func (s State) Models() []Model {
	var out []Model
	at := map[string]int{}
	add := func(m Model) {
		if _, twice := at[m.Name]; !twice {
			at[m.Name] = len(out)
			out = append(out, m)
		}
	}
	if s.Library != nil {
		for _, m := range s.Library.Models {
			add(Model{Model: m, InLibrary: true})
		}
	}
	if s.Capacity == nil {
		return out
	}
	for _, m := range s.Capacity.Models {
		add(Model{Model: model.Model{Name: m.Name, Title: m.Title, Family: m.Family, Bytes: m.Bytes}})
	}
	for i := range s.Capacity.Slots {
		slot := &s.Capacity.Slots[i]
		able := s.takesWork(slot)
		for _, name := range slot.Models {
			if i, known := at[name]; known {
				out[i].has(slot, able)
			}
		}
	}
	for _, load := range s.Capacity.Loads {
		if i, known := at[load.Model]; known {
			out[i].Loads = append(out[i].Loads, load)
		}
	}
	for i := range out {
		out[i].Loaded = s.Capacity.LoadedOn(out[i].Name)
	}
	return out
}

// has notes that a slot's generator has the model.
func (m *Model) has(slot *wire.Slot, able bool) {
	m.Slots = append(m.Slots, slot.Device)
	if !slices.Contains(m.Backends, slot.Backend) {
		m.Backends = append(m.Backends, slot.Backend)
	}
	if able {
		m.Able = append(m.Able, slot.Device)
	}
}

// takesWork says whether a slot can be given an image now, or as soon as it is ready with another.
func (s State) takesWork(slot *wire.Slot) bool {
	if slot.Problem != "" || slot.Paused {
		return false
	}
	phase := s.Steered(slot.Device).Phase
	return phase == wire.PhaseActive || phase == ""
}

func sameModel(a, b model.Model) bool { return reflect.DeepEqual(a, b) }

// SameLibrary says whether two libraries differ in no more than what is painted: how far downloads are, and the free space.
func SameLibrary(a, b *model.Library) bool {
	if a == nil || b == nil {
		return a == b
	}
	same := func(a, b model.Install) bool {
		a.Bytes, a.Speed, b.Bytes, b.Speed = 0, 0, 0, 0
		if a.Device != nil && b.Device != nil && *a.Device == *b.Device {
			a.Device, b.Device = nil, nil
		}
		return a == b
	}
	return a.Dir == b.Dir && a.Problem == b.Problem && slices.EqualFunc(a.Models, b.Models, sameModel) && slices.EqualFunc(a.Installs, b.Installs, same)
}
