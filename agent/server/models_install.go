package server

import (
	"context"
	"net/http"

	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/model"
)

// listInstalls answers GET /api/v1/models/installs.
func (s *Server) listInstalls(w http.ResponseWriter, r *http.Request) error {
	library, err := s.library()
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, model.Installs{Installs: library.Library().Installs})
	return nil
}

// installAsk is the body of POST /api/v1/models/install.
type installAsk struct {
	URL      string   `json:"url"`
	Repo     string   `json:"repo"`
	File     string   `json:"file"`
	Revision string   `json:"revision"`
	Name     string   `json:"name"`
	SHA256   string   `json:"sha256"`
	Device   *gpu.Ref `json:"device_id"`
}

// installModel answers POST /api/v1/models/install: 202 when it is durable; progress is told by the list and on the socket.
func (s *Server) installModel(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	var ask installAsk
	if err := decodeBody(w, r, &ask); err != nil {
		return err
	}
	install, err := s.install(r.Context(), models.Request(ask))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, install)
	return nil
}

func (s *Server) install(ctx context.Context, q models.Request) (model.Install, error) {
	library, err := s.library()
	if err != nil {
		return model.Install{}, err
	}
	if err := s.loadable(ctx, q.Device); err != nil {
		return model.Install{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return library.Install(ctx, q)
}

// againInstall answers POST /api/v1/models/installs/{id}/again.
func (s *Server) againInstall(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	library, err := s.library()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	install, err := library.Again(ctx, r.PathValue("id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, install)
	return nil
}

// stopInstall answers DELETE /api/v1/models/installs/{id}.
func (s *Server) stopInstall(w http.ResponseWriter, r *http.Request) error {
	if r.PathValue("name") != "installs" {
		return notFound(w, r)
	}
	library, err := s.library()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	install, err := library.Stop(ctx, r.PathValue("action"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, install)
	return nil
}
