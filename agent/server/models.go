package server

import (
	"net/http"
	"slices"

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
	offers := model.Offers{Dir: library.Dir, FreeBytes: library.FreeBytes, Problem: library.Problem, Models: []model.Offer{}, Loads: capacity.Loads}
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
