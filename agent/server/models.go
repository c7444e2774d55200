package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// errNoLibrary is what routes of models meet in an agent without a models folder.
var errNoLibrary = &refusal{status: http.StatusServiceUnavailable, code: "no_library", message: "this agent has no models folder"}

// library gives the library; the error says that there is none.
func (s *Server) library() (*models.Library, error) {
	if s.config.Library == nil {
		return nil, errNoLibrary
	}
	return s.config.Library, nil
}

// listModels answers GET /api/v1/models: the files of the library and what generators have besides.
func (s *Server) listModels(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	var library model.Library
	if s.config.Library != nil {
		library = s.config.Library.Library()
	}
	var devices []gpu.Device
	if inventory := s.awaitInventory(r.Context()); inventory != nil {
		devices = inventory.Devices
	}
	writeJSON(w, http.StatusOK, offersOf(library, s.capacity(r.Context()), devices))
	return nil
}

// offersOf is pure: the answer follows from what is there.
func offersOf(library model.Library, capacity wire.Capacity, devices []gpu.Device) model.Offers {
	offers := model.Offers{Dir: library.Dir, FreeBytes: library.FreeBytes, Problem: library.Problem, Models: []model.Offer{}}
	known := map[string]bool{}
	for _, m := range library.Models {
		known[m.Name] = true
		offers.Models = append(offers.Models, offerOf(m, true, capacity, devices))
	}
	for _, m := range capacity.Models {
		if !known[m.Name] {
			offers.Models = append(offers.Models, offerOf(model.Model{Name: m.Name, Title: m.Title, Family: m.Family, Bytes: m.Bytes, Problem: awayWords(capacity, m)}, false, capacity, devices))
		}
	}
	return offers
}

// awayWords say why nothing has a model now; "" when something has.
func awayWords(capacity wire.Capacity, m wire.Model) string {
	for _, g := range capacity.Generators {
		if m.Away != "" && g.ID == m.Away {
			return "its generator is away: " + g.Problem
		}
	}
	return ""
}

func offerOf(m model.Model, inLibrary bool, capacity wire.Capacity, devices []gpu.Device) model.Offer {
	offer := model.Offer{Model: m, Generators: []string{}, LoadedOn: []gpu.Ref{}, Fits: []model.DeviceFit{}, InLibrary: inLibrary}
	for _, slot := range capacity.Slots {
		if slices.Contains(slot.Models, m.Name) && !slices.Contains(offer.Generators, slot.Backend) {
			offer.Generators = append(offer.Generators, slot.Backend)
		}
	}
	offer.LoadedOn = append(offer.LoadedOn, capacity.LoadedOn(m.Name)...)
	if m.VRAMBytes > 0 {
		offer.Fits = model.FitsOf(m.VRAMBytes, devices)
		offer.FitWords = model.FitWords(offer.Fits)
	}
	return offer
}

// recommendModels answers GET /api/v1/models/recommendations.
func (s *Server) recommendModels(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	inventory := s.awaitInventory(r.Context())
	if inventory == nil {
		return errNotMeasured
	}
	var library model.Library
	if s.config.Library != nil {
		library = s.config.Library.Library()
	}
	writeJSON(w, http.StatusOK, model.Recommendations{Recommendations: models.Recommend(inventory.Devices, library)})
	return nil
}

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

// removeModel answers DELETE /api/v1/models/{name}.
func (s *Server) removeModel(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	name := r.PathValue("name")
	if err := s.remove(r.Context(), name); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Name    string `json:"name"`
		Removed bool   `json:"removed"`
	}{name, true})
	return nil
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

// Loading a model.
const (
	loadPatience = 20 * time.Second // that an answer is kept back for it
	loadTimeout  = 30 * time.Minute
)

var errNoLoader = &refusal{status: http.StatusServiceUnavailable, code: "no_loader", message: "no generator of this agent can load a model ahead: it is loaded with the first image that asks for it"}

// loadModel answers POST /api/v1/models/{name}/load: 200 when it is loaded, 202 when that takes longer and goes on.
func (s *Server) loadModel(w http.ResponseWriter, r *http.Request, name string) error {
	var ask struct {
		DeviceID *gpu.Ref `json:"device_id"`
	}
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
	answer := struct {
		Name   string  `json:"name"`
		Device gpu.Ref `json:"device_id"`
		Loaded bool    `json:"loaded"`
	}{Name: name, Device: *ask.DeviceID}
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
