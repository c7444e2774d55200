package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"muster/shared/gpu"
)

// Loading a model.
const (
	loadPatience = 20 * time.Second // that an answer is kept back for it
	loadTimeout  = 30 * time.Minute
)

var errNoLoader = &refusal{status: http.StatusServiceUnavailable, code: "no_loader", message: "no generator of this agent can load a model ahead: it is loaded with the first image that asks for it"}

// loadAsk is the body of POST /api/v1/models/{name}/load.
type loadAsk struct {
	DeviceID *gpu.Ref `json:"device_id"`
}

// loading is its answer.
type loading struct {
	Name   string  `json:"name"`
	Device gpu.Ref `json:"device_id"`
	Loaded bool    `json:"loaded"` // false: it goes on
}

// loadModel answers POST /api/v1/models/{name}/load: 200 when it is loaded, 202 when that takes longer and goes on.
func (s *Server) loadModel(w http.ResponseWriter, r *http.Request, name string) error {
	var ask loadAsk
	if err := decodeBody(w, r, &ask); err != nil {
		return err
	}
	if ask.DeviceID == nil {
		return invalid("device_id", "is missing: say where to load it")
	}
	if err := s.loadable(r.Context(), ask.DeviceID); err != nil {
		return err
	}
	slot, ok := slotOf(s.capacity(r.Context()), *ask.DeviceID)
	if !ok || !slices.Contains(slot.Models, name) {
		return &refusal{status: http.StatusNotFound, code: "not_found", message: ask.DeviceID.Label() + " has no generator with a model " + cut(name) + ": muster models lists what each has"}
	}
	if s.config.LoadModel == nil {
		return errNoLoader
	}
	done := make(chan error, 1)
	go func() { done <- s.loadFor(name, *ask.DeviceID) }()
	answer := loading{Name: name, Device: *ask.DeviceID}
	select {
	case err := <-done:
		if err != nil {
			return &refusal{status: http.StatusConflict, code: "not_loaded", message: name + " was not loaded on " + ask.DeviceID.Label() + ": " + err.Error()}
		}
		answer.Loaded = true
		writeJSON(w, http.StatusOK, answer)
	case <-time.After(loadPatience):
		writeJSON(w, http.StatusAccepted, answer)
	case <-r.Context().Done():
		return r.Context().Err()
	}
	return nil
}

// loadable refuses a device that is not there. nil is no device.
func (s *Server) loadable(ctx context.Context, device *gpu.Ref) error {
	if device == nil {
		return nil
	}
	inventory := s.awaitInventory(ctx)
	if inventory == nil {
		return errNotMeasured
	}
	if _, ok := inventory.Device(*device); !ok {
		return invalid("device_id", "there is no device %s to load it on", device)
	}
	return nil
}

// loadFor loads a model, whether or not somebody still waits for it, until the agent stops.
func (s *Server) loadFor(name string, device gpu.Ref) error {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.config.LoadModel(ctx, name, device)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Warn("a model was not loaded", "model", name, "device", device.String(), "error", err)
	}
	return err
}
