package server

import (
	"net/http"
	"time"

	"muster/shared/gpu"
)

// report gives the newest report; nil before the first.
func (s *Server) report() *gpu.Report {
	if s.config.Report == nil {
		return nil
	}
	return s.config.Report()
}

// details answers GET /api/v1/details: processes, links, faults and what else is asked less often than once a tick. Its revision
// says to which inventory it belongs.
func (s *Server) details(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	report := s.report()
	if report == nil {
		return &refusal{status: http.StatusServiceUnavailable, code: "not_measured", message: "the devices have not been asked for details yet: ask again in some seconds", retry: 5 * time.Second}
	}
	writeJSON(w, http.StatusOK, report)
	return nil
}
