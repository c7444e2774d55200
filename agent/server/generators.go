package server

import (
	"net/http"

	"muster/shared/wire"
)

// generators answers GET /api/v1/generators: the programs that make images here, those that can't take work included.
func (s *Server) generators(w http.ResponseWriter, r *http.Request) error {
	list := s.capacity(r.Context()).Generators
	if list == nil {
		list = []wire.Generator{}
	}
	writeJSON(w, http.StatusOK, generatorList{list})
	return nil
}

type generatorList struct {
	Generators []wire.Generator `json:"generators"`
}
