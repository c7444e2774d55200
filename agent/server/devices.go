package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"muster/shared/gpu"
)

// errNotMeasured answers for the instant between the agent's start and the first look at the devices.
var errNotMeasured = &refusal{status: http.StatusServiceUnavailable, code: "not_measured", message: "the devices are being looked at for the first time: ask again in a second", retry: time.Second}

// healthz answers GET /healthz: the agent is alive.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// readyz answers GET /readyz: the agent can take work.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if s.config.Ready != nil {
		if err := s.config.Ready(); err != nil {
			return &refusal{status: http.StatusServiceUnavailable, code: "not_ready", message: err.Error(), retry: 5 * time.Second}
		}
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

// snapshot answers GET /api/v1/snapshot.
func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) error {
	s.awaitInventory(r.Context())
	snapshot := s.config.Snapshot()
	if snapshot == nil {
		return errNotMeasured
	}
	writeJSON(w, http.StatusOK, snapshot)
	return nil
}

// inventory answers GET /api/v1/inventory.
func (s *Server) inventory(w http.ResponseWriter, r *http.Request) error {
	inventory := s.awaitInventory(r.Context())
	if inventory == nil {
		return errNotMeasured
	}
	writeJSON(w, http.StatusOK, inventory)
	return nil
}

// loads gives the load of every device. Before the first look at them that is an error: none would say that there are none.
func (s *Server) loads(ctx context.Context) ([]float64, error) {
	s.awaitInventory(ctx)
	snapshot := s.config.Snapshot()
	if snapshot == nil {
		return nil, errNotMeasured
	}
	return snapshot.Loads(), nil
}

// leastLoaded answers GET /api/v1/devices/least-loaded; null when there is no device.
func (s *Server) leastLoaded(w http.ResponseWriter, r *http.Request) error {
	loads, err := s.loads(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, leastLoaded{gpu.LeastLoaded(loads)})
	return nil
}

type leastLoaded struct {
	DeviceID *gpu.Ref `json:"device_id"`
}

type byLoad struct {
	DeviceIDs []gpu.Ref `json:"device_ids"`
}

// byLoad answers GET /api/v1/devices/by-load.
func (s *Server) byLoad(w http.ResponseWriter, r *http.Request) error {
	loads, err := s.loads(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, byLoad{gpu.OrderByLoad(loads)})
	return nil
}

// parseRef reads a device_id of a path or query.
func parseRef(text string) (gpu.Ref, error) {
	if text == "cpu" {
		return gpu.CPU, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, invalid("device_id", `is %q; allowed are a whole number from 0, and cpu`, cut(text))
	}
	return gpu.Ref(n), nil
}
