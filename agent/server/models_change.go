package server

import (
	"context"
	"net/http"
	"strings"

	"muster/shared/gpu"
)

// removeModel answers DELETE /api/v1/models/{name}.
func (s *Server) removeModel(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	name := r.PathValue("name")
	if err := s.remove(r.Context(), name); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, removedModel{name, true})
	return nil
}

type removedModel struct {
	Name    string `json:"name"`
	Removed bool   `json:"removed"`
}

func (s *Server) remove(ctx context.Context, name string) error {
	library, err := s.library()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return library.Remove(ctx, name)
}

// changeModel answers POST /api/v1/models/{name}/enable, disable and load.
func (s *Server) changeModel(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	name, action := r.PathValue("name"), r.PathValue("action")
	switch action {
	case "enable", "disable":
		body, err := readBody(w, r)
		if err == nil && len(strings.TrimSpace(string(body))) > 0 {
			err = decodeJSON(body, &struct{}{})
		}
		if err == nil {
			err = s.enable(r.Context(), name, action == "enable")
		}
		if err != nil {
			return err
		}
		return s.showModel(w, r, name)
	case "load":
		return s.loadModel(w, r, name)
	}
	return notFound(w, r)
}

func (s *Server) enable(ctx context.Context, name string, enabled bool) error {
	library, err := s.library()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return library.Enable(ctx, name, enabled)
}

// showModel answers with one model as it is now.
func (s *Server) showModel(w http.ResponseWriter, r *http.Request, name string) error {
	var devices []gpu.Device
	if inventory := s.config.Inventory(); inventory != nil {
		devices = inventory.Devices
	}
	for _, m := range s.config.Library.Library().Models {
		if m.Name == name {
			writeJSON(w, http.StatusOK, offerOf(m, true, s.capacity(r.Context()), devices))
			return nil
		}
	}
	return &refusal{status: http.StatusNotFound, code: "not_found", message: "the model is gone: its file was removed meanwhile"}
}
