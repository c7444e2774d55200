package main

import (
	"errors"
	"slices"
	"sync/atomic"

	"muster/agent/backend"
	"muster/agent/models"
)

// shelf is where generators find model files: in the agent's library once it is open, else (in muster doctor) in the folder itself.
type shelf struct {
	dir     string
	library atomic.Pointer[opened]
}

// opened is what the shelf needs of the agent's library.
type opened struct {
	usable func() []models.Model
	barred func(name string) bool
}

// open makes the library the one that counts.
func (s *shelf) open(usable func() []models.Model, barred func(name string) bool) {
	s.library.Store(&opened{usable, barred})
}

// enabled leaves out the models that somebody has disabled, and files that are none: a generator's own copy of such a file is not used
// either.
func (s *shelf) enabled(all []backend.Model) []backend.Model {
	l := s.library.Load()
	if l == nil {
		return all
	}
	return slices.DeleteFunc(all, func(m backend.Model) bool { return l.barred(m.Name) })
}

// list is every model that can be used now.
func (s *shelf) list() []models.Model {
	if l := s.library.Load(); l != nil {
		return l.usable()
	}
	found, _ := models.Look(s.dir) // a folder that can't be read holds none
	return found
}

// complete gives the models that are whole, or whose further files are there, and that sd-server can read: what it can be started with.
func (s *shelf) complete() []backend.Model {
	var complete []backend.Model
	for _, m := range s.list() {
		if m.Scaled || m.Partial && len(m.Parts) == 0 {
			continue
		}
		one := backend.Model{Name: m.Name, Title: m.Title, Family: m.Family, Path: m.Path, Bytes: m.Bytes, VRAMBytes: m.VRAMBytes}
		for _, part := range m.Parts {
			one.Parts = append(one.Parts, backend.Part{Kind: part.Part, Path: part.Path, Bytes: part.Bytes})
		}
		complete = append(complete, one)
	}
	return complete
}

// errNoModel is the problem of a device whose generator has no model.
var errNoModel = errors.New("no model yet: install one with muster models install, or put a .safetensors or .gguf file into the models folder")
